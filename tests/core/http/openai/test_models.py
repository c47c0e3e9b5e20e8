"""The list of models."""

from __future__ import annotations

import pytest
from support.asgi import client
from support.scripted import ScriptedRuntime

pytestmark = pytest.mark.anyio

DEMO = {"id": "demo", "object": "model", "created": 0, "owned_by": "demo"}


async def test_list() -> None:
    """One model is served."""
    async with client(ScriptedRuntime()) as http:
        assert (await http.get("/v1/models")).json() == {"object": "list", "data": [DEMO]}


async def test_by_name() -> None:
    """The served model is told, also by a name with slashes; another is not found."""
    async with client(ScriptedRuntime()) as http:
        assert (await http.get("/v1/models/demo")).json() == DEMO
        refused = await http.get("/v1/models/org/name")
    assert refused.status_code == 404
    assert refused.json()["error"] == {
        "message": "the model 'org/name' is not served; 'demo' is",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }
