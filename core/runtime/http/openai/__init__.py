"""The routes of OpenAI's API."""

from __future__ import annotations

from fastapi import APIRouter

from runtime.http.error_bodies import OPENAI_PREFIX, OpenAIErrorBody, documented
from runtime.http.openai import chat, completions, models
from runtime.http.replies import Replies


def routes(replies: Replies) -> APIRouter:
    """Return the routes over a runtime."""
    router = APIRouter(prefix=OPENAI_PREFIX, tags=["OpenAI"], responses=documented(OpenAIErrorBody))
    router.include_router(chat.routes(replies))
    router.include_router(completions.routes(replies))
    router.include_router(models.routes(replies))
    return router
