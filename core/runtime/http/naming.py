"""The fields of a request by the names that its route has for them.

Errors of core name fields in backticks, as TGI does (see `runtime.errors`). A route that names them otherwise says so
before it asks core; the names are kept with the request, for whoever writes the error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from starlette.requests import Request
from starlette.types import Scope

from runtime.errors import InvalidRequest, RuntimeServiceError

Names = Mapping[str, str]
"""The route's name of a field, by TGI's; a field that is not there has the same name."""
_FIELD: Final = re.compile(r"`([a-z][a-z0-9_.]*)`")


def name_fields(request: Request, names: Names) -> None:
    """Let errors of this request use these names."""
    request.state.names = names


def names_of(scope: Scope) -> Names:
    """Return the names of a request's fields."""
    names: Names = scope.get("state", {}).get("names", {})
    return names


def renamed(text: str, names: Names) -> str:
    """Return the text with the route's names in place of TGI's."""
    return _FIELD.sub(lambda field: f"`{names.get(field[1], field[1])}`", text)


def field_at_fault(error: RuntimeServiceError, names: Names) -> str | None:
    """Return the field that an error is about, by the route's name; None when it is about no field."""
    named = _FIELD.search(error.message) if isinstance(error, InvalidRequest) else None
    field = named[1] if named else error.field
    return None if field is None else names.get(field, field)
