"""What the route /v1/completions takes and answers."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, Field

from runtime.errors import InvalidRequest
from runtime.http.naming import Names
from runtime.http.openai.schema import CompletionFields
from runtime.http.options import HttpOptions
from runtime.prompt.markdown import split_markdown
from runtime.runtime import GenerateRequest, StoppingParameters, TokensPart

DEFAULT_TOKENS: Final = 100
"""Tokens generated when nothing is said, as in TGI."""
NAMES: Final[Names] = {
    "inputs": "prompt",
    "max_new_tokens": "max_tokens",
    "top_n_tokens": "logprobs",
    "decoder_input_details": "echo",
}
"""What fields of TGI are called here."""
FORMS: Final = "send a text, a list of texts, a list of token ids or a list of such lists"


def _prompts(given: object) -> object:
    """Return a list of texts and lists of token ids, whatever was given."""
    if isinstance(given, str) or _is_ids(given):
        given = [given]
    if not isinstance(given, list) or not given:
        raise ValueError(FORMS)
    if not all(isinstance(prompt, str) or _is_ids(prompt) for prompt in given):
        raise ValueError(FORMS)
    return [prompt if isinstance(prompt, str) else tuple(map(int, prompt)) for prompt in given]


def _is_ids(given: object) -> bool:
    return isinstance(given, list) and bool(given) and all(map(_is_id, given))


def _is_id(given: object) -> bool:
    # To JSON 5.0 is a whole number too. True is one to Python and to nobody else.
    return type(given) is int or (type(given) is float and given.is_integer())


Text = Annotated[str, Field(min_length=1)]
Ids = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
Several = Annotated[list[Text], Field(min_length=1)] | Annotated[list[Ids], Field(min_length=1)]
Prompts = Annotated[list[Any], BeforeValidator(_prompts, json_schema_input_type=Text | Ids | Several)]


class CompletionsBody(CompletionFields):
    """Prompts to continue, with pictures as `![](data:image/png;base64,...)`."""

    prompt: Prompts = Field(description="One prompt or several, as texts or as token ids.", examples=["Once upon"])
    echo: bool | None = Field(default=None, description="Put the prompt before the reply.")
    logprobs: int | None = Field(default=None, ge=0, le=5, description="Candidates to tell with each token.")
    suffix: str | None = Field(
        default=None, description="Must be empty: not served.", json_schema_extra={"maxLength": 0}
    )
    best_of: int | None = Field(default=None, description="Must be absent or `n`: every reply that is drawn is told.")

    def requests(self, options: HttpOptions) -> list[GenerateRequest]:
        """Return what is asked for, `n` requests for each prompt."""
        self.check()
        if self.suffix:
            raise InvalidRequest("`suffix` is not served; leave it out")
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise InvalidRequest(f"`best_of` must be absent or equal `n`, got {self.best_of}")
        if not all(self.prompt):
            raise InvalidRequest("`prompt` must not be empty")
        return self.each([self._request(prompt) for prompt in self.prompt], options)

    def _request(self, prompt: str | tuple[int, ...]) -> GenerateRequest:
        max_tokens = DEFAULT_TOKENS if self.max_tokens is None else self.max_tokens
        return GenerateRequest(
            parts=split_markdown(prompt) if isinstance(prompt, str) else (TokensPart(prompt),),
            sampling=self.sampling(),
            stopping=StoppingParameters(max_tokens, tuple(self.stop or ())),
            top_n_tokens=self.logprobs or 0,
            prompt_logprobs=bool(self.echo) and self.logprobs is not None,
            receipt=bool(self.receipt),
        )


class PromptTokensDetails(BaseModel):
    """What the prompts cost; each has `cached_tokens + bucket - padding` tokens."""

    cached_tokens: int = Field(description="Left computed by an earlier prompt that begins alike.")
    image_tokens: int
    image_tiles: int = Field(description="Squares the vision tower sees.")
    bucket: int | None = Field(description="Tokens computed, padding included. Null: not known.")
    padding: int | None


class Usage(BaseModel):
    """Tokens of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class TextLogprobs(BaseModel):
    """Log-probabilities of a completion's tokens."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class TextChoice(BaseModel):
    """A reply to one of the prompts."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Literal["stop", "length"] | None


class TextCompletion(BaseModel):
    """Replies to prompts."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[TextChoice]
    usage: Usage
    receipt: dict[str, Any] | None = Field(default=None, description="How it came about; absent unless asked for.")
