"""Whether the parameters of a request can be served; the first that cannot is named."""

from __future__ import annotations

from runtime.errors import InvalidRequest
from runtime.runtime import GenerateRequest, SamplingParameters, StoppingParameters

LONGEST_STOP = 256
"""Characters of a stop text; each token is searched for every stop text."""
MOST_CANDIDATES = 20
"""Candidates told with each token; OpenAI's limit of `top_logprobs`."""
MOST_TOKENS = 2**31 - 1
"""Of `max_new_tokens`."""
MOST_TOP_K = 2**31 - 1
LEAST_REPETITION, MOST_REPETITION = 1e-3, 1e3
"""Of `repetition_penalty`; beyond these, scores overflow."""
SMALLEST, LARGEST = 2.0**-126, 2.0**127
"""What a 32-bit float of a message holds: anything less is sent as 0, which means absent there."""


def check_parameters(request: GenerateRequest, max_stop_sequences: int) -> None:
    """Raise InvalidRequest for the first parameter out of range."""
    check_ranges(request)
    given = len(request.stopping.stop)
    if given > max_stop_sequences:
        raise InvalidRequest(
            f"`stop` supports up to {max_stop_sequences} texts, got {given};"
            " the operator's limit is --max-stop-sequences"
        )


def check_ranges(request: GenerateRequest) -> None:
    """Check what does not depend on the server, so that a request that passes can be sent as a message."""
    _check_sampling(request.sampling)
    _check_stopping(request.stopping)
    if not 0 <= request.top_n_tokens <= MOST_CANDIDATES:
        raise InvalidRequest(f"`top_n_tokens` must be from 0 to {MOST_CANDIDATES}, got {request.top_n_tokens}")


def _check_sampling(sampling: SamplingParameters) -> None:
    if not SMALLEST <= sampling.temperature <= LARGEST:
        raise InvalidRequest(f"`temperature` must be above 0 and fit a 32-bit float, got {sampling.temperature}")
    if not SMALLEST <= sampling.top_p <= 1:
        raise InvalidRequest(f"`top_p` must be above 0 and at most 1, got {sampling.top_p}")
    if not SMALLEST <= sampling.typical_p <= 1:
        raise InvalidRequest(f"`typical_p` must be above 0 and at most 1, got {sampling.typical_p}")
    if not 0 <= sampling.top_k <= MOST_TOP_K:
        raise InvalidRequest(f"`top_k` must be from 0 to 2**31 - 1, got {sampling.top_k}")
    if sampling.seed is not None and not 0 <= sampling.seed < 2**64:
        raise InvalidRequest(f"`seed` must be from 0 to 2**64 - 1, got {sampling.seed}")
    _check_penalties(sampling)


def _check_penalties(sampling: SamplingParameters) -> None:
    """Ranges are those of OpenAI and TGI, but for repetition, which TGI lets overflow the scores."""
    if not LEAST_REPETITION <= sampling.repetition_penalty <= MOST_REPETITION:
        raise InvalidRequest(f"`repetition_penalty` must be from 0.001 to 1000, got {sampling.repetition_penalty}")
    if not -2 <= sampling.presence_penalty <= 2:
        raise InvalidRequest(f"`presence_penalty` must be from -2 to 2, got {sampling.presence_penalty}")
    for penalty in (sampling.frequency_penalty, sampling.frequency_share):
        if not -2 <= penalty <= 2:
            raise InvalidRequest(f"`frequency_penalty` must be from -2 to 2, got {penalty}")


def _check_stopping(stopping: StoppingParameters) -> None:
    if stopping.max_new_tokens is not None and not 1 <= stopping.max_new_tokens <= MOST_TOKENS:
        raise InvalidRequest(f"`max_new_tokens` must be from 1 to 2**31 - 1, got {stopping.max_new_tokens}")
    if not all(0 < len(stop) <= LONGEST_STOP for stop in stopping.stop):
        raise InvalidRequest(f"each text of `stop` must have 1 to {LONGEST_STOP} characters")
