"""What both of OpenAI's routes take; null is as good as absent, as in OpenAI's reference."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field

from runtime.errors import InvalidRequest
from runtime.http.options import HttpOptions
from runtime.parameters import LARGEST, LONGEST_STOP, MOST_TOKENS
from runtime.runtime import GenerateRequest, SamplingParameters


def _listed(given: object) -> object:
    if given is not None and not isinstance(given, str | list):
        raise ValueError("send a text or a list of texts")
    return [given] if isinstance(given, str) else given


StopText = Annotated[str, Field(min_length=1, max_length=LONGEST_STOP)]
# One type after validation: an error of a union would be told once for each of its members.
Stops = Annotated[
    list[StopText] | None, BeforeValidator(_listed, json_schema_input_type=StopText | list[StopText] | None)
]
TokenCount = Annotated[int, Field(ge=1, le=MOST_TOKENS)]
Penalty = Annotated[float, Field(ge=-2, le=2)]


class StreamOptions(BaseModel):
    """What a stream tells besides."""

    include_usage: bool | None = Field(default=None, description="Tell the usage in a last chunk without choices.")


class CompletionFields(BaseModel):
    """How to generate."""

    # The bound also makes the text valid Unicode, which an answer that repeats it must be.
    model: str | None = Field(default=None, max_length=1024, description="Repeated in the answer: one model is served.")
    n: int | None = Field(default=None, ge=1, description="Replies to the same prompt.")
    max_tokens: TokenCount | None = Field(default=None, description="Tokens to generate.")
    temperature: float | None = Field(
        default=None, ge=0, description="0 is greedy; 1 when absent.", json_schema_extra={"maximum": LARGEST}
    )
    top_p: float | None = Field(default=None, ge=0, le=1, description="Probability mass kept.")
    frequency_penalty: Penalty | None = Field(default=None, description="0 is neutral.")
    presence_penalty: Penalty | None = Field(default=None, description="0 is neutral.")
    seed: int | None = Field(
        default=None, ge=-(2**63), lt=2**64, description="Source of all randomness; drawn when absent."
    )
    stop: Stops = Field(default=None, description="Texts that end the reply, which does not hold them.")
    stream: bool | None = Field(default=None, description="Answer as server-sent events.")
    stream_options: StreamOptions | None = None
    logit_bias: dict[str, Any] | None = Field(
        default=None, description="Must be empty: not served.", json_schema_extra={"maxProperties": 0}
    )

    receipt: bool | None = Field(default=None, description="Tell how the reply came about; for one reply.")

    def sampling(self) -> SamplingParameters:
        """Return how the next token is chosen."""
        temperature = 1.0 if self.temperature is None else self.temperature
        greedy = temperature == 0
        return SamplingParameters(
            do_sample=not greedy,
            temperature=1.0 if greedy else temperature,
            top_p=1.0 if greedy or self.top_p is None else self.top_p,
            frequency_penalty=self.frequency_penalty or 0.0,
            presence_penalty=self.presence_penalty or 0.0,
            seed=None if self.seed is None else self.seed % 2**64,
        )

    def check(self) -> None:
        """Raise InvalidRequest for what is not served."""
        if self.logit_bias:
            raise InvalidRequest("`logit_bias` is not served; leave it out")

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a chunk that tells the usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def each(self, prompts: Sequence[GenerateRequest], options: HttpOptions) -> list[GenerateRequest]:
        """Return each prompt `n` times; the first with the seed that was given, the others with seeds made of it."""
        n = self.n or 1
        if len(prompts) * n > options.max_client_batch_size:
            raise InvalidRequest(
                f"the request asks for {len(prompts) * n} replies, prompts times `n`, and at most"
                f" {options.max_client_batch_size} are served; the operator's limit is --max-client-batch-size"
            )
        if self.receipt and len(prompts) * n > 1:
            raise InvalidRequest(f"`receipt` is of one reply, and {len(prompts) * n} are asked for; ask for one")
        return [_seeded(prompt, choice) for prompt in prompts for choice in range(n)]


def _seeded(request: GenerateRequest, choice: int) -> GenerateRequest:
    seed = request.sampling.seed
    if seed is None or choice == 0:
        return request
    digest = hashlib.blake2b(struct.pack("<QQ", seed, choice), digest_size=8).digest()
    return replace(request, sampling=replace(request.sampling, seed=int.from_bytes(digest, "little")))
