"""TGI's routes: /generate, /generate_stream, /health, /info."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from runtime.errors import InvalidRequest, RuntimeServiceError
from runtime.http import sse
from runtime.http.errors import error_body
from runtime.http.replies import started_reply, whole_reply
from runtime.prompt.markdown import split_markdown
from runtime.runtime import (
    Completion,
    Delta,
    GenerateRequest,
    Readiness,
    Runtime,
    SamplingParameters,
    StoppingParameters,
    Token,
)

NOT_SERVED: Final[dict[str, tuple[object, ...]]] = {
    # TGI parameter: the values that ask for nothing.
    "best_of": (None, 1),
    "repetition_penalty": (None, 1),
    "frequency_penalty": (None, 0),
    "typical_p": (None, 1),
    "return_full_text": (None, False),
    "truncate": (None,),
    "watermark": (None, False),
    "decoder_input_details": (None, False),
    "top_n_tokens": (None, 0),
    "grammar": (None,),
    "adapter_id": (None,),
}


class GenerateParameters(BaseModel):
    """How to generate; absent values are neutral."""

    model_config = ConfigDict(extra="allow")

    do_sample: bool = False
    temperature: float | None = Field(default=None, description="Above 0.", examples=[0.5])
    top_k: int | None = Field(default=None, description="Candidates kept, above 0.", examples=[10])
    top_p: float | None = Field(
        default=None, description="Probability mass kept, above 0 and at most 1.", examples=[0.95]
    )
    seed: int | None = Field(default=None, description="Source of all randomness; drawn when absent.")
    max_new_tokens: int | None = Field(default=100, description="Tokens to generate; null fills the context.")
    stop: list[str] = Field(default_factory=list, description="Texts that end the reply; the reply keeps them.")
    details: bool = Field(default=False, description="Tell the tokens and why the reply ended.")


class GenerateBody(BaseModel):
    """A prompt, with pictures as `![](data:image/png;base64,...)`."""

    inputs: str = Field(examples=["![](data:image/png;base64,...)What is this a picture of?\n\n"])
    # TGI samples when `parameters` is missing, and is greedy when it is there without do_sample.
    parameters: GenerateParameters = Field(default_factory=lambda: GenerateParameters(do_sample=True))

    def request(self) -> GenerateRequest:
        """Return what is asked for; InvalidRequest names a parameter that is not served."""
        given = self.parameters
        for name, neutral in NOT_SERVED.items():
            if (given.model_extra or {}).get(name) not in neutral:
                raise InvalidRequest(f"`{name}` is not served yet; leave it out")
        if given.top_k == 0:
            raise InvalidRequest("`top_k` must be above 0; leave it out to keep all candidates")
        return GenerateRequest(
            parts=split_markdown(self.inputs),
            sampling=SamplingParameters(
                do_sample=given.do_sample,
                temperature=1.0 if given.temperature is None else given.temperature,
                top_k=given.top_k or 0,
                top_p=1.0 if given.top_p is None else given.top_p,
                seed=given.seed,
            ),
            stopping=StoppingParameters(given.max_new_tokens, tuple(given.stop)),
        )


def routes(runtime: Runtime) -> APIRouter:
    """Return the routes over a runtime."""
    router = APIRouter(tags=["Text Generation Inference"])

    @router.post("/generate")
    async def generate(body: GenerateBody, request: Request) -> JSONResponse:
        """Generate a whole reply."""
        reply = await whole_reply(runtime, body.request(), request)
        answer: dict[str, Any] = {"generated_text": reply.completion.text}
        if body.parameters.details:
            tokens = [_token(token) for token in reply.tokens]
            answer["details"] = {**_details(reply.completion), "prefill": [], "tokens": tokens}
        return JSONResponse(answer)

    @router.post("/generate_stream")
    async def generate_stream(body: GenerateBody, request: Request) -> Response:
        """Generate a reply as server-sent events, one for each token."""
        reply = await started_reply(runtime, body.request(), request)
        return sse.EventStream(reply, _frames(reply, body.parameters.details))

    @router.get("/health")
    async def health() -> Response:
        """Answer 200 when requests are served now, 503 otherwise."""
        try:
            state = await runtime.health()
        except RuntimeServiceError:
            state = None
        if state is not None and state.readiness is Readiness.READY:
            return Response(status_code=200)
        return JSONResponse({"error": "unhealthy", "error_type": "healthcheck"}, 503)

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
                "max_input_tokens": facts.max_input_tokens,
                "max_input_length": facts.max_input_tokens,
                "max_total_tokens": facts.max_total_tokens,
                "max_batch_size": facts.max_batch_size,
                "router": "vlm-runtime",
                "version": facts.version,
                "backend": facts.backend,
                "backend_version": facts.backend_version,
                "contract": facts.contract,
                "details": dict(facts.details),
            }
        )

    return router


async def _frames(deltas: AsyncIterator[Delta], with_details: bool) -> AsyncGenerator[bytes, None]:
    index = 0
    try:
        async for delta in deltas:
            for token in delta.tokens:
                index += 1
                last = delta.completion if token is delta.tokens[-1] else None
                yield sse.event(_stream_event(index, token, last, with_details))
    except RuntimeServiceError as error:  # the status is sent: all that is left is an event
        yield sse.event(error_body(error))


def _stream_event(index: int, token: Token, completion: Completion | None, with_details: bool) -> dict[str, Any]:
    details = None
    if completion is not None and with_details:
        details = {**_details(completion), "input_length": completion.prompt_tokens}
    return {
        "index": index,
        "token": _token(token),
        "generated_text": None if completion is None else completion.text,
        "details": details,
    }


def _token(token: Token) -> dict[str, Any]:
    return {"id": token.id, "text": token.text, "logprob": token.logprob, "special": token.special}


def _details(completion: Completion) -> dict[str, Any]:
    return {
        "finish_reason": completion.finish_reason.value,
        "generated_tokens": completion.generated_tokens,
        "seed": completion.seed,
    }
