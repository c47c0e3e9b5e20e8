"""JSON of a request, back to text."""

from __future__ import annotations

import json

from runtime.errors import InvalidRequest


def json_text(value: object) -> str:
    """Return a value as JSON text; InvalidRequest when it nests too deeply to be written."""
    try:
        return json.dumps(value, allow_nan=False)
    except (RecursionError, ValueError):
        raise InvalidRequest("a JSON object nests too deeply, or holds a number that is none; simplify it") from None
