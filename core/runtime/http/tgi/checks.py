"""Whether the parameters of a request can be served; the first that cannot, in TGI's order, is named.

What depends on the prompt's tokens is checked by the worker, which counts them.
"""

from __future__ import annotations

from typing import Final

from runtime.errors import InvalidRequest
from runtime.http.options import HttpOptions
from runtime.http.tgi.schema import GenerateBody, GenerateParameters

MOST_OF_A_SEED: Final = 2**64 - 1


def check(body: GenerateBody, options: HttpOptions, stream: bool) -> None:
    """Raise InvalidRequest for the first parameter that cannot be served."""
    given = body.parameters
    if given.adapter_id is not None:
        raise InvalidRequest("`adapter_id`: this server has no adapters; leave it out")
    if stream:
        _check_stream(given)
    _check_best_of(given, options)
    _check_sampling(given)
    if given.max_new_tokens is not None and given.max_new_tokens < 1:
        raise InvalidRequest(f"`max_new_tokens` must be above 0, got {given.max_new_tokens}")
    if len(given.stop) > options.max_stop_sequences:
        raise InvalidRequest(
            f"`stop` supports up to {options.max_stop_sequences} texts, got {len(given.stop)};"
            " the operator's limit is --max-stop-sequences"
        )
    _check_seed(given)
    most = options.max_top_n_tokens
    if given.top_n_tokens is not None and not 0 <= given.top_n_tokens <= most:
        raise InvalidRequest(f"`top_n_tokens` must be from 0 to {most}, got {given.top_n_tokens}")
    if not body.inputs:
        raise InvalidRequest("`inputs` must not be empty")


def check_truncate(given: int, max_input_tokens: int) -> None:
    """Raise InvalidRequest unless a prompt of that many tokens is served."""
    if not 1 <= given <= max_input_tokens:
        raise InvalidRequest(f"`truncate` must be above 0 and at most {max_input_tokens}, got {given}")


def _check_stream(given: GenerateParameters) -> None:
    if given.best_of not in (None, 1):
        raise InvalidRequest(f"`best_of` must be 1 for a stream, got {given.best_of}")
    if given.decoder_input_details:
        raise InvalidRequest("`decoder_input_details` must be false for a stream")


def _check_best_of(given: GenerateParameters, options: HttpOptions) -> None:
    if given.best_of is None:
        return
    if not 1 <= given.best_of <= options.max_best_of:
        raise InvalidRequest(
            f"`best_of` must be above 0 and at most {options.max_best_of}, got {given.best_of};"
            " the operator's limit is --max-best-of"
        )
    if given.best_of > 1 and not given.sampling().draws:
        raise InvalidRequest(f"`best_of` above 1 needs sampling, got {given.best_of}; set `do_sample`")


def _check_sampling(given: GenerateParameters) -> None:
    # Written so that what is not a number fails too.
    for name, value in (("temperature", given.temperature), ("repetition_penalty", given.repetition_penalty)):
        if value is not None and not value > 0:
            raise InvalidRequest(f"`{name}` must be above 0, got {value}")
    if given.frequency_penalty is not None and not -2 <= given.frequency_penalty <= 2:
        raise InvalidRequest(f"`frequency_penalty` must be from -2 to 2, got {given.frequency_penalty}")
    for name, value in (("top_p", given.top_p), ("typical_p", given.typical_p)):
        if value is not None and not 0 < value < 1:
            raise InvalidRequest(f"`{name}` must be above 0 and below 1, got {value}; leave it out to keep all")
    if given.top_k is not None and given.top_k < 1:
        raise InvalidRequest(f"`top_k` must be above 0, got {given.top_k}; leave it out to keep all candidates")


def _check_seed(given: GenerateParameters) -> None:
    if given.seed is None:
        return
    if given.best_of is not None and given.best_of > 1:
        raise InvalidRequest(f"`seed` must be absent when `best_of` is above 1, got {given.best_of}")
    if not 0 <= given.seed <= MOST_OF_A_SEED:
        raise InvalidRequest(f"`seed` must be from 0 to 2**64 - 1, got {given.seed}")
