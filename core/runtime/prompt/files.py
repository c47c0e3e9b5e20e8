"""The small text files of a model folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from runtime.errors import ModelRefused


def read_text(folder: Path, name: str) -> str | None:
    """Return the file's text, None when there is none; raises ModelRefused when it cannot be read."""
    try:
        return (folder / name).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError):
        raise ModelRefused(f"{name} of the model cannot be read as UTF-8 text; restore the file") from None


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Return the file's object, empty when there is no file; raises ModelRefused when it holds anything else."""
    text = read_text(folder, name)
    if text is None:
        return {}
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise ModelRefused(f"{name} of the model is not a JSON object; restore the file")
    return content
