"""What TGI's routes take."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from runtime.http.grammar import JsonGrammar, RegexGrammar
from runtime.parameters import (
    LARGEST,
    LEAST_REPETITION,
    LONGEST_STOP,
    MOST_REPETITION,
    MOST_TOKENS,
    MOST_TOP_K,
    SMALLEST,
)
from runtime.prompt.markdown import split_markdown
from runtime.runtime import GenerateRequest, SamplingParameters, StoppingParameters


def within(**limits: float) -> Any:
    """Tell limits in the documentation; `checks` enforces them, in TGI's order and words."""
    return Field(json_schema_extra=dict(limits))


Prompt = Annotated[str, within(minLength=1)]
Count = Annotated[int, within(minimum=1)]
Temperature = Annotated[float, within(minimum=SMALLEST, maximum=LARGEST)]
Mass = Annotated[float, within(minimum=SMALLEST, exclusiveMaximum=1)]
Repetition = Annotated[float, within(minimum=LEAST_REPETITION, maximum=MOST_REPETITION)]
Penalty = Annotated[float, within(minimum=-2, maximum=2)]
TopK = Annotated[int, within(minimum=1, maximum=MOST_TOP_K)]
TokenCount = Annotated[int, within(minimum=1, maximum=MOST_TOKENS)]
StopText = Annotated[str, within(minLength=1, maxLength=LONGEST_STOP)]
Seed = Annotated[int, within(minimum=0, exclusiveMaximum=2**64)]
TopCount = Annotated[int, within(minimum=0)]


class GenerateParameters(BaseModel):
    """How to generate; null and absent are neutral."""

    best_of: Count | None = Field(default=None, description="Replies to draw; the most probable one is the answer.")
    temperature: Temperature | None = Field(default=None, description="1 is neutral.", examples=[0.5])
    repetition_penalty: Repetition | None = Field(default=None, description="1 is neutral.", examples=[1.03])
    frequency_penalty: Penalty | None = Field(default=None, description="0 is neutral.", examples=[0.1])
    top_k: TopK | None = Field(default=None, description="Candidates kept.", examples=[10])
    top_p: Mass | None = Field(default=None, description="Probability mass kept.", examples=[0.95])
    typical_p: Mass | None = Field(
        default=None, description="Mass of the most typical candidates kept.", examples=[0.95]
    )
    do_sample: bool = Field(
        default=False, description="Sample; the default is true when `parameters` is missing altogether."
    )
    max_new_tokens: TokenCount | None = Field(default=100, description="Tokens to generate; null fills the context.")
    return_full_text: bool | None = Field(default=None, description="Put the prompt before the reply.")
    stop: list[StopText] = Field(default_factory=list, description="Texts that end the reply; the reply keeps them.")
    truncate: Count | None = Field(default=None, description="Tokens of the prompt to keep, its last.")
    watermark: bool = Field(default=False, description="Mark the reply statistically.")
    details: bool = Field(default=False, description="Tell the tokens and why the reply ended.")
    decoder_input_details: bool = Field(default=False, description="Tell the prompt's tokens too; not for streams.")
    seed: Seed | None = Field(default=None, description="Source of all randomness; drawn when absent.")
    top_n_tokens: TopCount | None = Field(default=None, description="Most probable candidates to tell with each token.")
    grammar: Annotated[JsonGrammar | RegexGrammar, Field(discriminator="type")] | None = Field(
        default=None, description="A form the reply must have."
    )
    receipt: bool = Field(default=False, description="Tell how the reply came about; implies `details`.")
    adapter_id: str | None = Field(default=None, description="Must be absent: adapters are not served.")

    def sampling(self) -> SamplingParameters:
        """Return how the next token is chosen."""
        return SamplingParameters(
            do_sample=self.do_sample,
            temperature=1.0 if self.temperature is None else self.temperature,
            top_k=self.top_k or 0,
            top_p=1.0 if self.top_p is None else self.top_p,
            typical_p=1.0 if self.typical_p is None else self.typical_p,
            repetition_penalty=1.0 if self.repetition_penalty is None else self.repetition_penalty,
            frequency_share=self.frequency_penalty or 0.0,
            watermark=self.watermark,
            seed=self.seed,
        )


class GenerateBody(BaseModel):
    """A prompt, with pictures as `![](data:image/png;base64,...)`."""

    inputs: Prompt = Field(examples=["![](data:image/png;base64,...)What is this a picture of?\n\n"])
    # TGI samples when `parameters` is missing, and is greedy when it is there without do_sample.
    parameters: GenerateParameters = Field(default_factory=lambda: GenerateParameters(do_sample=True))

    def request(self) -> GenerateRequest:
        """Return what is asked for; `check` comes first."""
        given = self.parameters
        return GenerateRequest(
            parts=split_markdown(self.inputs),
            sampling=given.sampling(),
            stopping=StoppingParameters(given.max_new_tokens, tuple(given.stop)),
            truncate=given.truncate,
            grammar=None if given.grammar is None else given.grammar.grammar(),
            top_n_tokens=given.top_n_tokens or 0,
            prompt_logprobs=given.decoder_input_details,
            receipt=given.receipt,
        )


class CompatBody(GenerateBody):
    """A prompt for the route that answers whole or as a stream."""

    stream: bool = Field(default=False, description="Answer as server-sent events.")
