"""The list of models, which has one."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from runtime.http.error_bodies import OpenAIErrorBody
from runtime.http.errors import UnknownModel
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
    """Return the routes over a runtime."""
    router = APIRouter()

    @router.get("/models")
    async def models() -> Models:
        """Tell the one model that is served."""
        name = (await replies.info()).model_id
        return Models(data=[Model(id=name, owned_by=name)])

    # The id of a hub model, or a folder, has slashes.
    @router.get("/models/{model:path}", responses={404: {"model": OpenAIErrorBody, "description": "It is not served."}})
    async def model(model: str) -> Model:
        """Tell the served model by its name."""
        name = (await replies.info()).model_id
        if model != name:
            raise UnknownModel(f"the model {model[:200]!r} is not served; {name!r} is")
        return Model(id=name, owned_by=name)

    return router
