"""The request that asks for a reply once more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from runtime.errors import InvalidRequest
from runtime.receipt import Receipt

ROUTES: Final = {"messages": "/v1/chat/completions", "prompt": "/v1/completions", "inputs": "/generate"}
"""The route of a body, by the field that only its bodies have."""
OF_STREAMS: Final = ("stream", "stream_options")


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """What to post, and where."""

    route: str
    body: Mapping[str, Any]


def replay_request(original: Any, receipt: Receipt) -> ReplayRequest:
    """Return the original request with the seed of its receipt, not as a stream; InvalidRequest for another body."""
    fields = original if isinstance(original, Mapping) else {}
    route = next((route for field, route in ROUTES.items() if field in fields), None)
    if route is None:
        raise InvalidRequest("the request has no `messages`, `prompt` or `inputs`; give the body as it was posted")
    body = {name: value for name, value in fields.items() if name not in OF_STREAMS}
    wanted: dict[str, Any] = {"receipt": True}
    if receipt.seed is not None:
        wanted["seed"] = receipt.seed
    if "inputs" not in body:
        return ReplayRequest(route, {**body, **wanted})
    given = body.get("parameters", {"do_sample": True})  # as the route does, which is greedy for empty parameters
    if not isinstance(given, Mapping):
        raise InvalidRequest("`parameters` of the request is no object")
    one_of_them = {name: value for name, value in given.items() if name != "best_of"}
    return ReplayRequest(route, {**body, "parameters": {**one_of_them, **wanted}})
