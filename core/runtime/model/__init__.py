"""Models: found on the machine or on the hub, read and checked before any weight is loaded."""

from runtime.model.finding import FoundModel, find_configs, find_model
from runtime.model.reader import read_model

__all__ = ["FoundModel", "find_configs", "find_model", "read_model"]
