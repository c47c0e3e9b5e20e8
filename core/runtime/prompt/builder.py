"""A request to what a backend computes: token ids and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runtime.backend import Images, ModelSpec
from runtime.errors import ContextExceeded, InvalidRequest, ModelRefused, TemplateError
from runtime.geometry import base_count, feature_count
from runtime.intake.cut import CutPicture
from runtime.intake.limits import IntakeLimits
from runtime.prompt.chat import ChatTemplate
from runtime.prompt.images import cut_here, join_images
from runtime.prompt.tokenizer import Tokenizer
from runtime.runtime import GenerateRequest, ImagePart, ImageUrlPart, Part, TextPart, TokensPart
from runtime.telemetry.pictures import PictureCost


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as token ids."""

    tokens: tuple[int, ...]
    """The image token stands once for each feature of each picture."""
    images: Images | None
    pictures: tuple[PictureCost, ...] = ()
    """What each picture took."""
    places: tuple[slice, ...] = ()
    """Where the placeholders of each picture lie."""

    @property
    def input_length(self) -> int:
        """Tokens, placeholders of pictures included."""
        return len(self.tokens)


@dataclass(frozen=True, slots=True)
class Draft:
    """A prompt whose pictures are not known yet."""

    tokens: tuple[int, ...]
    """The image token stands once for each picture."""
    pictures: tuple[ImagePart | ImageUrlPart, ...]
    truncate: int | None


