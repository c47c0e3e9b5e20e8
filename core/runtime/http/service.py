"""What operators and probes ask: health, facts, metrics."""

from __future__ import annotations

import math
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from runtime.errors import RuntimeServiceError
from runtime.http.error_bodies import ErrorBody
from runtime.http.options import HttpOptions
from runtime.runtime import Health, Readiness, Runtime


def routes(runtime: Runtime, options: HttpOptions) -> APIRouter:
    """Return the routes over a runtime."""
    router = APIRouter(tags=["Service"])
    unhealthy: dict[int | str, dict[str, Any]] = {503: {"model": ErrorBody, "description": "Not now."}}

    @router.get("/", include_in_schema=False)
    @router.get("/ping", responses=unhealthy, response_class=Response)
    @router.get("/health", responses=unhealthy, response_class=Response)
    @router.get("/readyz", responses=unhealthy, response_class=Response)
    async def health() -> Response:
        """Answer 200 when requests are served now, 503 otherwise, with the reason."""
        try:
            state = await runtime.health()
        except RuntimeServiceError:
            return _unhealthy(Health(Readiness.FAILED))
        return Response(status_code=200) if state.readiness is Readiness.READY else _unhealthy(state)

    @router.get("/livez", response_class=Response)
    async def livez() -> Response:
        """Answer 200 while this process answers at all, whatever the model does: for who would start it again."""
        return Response(status_code=200)

    @router.get("/metrics", responses={200: {"content": {"text/plain": {}}}}, response_class=Response)
    async def metrics() -> Response:
        """Tell the worker's metrics in Prometheus' text format."""
        return Response(await runtime.metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @router.get("/info")
    async def info() -> JSONResponse:
        """Tell what is served."""
        facts = await runtime.info()
        return JSONResponse(
            {
                "model_id": facts.model_id,
                "model_sha": facts.model_digest,
                "model_dtype": facts.dtype,
                "model_device_type": facts.device,
                "model_architecture": facts.architecture,
                "model_pipeline_tag": "image-text-to-text" if facts.vision else "text-generation",
                "max_concurrent_requests": facts.max_concurrent_requests,
                "max_best_of": options.max_best_of,
                "max_stop_sequences": options.max_stop_sequences,
                "max_input_tokens": facts.max_input_tokens,
                "max_input_length": facts.max_input_tokens,
                "max_total_tokens": facts.max_total_tokens,
                "max_batch_size": facts.max_batch_size,
                "max_client_batch_size": options.max_client_batch_size,
                "max_batch_prefill_tokens": facts.max_batch_prefill_tokens,
                "max_batch_total_tokens": facts.max_batch_total_tokens,
                "waiting_served_ratio": facts.waiting_served_ratio,
                "max_waiting_tokens": facts.max_waiting_tokens,
                "validation_workers": facts.validation_workers,
                "router": "vlm-runtime",
                "version": facts.version,
                "sha": None,
                "docker_label": None,
                "backend": facts.backend,
                "backend_version": facts.backend_version,
                "contract": facts.contract,
                "details": dict(facts.details),
            }
        )

    return router


def _unhealthy(state: Health) -> JSONResponse:
    """Return TGI's answer, with what is known in place of its one word."""
    headers = {} if state.seconds_left is None else {"retry-after": str(max(1, math.ceil(state.seconds_left)))}
    return JSONResponse({"error": state.message or "unhealthy", "error_type": "healthcheck"}, 503, headers)
