"""Model folders: read and checked before any weight is loaded."""

from runtime.model.reader import read_model

__all__ = ["read_model"]
