"""The routes of OpenAI's API."""

from __future__ import annotations

from fastapi import APIRouter

from runtime.http.openai import chat, completions, models
from runtime.http.replies import Replies


def routes(replies: Replies) -> APIRouter:
    """Return the routes over a runtime."""
    router = APIRouter(prefix="/v1", tags=["OpenAI"])
    router.include_router(chat.routes(replies))
    router.include_router(completions.routes(replies))
    router.include_router(models.routes(replies))
    return router
