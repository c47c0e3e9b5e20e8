"""What is asked."""

from __future__ import annotations

from collections.abc import Iterable

from runtime.errors import InvalidRequest
from runtime.parameters import check_ranges
from runtime.prompt.markdown import split_markdown
from runtime.runtime import (
    GenerateRequest,
    Grammar,
    GrammarKind,
    ImagePart,
    ImageUrlPart,
    Message,
    Part,
    Resumption,
    SamplingParameters,
    StoppingParameters,
    TextPart,
    TokensPart,
)
from runtime.v1 import messages_pb2

GRAMMAR_KINDS = {
    GrammarKind.JSON_SCHEMA: messages_pb2.GRAMMAR_TYPE_JSON,
    GrammarKind.REGEX: messages_pb2.GRAMMAR_TYPE_REGEX,
}
MOST_OF_AN_ID = 2**32 - 1


def request_from(message: messages_pb2.Request) -> GenerateRequest:
    """Read a prompt: `messages` or `input_chunks`, else `inputs` with markdown pictures."""
    turns = tuple(Message(turn.role, _parts_from(turn.chunks)) for turn in message.messages)
    chunks = _parts_from(message.input_chunks.chunks)
    return GenerateRequest(
        parts=chunks if chunks or turns else split_markdown(message.inputs),
        messages=turns,
        sampling=_sampling_from(message.parameters),
        stopping=_stopping_from(message.stopping_parameters),
        add_special_tokens=message.add_special_tokens if message.HasField("add_special_tokens") else True,
        truncate=message.truncate or None,
        grammar=_grammar_from(message.parameters),
        top_n_tokens=message.top_n_tokens,
        prompt_logprobs=message.prefill_logprobs,
        receipt=message.receipt,
        resumption=_resumption_from(message.resumption) if message.HasField("resumption") else None,
    )


def request_message(request: GenerateRequest, request_id: int = 0) -> messages_pb2.Request:
    """Make the message that `request_from` reads back; raises InvalidRequest for what a message cannot hold."""
    check_ranges(request)
    if request.truncate is not None and not 1 <= request.truncate <= MOST_OF_AN_ID:
        raise InvalidRequest(f"`truncate` must be from 1 to 2**32 - 1, got {request.truncate}")
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
            typical_p=sampling.typical_p,
            seed=sampling.seed,
            repetition_penalty=sampling.repetition_penalty,
            watermark=sampling.watermark,
            frequency_penalty=sampling.frequency_share,
            grammar="" if request.grammar is None else request.grammar.value,
            grammar_type=None if request.grammar is None else GRAMMAR_KINDS[request.grammar.kind],
            presence_penalty=sampling.presence_penalty,
            openai_frequency_penalty=sampling.frequency_penalty,
        ),
        stopping_parameters=messages_pb2.StoppingCriteriaParameters(
            max_new_tokens=stopping.max_new_tokens,
            stop_sequences=stopping.stop,
            ignore_eos_token=stopping.ignore_eos,
        ),
        add_special_tokens=request.add_special_tokens,
        truncate=request.truncate,
        prefill_logprobs=request.prompt_logprobs,
        receipt=request.receipt,
        top_n_tokens=request.top_n_tokens,
        resumption=None if request.resumption is None else _resumption_message(request.resumption),
    )


def _resumption_from(message: messages_pb2.Resumption) -> Resumption:
    return Resumption(tuple(message.tokens), message.prompt_digest)


def _resumption_message(resumption: Resumption) -> messages_pb2.Resumption:
    return messages_pb2.Resumption(tokens=resumption.tokens, prompt_digest=resumption.prompt_digest)


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
            for id in ids:
                if not 0 <= id <= MOST_OF_AN_ID:
                    raise InvalidRequest(f"token id {id} is outside of any vocabulary")
            return messages_pb2.InputChunk(tokens=messages_pb2.TokenIds(ids=ids))


def _sampling_from(message: messages_pb2.NextTokenChooserParameters) -> SamplingParameters:
    return SamplingParameters(
        do_sample=message.do_sample,
        temperature=message.temperature or 1.0,
        top_k=message.top_k,
        top_p=message.top_p or 1.0,
        typical_p=message.typical_p or 1.0,
        repetition_penalty=message.repetition_penalty or 1.0,
        frequency_penalty=message.openai_frequency_penalty,
        presence_penalty=message.presence_penalty,
        frequency_share=message.frequency_penalty,
        watermark=message.watermark,
        seed=message.seed if message.HasField("seed") else None,
    )


def _grammar_from(message: messages_pb2.NextTokenChooserParameters) -> Grammar | None:
    if not message.grammar:
        return None
    kinds = {number: kind for kind, number in GRAMMAR_KINDS.items()}
    if message.grammar_type not in kinds:
        raise InvalidRequest("`grammar_type` must be GRAMMAR_TYPE_JSON or GRAMMAR_TYPE_REGEX when there is a `grammar`")
    return Grammar(kinds[message.grammar_type], message.grammar)


def _stopping_from(message: messages_pb2.StoppingCriteriaParameters) -> StoppingParameters:
    return StoppingParameters(
        max_new_tokens=message.max_new_tokens or None,
        stop=tuple(message.stop_sequences),
        ignore_eos=message.ignore_eos_token,
    )
