"""The list of models, which has one."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from runtime.http.replies import Replies


class Model(BaseModel):
    """A served model."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(default=0, description="Always 0.")
    owned_by: str


class Models(BaseModel):
    """The served models."""

    object: Literal["list"] = "list"
    data: list[Model]


def routes(replies: Replies) -> APIRouter:
    """Return the route over a runtime."""
    router = APIRouter()

    @router.get("/models")
    async def models() -> Models:
        """Tell the one model that is served."""
        name = (await replies.info()).model_id
        return Models(data=[Model(id=name, owned_by=name)])

    return router
