"""Response headers that tell what a reply cost, with TGI's names, and what a prompt would."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from runtime.http.options import HttpOptions
from runtime.http.replies import Reply
from runtime.runtime import GenerateRequest, ImageUrlPart, Info, Part, TextPart, Tokenization

PROMPT_HEADERS: Final[dict[str, Any]] = {
    name: {"description": description, "schema": {"type": "integer"}}
    for name, description in {
        "x-prompt-tokens": "Tokens of the prompt.",
        "x-image-tokens": "Those of pictures.",
        "x-image-tiles": "Squares the vision tower sees.",
        "x-prompt-bucket": "Tokens computed, padding included; absent before the model serves.",
        "x-prompt-padding": "Tokens of the bucket that are not the prompt's.",
    }.items()
}
"""For the documentation of a route that answers `prompt_headers`."""


def stream_headers(requests: Sequence[GenerateRequest], info: Info, options: HttpOptions) -> dict[str, str]:
    """Return what is known before a reply: the kind of device, and the characters of the prompts."""
    return {
        "x-compute-type": options.compute_type or info.device,
        "x-compute-characters": str(sum(map(_characters, requests))),
    }


def whole_headers(
    requests: Sequence[GenerateRequest], replies: Sequence[Reply], prompt_tokens: int, info: Info, options: HttpOptions
) -> dict[str, str]:
    """Return all of TGI's headers. Tokens are of all replies; times, in whole milliseconds, are of the slowest."""
    headers = {
        **stream_headers(requests, info, options),
        "x-prompt-tokens": str(prompt_tokens),
        "x-generated-tokens": str(sum(reply.completion.generated_tokens for reply in replies)),
    }
    timed = [
        (reply.completion.timings, reply.completion.generated_tokens)
        for reply in replies
        if reply.completion.timings is not None
    ]
    if timed:
        timings, generated = max(timed, key=lambda pair: pair[0].total)
        headers |= {
            "x-compute-time": str(timings.total),
            "x-total-time": _milliseconds(timings.total),
            "x-validation-time": _milliseconds(timings.validation),
            "x-queue-time": _milliseconds(timings.queue),
            "x-inference-time": _milliseconds(timings.inference),
            "x-time-per-token": _milliseconds(timings.inference / max(1, generated)),
        }
    return headers


def prompt_headers(tokenization: Tokenization) -> dict[str, str]:
    """Return what a prompt would cost, as far as it is known."""
    cost = tokenization.cost
    told = {
        "x-prompt-tokens": len(tokenization.tokens),
        "x-image-tokens": cost.image_tokens,
        "x-image-tiles": cost.image_tiles,
        "x-prompt-bucket": cost.bucket,
        "x-prompt-padding": cost.padding,
    }
    return {name: str(count) for name, count in told.items() if count is not None}


def _characters(request: GenerateRequest) -> int:
    """Count a prompt's characters, those of picture addresses included."""
    parts = [*request.parts, *(part for message in request.messages for part in message.parts)]
    return sum(map(_length, parts))


def _length(part: Part) -> int:
    if isinstance(part, TextPart):
        return len(part.text)
    # A picture counts as TGI writes it into a prompt.
    return len(f"![]({part.url})") if isinstance(part, ImageUrlPart) else 0


def _milliseconds(seconds: float) -> str:
    return str(int(seconds * 1000))
