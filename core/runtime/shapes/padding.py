"""How much of the work on a typical mix of requests is padding. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from runtime.backend import ImageGeometry
from runtime.geometry import Size, feature_count
from runtime.shapes.lookup import PlannedShapes

TEXT_TOKENS: Final = 40
"""Beside a picture: a short question and the words of a chat template."""


@dataclass(frozen=True, slots=True)
class TypicalRequest:
    """A kind of request."""

    name: str
    size: Size | None
    """(height, width) of its picture, pixels; None for one of text alone."""
    text_tokens: int
    share: int
    """Of all requests, percent."""


MIX: Final = (
    TypicalRequest("photo", (768, 1024), TEXT_TOKENS, 30),
    TypicalRequest("upright photo", (1600, 1067), TEXT_TOKENS, 15),
    TypicalRequest("screen", (1080, 1920), TEXT_TOKENS, 20),
    TypicalRequest("phone screen", (2532, 1170), TEXT_TOKENS, 10),
    TypicalRequest("square", (640, 640), TEXT_TOKENS, 10),
    TypicalRequest("thumbnail", (150, 200), TEXT_TOKENS, 5),
    TypicalRequest("text alone", None, 200, 10),
)
"""A choice, not a measurement: the sizes of cameras and screens, and some text."""


@dataclass(frozen=True, slots=True)
class PaddedRequest:
    """A typical request as it is computed."""

    request: TypicalRequest
    tokens: int
    bucket: int
    """Tokens it is padded to."""
    rows_alone: int
    """Rows that are computed for it when it comes alone."""

    @property
    def padding(self) -> int:
        """Tokens computed in vain, in a full batch of its kind."""
        return self.bucket - self.tokens


def padded_mix(geometry: ImageGeometry | None, shapes: PlannedShapes) -> tuple[PaddedRequest, ...]:
    """Return the requests of the mix that the model takes and the limits admit."""
    padded = []
    for request in MIX:
        if request.size is not None and geometry is None:
            continue
        features = feature_count(request.size, geometry) if request.size and geometry else 0
        tokens = request.text_tokens + features
        if shapes.fits(1, tokens):
            shape = shapes.prefill_for(1, tokens)
            padded.append(PaddedRequest(request, tokens, shape.length, shape.rows))
    return tuple(padded)


def padding_share(mix: Sequence[PaddedRequest]) -> float:
    """Return the share of computed tokens that are padding when batches are full."""
    computed = sum(each.request.share * each.bucket for each in mix)
    return 1 - sum(each.request.share * each.tokens for each in mix) / computed if computed else 0.0


def padding_share_alone(mix: Sequence[PaddedRequest]) -> float:
    """Return that share when every request comes alone, and the other rows of its shape are empty."""
    computed = sum(each.request.share * each.bucket * each.rows_alone for each in mix)
    return 1 - sum(each.request.share * each.tokens for each in mix) / computed if computed else 0.0
