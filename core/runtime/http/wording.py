"""What is wrong with a field of a body, in our own words: its path, the rule and the value.

The kinds of problems and their facts are pydantic's (its documentation, "Validation Errors"); its texts are not told.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from runtime.errors import InvalidRequest
from runtime.http.errors import MalformedBody

LONGEST_VALUE: Final = 60
"""Characters told of a value at most."""
_NUMBER: Final = "must be a number"
_WHOLE: Final = "must be a whole number"
_TRUTH: Final = "must be true or false"
_OBJECT: Final = "must be an object"
RULES: Final = {
    "bool_parsing": _TRUTH,
    "bool_type": _TRUTH,
    "dict_type": _OBJECT,
    "float_parsing": _NUMBER,
    "float_type": _NUMBER,
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "int_from_float": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": "must be a smaller whole number",
    "int_type": _WHOLE,
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "list_type": "must be a list",
    "literal_error": "must be {expected}",
    "model_attributes_type": _OBJECT,
    "model_type": _OBJECT,
    "string_pattern_mismatch": "must match {pattern}",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must have {min_length} or more characters",
    "string_type": "must be a text",
    "string_unicode": "must be a text of whole Unicode characters",
    "too_long": "must have at most {max_length} items",
    "too_short": "must have {min_length} or more items",
    "union_tag_invalid": "must have one of {expected_tags} as its `type`",
    "union_tag_not_found": "needs a `type`",
}
UNIONS: Final = frozenset({"content", "grammar", "instances", "response_format"})
"""Fields that take several kinds of objects: in a path, the kind follows the field and is no name of the client's."""


class MissingField(InvalidRequest):
    """A field that must be there is not."""

    openai_code = "missing_required_parameter"


def refusal(problem: Mapping[str, Any]) -> InvalidRequest:
    """Return the error to tell for one of pydantic's problems with a body."""
    kind = problem["type"]
    path = _path(problem["loc"][1:])
    if kind == "json_invalid":
        return MalformedBody(f"the body is not valid JSON: it goes wrong at character {problem['loc'][-1]}")
    if not path:
        return InvalidRequest("the body must be a JSON object, sent as `Content-Type: application/json`")
    if kind == "missing":
        return MissingField(f"`{path}` is required and missing")
    if kind == "value_error":  # raised by our own validators
        return InvalidRequest(f"`{path}`: {problem['ctx']['error']}")
    facts = {name: _whole(fact) for name, fact in problem.get("ctx", {}).items()}
    rule = RULES.get(kind, "has a wrong value").format(**facts)
    return InvalidRequest(f"`{path}` {rule}, got {_shown(facts.get('tag', problem['input']))}")


def _path(steps: Sequence[str | int]) -> str:
    path: list[str | int] = []
    field: str | int = ""
    for step in steps:
        if isinstance(step, str) and field in UNIONS:
            field = ""  # the kind
            continue
        field = step if isinstance(step, str) else field
        path.append(step)
    return ".".join(map(str, path))


def _whole(fact: object) -> object:
    """Return a limit without a fraction of nothing: 1, not 1.0."""
    return int(fact) if isinstance(fact, float) and fact.is_integer() else fact


def _shown(value: object) -> str:
    """Return a value as its client wrote it, or its beginning, or what it is."""
    match value:
        case dict():
            return "an object"
        case list():
            return f"a list of {len(value)}"
        case None | bool() | int() | float() | str():
            written = json.dumps(value, ensure_ascii=False)
            return written if len(written) <= LONGEST_VALUE else f"{written[:LONGEST_VALUE]}..."
    return "something else"
