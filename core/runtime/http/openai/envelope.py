"""What surrounds the choices of an answer, whole or chunk."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Any, Final

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


def usage(completions: Sequence[Completion], n: int) -> dict[str, int]:
    """Count tokens; a prompt counts once for its `n` replies, which lie together."""
    prompt = sum(completion.prompt_tokens for completion in completions[::n])
    generated = sum(completion.generated_tokens for completion in completions)
    return {"prompt_tokens": prompt, "completion_tokens": generated, "total_tokens": prompt + generated}
