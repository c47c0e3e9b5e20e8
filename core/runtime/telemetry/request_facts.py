"""What the log tells of one request: numbers and names only, nothing that its sender wrote."""

from __future__ import annotations

import math
from dataclasses import fields

from runtime.runtime import GenerateRequest, SamplingParameters, Timings


def seconds_of(timings: Timings, generated_tokens: int) -> dict[str, float]:
    """Return the times by TGI's names; without a token there is no time per token."""
    told = {
        "total_time": timings.total,
        "validation_time": timings.validation,
        "queue_time": timings.queue,
        "inference_time": timings.inference,
    }
    if generated_tokens:
        told["time_per_token"] = timings.inference / generated_tokens
    return {name: round(seconds, 6) for name, seconds in told.items()}


def parameters_of(request: GenerateRequest) -> dict[str, float | str]:
    """Return the parameters that are not neutral, by TGI's names; of a text its kind, of texts their count.

    The seed is not among them: the one used is a fact of its own.
    """
    stopping, grammar = request.stopping, request.grammar
    told: dict[str, float | str | None] = {
        **_changed(request.sampling),
        "max_new_tokens": stopping.max_new_tokens,
        "stop": len(stopping.stop) or None,
        "ignore_eos": stopping.ignore_eos or None,
        "truncate": request.truncate,
        "grammar": None if grammar is None else grammar.kind.value,
        "top_n_tokens": request.top_n_tokens or None,
        "decoder_input_details": request.prompt_logprobs or None,
    }
    return {name: value for name, value in told.items() if value is not None}


def _changed(sampling: SamplingParameters) -> dict[str, float | str | None]:
    told = {each.name: getattr(sampling, each.name) for each in fields(sampling) if each.name != "seed"}
    neutral = SamplingParameters()
    return {name: _written(value) for name, value in told.items() if value != getattr(neutral, name)}


def _written(value: float) -> float | str:
    if not math.isfinite(value):
        return str(value)  # JSON has neither NaN nor infinity
    return float(f"{value:.6g}") if isinstance(value, float) else value  # 0.7 came over gRPC as 0.699999988
