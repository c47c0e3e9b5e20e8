"""Protobuf messages <-> the dataclasses of `runtime.runtime`; the only module that knows both.

`*_from` functions read a message, `*_message` functions make one. Reading raises InvalidRequest naming the field.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from runtime.backend import DecodeShape, PrefillShape, WarmupProgress
from runtime.errors import InvalidRequest
from runtime.parameters import check_ranges
from runtime.prompt.markdown import split_markdown
from runtime.runtime import (
    CachedBatch,
    Completion,
    Delta,
    FinishReason,
    GenerateRequest,
    Health,
    ImagePart,
    ImageUrlPart,
    Info,
    Message,
    Part,
    Readiness,
    SamplingParameters,
    StoppingParameters,
    TextPart,
    Token,
    TokensPart,
)
from runtime.v1 import backend_pb2, messages_pb2

FINISH_REASONS = {
    FinishReason.LENGTH: messages_pb2.FINISH_REASON_LENGTH,
    FinishReason.EOS_TOKEN: messages_pb2.FINISH_REASON_EOS_TOKEN,
    FinishReason.STOP_SEQUENCE: messages_pb2.FINISH_REASON_STOP_SEQUENCE,
}
READINESS = {
    Readiness.LOADING: backend_pb2.HealthResponse.READINESS_LOADING,
    Readiness.READY: backend_pb2.HealthResponse.READINESS_READY,
    Readiness.FAILED: backend_pb2.HealthResponse.READINESS_FAILED,
}
NOT_SERVED = {
    # Field: the values that ask for nothing.
    "typical_p": (0, 1),
    "repetition_penalty": (0, 1),
    "frequency_penalty": (0,),
    "watermark": (False,),
    "grammar": ("",),
}


def request_from(message: messages_pb2.Request) -> GenerateRequest:
    """Read a prompt: `messages` or `input_chunks`, else `inputs` with markdown pictures."""
    for name in ("truncate", "prefill_logprobs", "top_n_tokens"):
        if getattr(message, name):
            raise InvalidRequest(f"`{name}` is not served yet; leave it out")
    turns = tuple(Message(turn.role, _parts_from(turn.chunks)) for turn in message.messages)
    chunks = _parts_from(message.input_chunks.chunks)
    return GenerateRequest(
        parts=chunks if chunks or turns else split_markdown(message.inputs),
        messages=turns,
        sampling=_sampling_from(message.parameters),
        stopping=_stopping_from(message.stopping_parameters),
        add_special_tokens=message.add_special_tokens if message.HasField("add_special_tokens") else True,
    )


def request_message(request: GenerateRequest, request_id: int = 0) -> messages_pb2.Request:
    """Make the message that `request_from` reads back; raises InvalidRequest for what a message cannot hold."""
    check_ranges(request)
    try:
        return _request_message(request, request_id)
    except UnicodeEncodeError:
        raise InvalidRequest("a text holds half of a surrogate pair; send whole Unicode characters") from None


def _request_message(request: GenerateRequest, request_id: int) -> messages_pb2.Request:
    sampling, stopping = request.sampling, request.stopping
    return messages_pb2.Request(
        id=request_id,
        input_chunks=messages_pb2.Input(chunks=map(_chunk_message, request.parts)),
        messages=[
            messages_pb2.Message(role=turn.role, chunks=map(_chunk_message, turn.parts)) for turn in request.messages
        ],
        parameters=messages_pb2.NextTokenChooserParameters(
            do_sample=sampling.do_sample,
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            seed=sampling.seed,
        ),
        stopping_parameters=messages_pb2.StoppingCriteriaParameters(
            max_new_tokens=stopping.max_new_tokens,
            stop_sequences=stopping.stop,
            ignore_eos_token=stopping.ignore_eos,
        ),
        add_special_tokens=request.add_special_tokens,
    )


def _parts_from(chunks: Iterable[messages_pb2.InputChunk]) -> tuple[Part, ...]:
    return tuple(map(_part_from, chunks))


def _part_from(chunk: messages_pb2.InputChunk) -> Part:
    match chunk.WhichOneof("chunk"):
        case "text":
            return TextPart(chunk.text)
        case "image":
            return ImagePart(chunk.image.data)
        case "image_url":
            return ImageUrlPart(chunk.image_url)
        case "tokens":
            return TokensPart(tuple(chunk.tokens.ids))
    raise InvalidRequest("a chunk of the prompt is empty: give it text, image, image_url or tokens")


def _chunk_message(part: Part) -> messages_pb2.InputChunk:
    match part:
        case TextPart(text):
            return messages_pb2.InputChunk(text=text)
        case ImagePart(data):
            return messages_pb2.InputChunk(image=messages_pb2.Image(data=data))
        case ImageUrlPart(url):
            return messages_pb2.InputChunk(image_url=url)
        case TokensPart(ids):
            return messages_pb2.InputChunk(tokens=messages_pb2.TokenIds(ids=ids))


def _sampling_from(message: messages_pb2.NextTokenChooserParameters) -> SamplingParameters:
    for name, neutral in NOT_SERVED.items():
        if getattr(message, name) not in neutral:
            raise InvalidRequest(f"`{name}` is not served yet; leave it out")
    return SamplingParameters(
        do_sample=message.do_sample,
        temperature=message.temperature or 1.0,
        top_k=message.top_k,
        top_p=message.top_p or 1.0,
        seed=message.seed if message.HasField("seed") else None,
    )


def _stopping_from(message: messages_pb2.StoppingCriteriaParameters) -> StoppingParameters:
    return StoppingParameters(
        max_new_tokens=message.max_new_tokens or None,
        stop=tuple(message.stop_sequences),
        ignore_eos=message.ignore_eos_token,
    )


def delta_from(message: messages_pb2.Delta) -> Delta:
    """Read new tokens."""
    tokens = message.tokens
    return Delta(
        tuple(map(Token, tokens.ids, tokens.texts, tokens.logprobs, tokens.is_special)),
        _completion_from(message.generated_text) if message.HasField("generated_text") else None,
    )


def delta_message(delta: Delta, request_id: int = 0) -> messages_pb2.Delta:
    """Make the message of new tokens."""
    return messages_pb2.Delta(
        request_id=request_id,
        tokens=messages_pb2.Tokens(
            ids=[token.id for token in delta.tokens],
            logprobs=[token.logprob for token in delta.tokens],
            texts=[token.text for token in delta.tokens],
            is_special=[token.special for token in delta.tokens],
        ),
        generated_text=None if delta.completion is None else _completion_message(delta.completion),
    )


def _completion_from(message: messages_pb2.GeneratedText) -> Completion:
    reasons = {number: reason for reason, number in FINISH_REASONS.items()}
    return Completion(
        text=message.text,
        finish_reason=reasons[message.finish_reason],
        generated_tokens=message.generated_tokens,
        prompt_tokens=message.prompt_tokens,
        seed=message.seed if message.HasField("seed") else None,
    )


def _completion_message(completion: Completion) -> messages_pb2.GeneratedText:
    return messages_pb2.GeneratedText(
        text=completion.text,
        finish_reason=FINISH_REASONS[completion.finish_reason],
        generated_tokens=completion.generated_tokens,
        prompt_tokens=completion.prompt_tokens,
        seed=completion.seed,
    )


def batch_from(message: messages_pb2.CachedBatch) -> CachedBatch:
    """Read a leased batch."""
    return CachedBatch(message.id, tuple(message.request_ids), message.max_tokens)


def batch_message(batch: CachedBatch) -> messages_pb2.CachedBatch:
    """Make the message of a leased batch."""
    size = len(batch.request_ids)
    return messages_pb2.CachedBatch(id=batch.id, request_ids=batch.request_ids, size=size, max_tokens=batch.max_tokens)


def batch_ids(messages: Sequence[messages_pb2.CachedBatch]) -> list[int]:
    """Read the ids of batches, all that a caller need give of them."""
    return [message.id for message in messages]


def info_from(message: messages_pb2.InfoResponse) -> Info:
    """Read the facts about what is served."""
    return Info(
        model_id=message.model_id,
        model_digest=message.model_digest,
        architecture=message.architecture,
        dtype=message.dtype,
        backend=message.backend,
        backend_version=message.backend_version,
        contract=message.contract,
        device=message.device_type,
        version=message.version,
        max_input_tokens=message.max_input_tokens,
        max_total_tokens=message.max_total_tokens,
        max_batch_size=message.max_batch_size,
        max_concurrent_requests=message.max_concurrent_requests,
        vision=message.vision,
        details=dict(message.details),
    )


def info_message(info: Info) -> messages_pb2.InfoResponse:
    """Make the message of what is served."""
    return messages_pb2.InfoResponse(
        dtype=info.dtype,
        device_type=info.device,
        model_id=info.model_id,
        model_digest=info.model_digest,
        architecture=info.architecture,
        backend=info.backend,
        backend_version=info.backend_version,
        contract=info.contract,
        version=info.version,
        max_input_tokens=info.max_input_tokens,
        max_total_tokens=info.max_total_tokens,
        max_batch_size=info.max_batch_size,
        max_concurrent_requests=info.max_concurrent_requests,
        vision=info.vision,
        details=info.details,
    )


def health_from(message: backend_pb2.HealthResponse) -> Health:
    """Read the state of a worker."""
    states = {number: state for state, number in READINESS.items()}
    return Health(states[message.readiness], message.message)


def health_message(health: Health) -> backend_pb2.HealthResponse:
    """Make the message of a worker's state."""
    return backend_pb2.HealthResponse(readiness=READINESS[health.readiness], message=health.message)


def progress_from(message: backend_pb2.WarmupResponse) -> WarmupProgress:
    """Read one warmed shape."""
    shape: PrefillShape | DecodeShape
    if message.WhichOneof("shape") == "prefill":
        shape = PrefillShape(message.prefill.rows, message.prefill.length, message.prefill.tiles)
    else:
        shape = DecodeShape(message.decode.rows, message.decode.context)
    return WarmupProgress(message.done, message.total, shape, message.seconds)


def progress_message(progress: WarmupProgress) -> backend_pb2.WarmupResponse:
    """Make the message of one warmed shape."""
    message = backend_pb2.WarmupResponse(done=progress.done, total=progress.total, seconds=progress.seconds)
    match progress.shape:
        case PrefillShape(rows, length, tiles):
            message.prefill.CopyFrom(backend_pb2.PrefillShape(rows=rows, length=length, tiles=tiles))
        case DecodeShape(rows, context):
            message.decode.CopyFrom(backend_pb2.DecodeShape(rows=rows, context=context))
    return message
