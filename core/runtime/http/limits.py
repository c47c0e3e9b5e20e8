"""Limits of the operator, told in the documentation beside those that always hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI

from runtime.http.options import HttpOptions


class DocumentedApp(FastAPI):
    """An application whose documentation tells them."""

    def __init__(self, options: HttpOptions, **settings: Any) -> None:
        super().__init__(**settings)
        self._limits = _limits(options)

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        document = super().openapi()
        schemas = document["components"]["schemas"]
        for name, fields in self._limits.items():
            for field, limit in fields.items():
                schemas[name]["properties"][field] |= limit
        return document


def _limits(options: HttpOptions) -> Mapping[str, Mapping[str, dict[str, int]]]:
    replies = options.max_client_batch_size
    stops = {"maxItems": options.max_stop_sequences}
    of_tgi = {
        "best_of": {"maximum": options.max_best_of},
        "stop": stops,
        "top_n_tokens": {"maximum": options.max_top_n_tokens},
    }
    of_openai = {"n": {"maximum": replies}, "stop": stops}
    return {
        "GenerateParameters": of_tgi,
        "ChatBody": of_openai,
        "CompletionsBody": of_openai,
        "VertexBody": {"instances": {"maxItems": replies}},
    }
