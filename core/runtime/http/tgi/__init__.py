"""The routes of Text Generation Inference."""

from __future__ import annotations

from fastapi import APIRouter

from runtime.http.replies import Replies
from runtime.http.tgi import generation, tokens


def routes(replies: Replies) -> APIRouter:
    """Return the routes over a runtime."""
    router = APIRouter(tags=["Text Generation Inference"])
    router.include_router(generation.routes(replies))
    router.include_router(tokens.routes(replies))
    return router