class PromptBuilder:
    """Turns requests into prompts: CPU work for a thread pool. Safe to use from several threads."""

    def __init__(
        self,
        spec: ModelSpec,
        tokenizer: Tokenizer,
        chat: ChatTemplate | None,
        intake: IntakeLimits,
        max_input_tokens: int,
    ) -> None:
        """`tokenizer` is loaded with the spec's image token; raises ModelRefused when it has ids the model lacks."""
        if tokenizer.vocabulary > spec.vocabulary:
            raise ModelRefused(
                f"the tokenizer has ids up to {tokenizer.vocabulary - 1} and the model embeddings for "
                f"{spec.vocabulary} ids; tokenizer.json and config.json belong to different models"
            )
        self._spec = spec
        self._tokenizer = tokenizer
        self._chat = chat
        self._intake = intake
        self._max_input_tokens = max_input_tokens
        self._geometry = None if spec.image_token_id is None else spec.images
        self._image_token = None if self._geometry is None else tokenizer.image_token
        # No token spells more characters than the longest one. The floor leaves room for normalizers that join
        # characters, where the vocabulary is small.
        self._characters_per_token = max(64, tokenizer.longest_token)

    def build(self, request: GenerateRequest) -> Prompt:
        """Return the prompt of a request, its pictures decoded in this process and none of them fetched.

        Raises InvalidRequest and its subclasses.
        """
        draft = self.draft(request)
        if self._geometry is None:
            return self.finish(draft, ())
        return self.finish(draft, cut_here(draft.pictures, self._geometry, self._intake))

    def draft(self, request: GenerateRequest) -> Draft:
        """Do what can be done, and refuse what can be refused, before any picture is fetched or decoded."""
        if request.resumption is not None:
            self._check_ids(request.resumption.tokens)
        parts, add_special_tokens = self._resolve(request)
        tokens = self._encode(parts, add_special_tokens)
        pictures = _pictures(parts)
        if not tokens:
            raise InvalidRequest("the prompt is empty; send some text or a picture")
        if pictures and request.truncate is None:
            self._check_length(len(tokens) - len(pictures), self._least_picture_tokens(pictures), "at least ")
        return Draft(tuple(tokens), tuple(pictures), request.truncate)

    def finish(self, draft: Draft, pictures: Sequence[CutPicture]) -> Prompt:
        """Return the prompt of a draft, given its pictures; raises InvalidRequest and its subclasses."""
        if self._geometry is None or not pictures:
            return Prompt(self._fitted(draft.tokens, [], draft.truncate), None)
        images, seconds = join_images(pictures, self._geometry)
        features = [feature_count(size, self._geometry) for size in images.sizes]
        expanded, places = self._expand(self._fitted(draft.tokens, features, draft.truncate), features)
        return Prompt(expanded, images, tuple(map(PictureCost, features, images.counts, seconds)), places)

    def _resolve(self, request: GenerateRequest) -> tuple[tuple[Part, ...], bool]:
        """Return the parts of the prompt, and whether the tokenizer adds its special tokens."""
        if not request.messages:
            self._check_parts(request.parts)
            return request.parts, request.add_special_tokens
        if request.parts:
            raise InvalidRequest("the request has both a prompt and messages; send one of them")
        if self._chat is None:
            raise TemplateError("this model has no chat template; send the conversation as one prompt")
        if len(request.messages) > self._max_input_tokens:
            raise ContextExceeded(
                f"{len(request.messages)} messages cannot fit into {self._max_input_tokens} tokens, the most this "
                "server takes; leave out old messages"
            )
        self._check_parts([part for message in request.messages for part in message.parts])
        parts = self._chat.render(request.messages, self._image_token)
        self._check_parts(parts)
        bos = self._tokenizer.bos_token
        has_bos = bool(bos and parts and isinstance(parts[0], TextPart) and parts[0].text.startswith(bos))
        return parts, not has_bos

    def _check_parts(self, parts: Sequence[Part]) -> None:
        """Refuse what is wrong whatever the texts say, and texts too long to be worth encoding."""
        pictures = _pictures(parts)
        if pictures and self._geometry is None:
            raise InvalidRequest(f"this model takes no pictures and the request has {len(pictures)}; send text only")
        if len(pictures) > self._intake.max_images:
            raise InvalidRequest(
                f"the request has {len(pictures)} pictures and this server takes at most {self._intake.max_images}; "
                "send fewer"
            )
        characters = sum(len(part.text) for part in parts if isinstance(part, TextPart))
        ids = sum(len(part.ids) for part in parts if isinstance(part, TokensPart))
        least = ids + characters // self._characters_per_token
        self._check_length(least, self._least_picture_tokens(pictures), "at least ")

    def _least_picture_tokens(self, pictures: Sequence[ImagePart | ImageUrlPart]) -> int:
        return 0 if self._geometry is None else len(pictures) * base_count(self._geometry)

    def _check_length(self, text_tokens: int, picture_tokens: int, qualifier: str) -> None:
        total = text_tokens + picture_tokens
        if total > self._max_input_tokens:
            of_pictures = f", {picture_tokens} of them for pictures," if picture_tokens else ""
            raise ContextExceeded(
                f"the prompt has {qualifier}{total} tokens{of_pictures} and this server takes at most "
                f"{self._max_input_tokens}; shorten the text or send fewer pictures"
            )

    def _encode(self, parts: Sequence[Part], add_special_tokens: bool) -> list[int]:
        """Return the ids of a prompt, with one image token for each picture.

        Text and pictures between two TokensPart are encoded as one string, so that a text after a picture gets the ids
        it has after any special token. Special tokens are added only to a text that begins the prompt.
        """
        tokens: list[int] = []
        text = ""
        for part in (*parts, TokensPart(())):  # the last one flushes the text
            if isinstance(part, TextPart):
                text += part.text
            elif isinstance(part, TokensPart):
                if text:
                    tokens += self._tokenizer.encode(text, add_special_tokens and not tokens)
                tokens += self._checked(part.ids)
                text = ""
            else:
                text += self._tokenizer.image_placeholder
        return tokens

    def _checked(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        self._check_ids(ids)
        if self._spec.image_token_id in ids:
            raise InvalidRequest(
                f"token id {self._spec.image_token_id} is the placeholder of pictures and cannot be sent; send the "
                "picture itself"
            )
        return ids

    def _check_ids(self, ids: tuple[int, ...]) -> None:
        for id in ids:
            if not 0 <= id < self._spec.vocabulary:
                raise InvalidRequest(
                    f"token id {id} is outside the model's vocabulary; use 0 to {self._spec.vocabulary - 1}"
                )

    def _fitted(self, tokens: Sequence[int], features: Sequence[int], truncate: int | None) -> tuple[int, ...]:
        """Leave out the oldest text beyond `truncate` tokens, then check the length.

        Pictures are whole or not there, so only text is left out; a beginning-of-sequence token stays, as TGI's
        tokenizer keeps it.
        """
        pictures = sum(features)
        texts = len(tokens) - len(features)
        if truncate is None:
            self._check_length(texts, pictures, "")
            return tuple(tokens)
        if not 0 < truncate <= self._max_input_tokens:
            raise InvalidRequest(
                f"`truncate` must be from 1 to {self._max_input_tokens}, the most this server takes, got {truncate}"
            )
        if pictures + (1 if texts else 0) > truncate:
            raise InvalidRequest(
                f"`truncate` is {truncate}, but the pictures alone take {pictures} tokens and are never cut; raise it "
                "or send fewer pictures"
            )
        excess = max(0, texts + pictures - truncate)
        kept: list[int] = []
        for place, token in enumerate(tokens):
            begins = place == 0 and self._tokenizer.is_special(token)
            if excess and not begins and token != self._spec.image_token_id:
                excess -= 1
            else:
                kept.append(token)
        return tuple(kept)

    def _expand(self, tokens: Sequence[int], features: Sequence[int]) -> tuple[tuple[int, ...], tuple[slice, ...]]:
        """Repeat each image token once for each feature of its picture; return also where the repetitions lie."""
        repeats = iter(features)
        expanded: list[int] = []
        places: list[slice] = []
        for token in tokens:
            start = len(expanded)
            if token == self._spec.image_token_id:
                expanded += [token] * next(repeats)
                places.append(slice(start, len(expanded)))
            else:
                expanded.append(token)
        return tuple(expanded), tuple(places)


def _pictures(parts: Sequence[Part]) -> list[ImagePart | ImageUrlPart]:
    return [part for part in parts if isinstance(part, ImagePart | ImageUrlPart)]
