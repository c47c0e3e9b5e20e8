"""What surrounds the choices of an answer, whole or chunk."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Any, Final

from runtime.cost import PromptCost
from runtime.runtime import Completion, FinishReason, Info

FINISH_REASONS: Final = {
    FinishReason.LENGTH: "length",
    FinishReason.EOS_TOKEN: "stop",
    FinishReason.STOP_SEQUENCE: "stop",
}


def envelope(kind: str, model: str | None, info: Info, prefix: str) -> dict[str, Any]:
    """Return the fields that all chunks of one answer share; the model is repeated as it was asked for."""
    return {
        "id": f"{prefix}-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": model or info.model_id,
        "system_fingerprint": f"{info.version}-{info.backend}-{info.model_digest[:12]}",
    }


def usage(completions: Sequence[Completion], n: int) -> dict[str, Any]:
    """Count tokens; a prompt counts once for its `n` replies, which lie together, with the cost of the first."""
    prompts = completions[::n]
    prompt = sum(completion.prompt_tokens for completion in prompts)
    generated = sum(completion.generated_tokens for completion in completions)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
        "prompt_tokens_details": _details([completion.cost for completion in prompts]),
    }


def _details(costs: Sequence[PromptCost]) -> dict[str, int | None]:
    """Add costs up; the first field is OpenAI's, the others are ours."""
    return {
        "cached_tokens": sum(cost.cached_tokens for cost in costs),
        "image_tokens": sum(cost.image_tokens for cost in costs),
        "image_tiles": sum(cost.image_tiles for cost in costs),
        "bucket": _sum([cost.bucket for cost in costs]),
        "padding": _sum([cost.padding for cost in costs]),
    }


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
