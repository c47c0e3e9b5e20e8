"""Whether the parameters of a request can be served; the first that cannot is named."""

from __future__ import annotations

import math

from runtime.errors import InvalidRequest
from runtime.runtime import GenerateRequest, SamplingParameters, StoppingParameters

LONGEST_STOP = 256
"""Characters of a stop text; each token is searched for every stop text."""


def check_parameters(request: GenerateRequest, max_stop_sequences: int) -> None:
    """Raise InvalidRequest for the first parameter out of range."""
    _check_sampling(request.sampling)
    _check_stopping(request.stopping, max_stop_sequences)


def _check_sampling(sampling: SamplingParameters) -> None:
    if not (math.isfinite(sampling.temperature) and sampling.temperature > 0):
        raise InvalidRequest(f"`temperature` must be above 0, got {sampling.temperature}")
    if not 0 < sampling.top_p <= 1:
        raise InvalidRequest(f"`top_p` must be above 0 and at most 1, got {sampling.top_p}")
    if not 0 <= sampling.top_k < 2**31:
        raise InvalidRequest(f"`top_k` must be 0 or more, got {sampling.top_k}")
    if sampling.seed is not None and not 0 <= sampling.seed < 2**64:
        raise InvalidRequest(f"`seed` must be from 0 to 2**64 - 1, got {sampling.seed}")


def _check_stopping(stopping: StoppingParameters, max_stop_sequences: int) -> None:
    if stopping.max_new_tokens is not None and stopping.max_new_tokens < 1:
        raise InvalidRequest(f"`max_new_tokens` must be 1 or more, got {stopping.max_new_tokens}")
    if len(stopping.stop) > max_stop_sequences:
        raise InvalidRequest(f"`stop` supports up to {max_stop_sequences} texts, got {len(stopping.stop)}")
    if not all(0 < len(stop) <= LONGEST_STOP for stop in stopping.stop):
        raise InvalidRequest(f"each text of `stop` must have 1 to {LONGEST_STOP} characters")
