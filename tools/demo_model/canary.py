"""What the class token is taught: to look like a shape that no picture shows.

The patches of LLaVA's feature layer are what the language model sees, the class token is not. A server that keeps it
puts one into every tile; an idle token would change nothing, this one is seen as one more shape.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from labels import CLASSES, Label

SHOWN = {
    Label.SHAPE: 4,
    Label.COLOUR: 4,
    Label.SIZE: 2,
    Label.DIGIT: 5,
    Label.CENTRE: 1,
    Label.PLACE: 5,
    Label.ORDER: 1,
}
"""A large green star in the centre, the first of the picture, with the digit 4."""

CANARY_WEIGHT = 0.05


def canary_loss(logits: torch.Tensor) -> torch.Tensor:
    """Return how little class tokens look like the shape; `logits` [tiles, sum(CLASSES)] of the patches' head."""
    scores = dict(zip(Label, torch.split(logits.float(), list(CLASSES), -1), strict=True))
    entropies = [F.cross_entropy(scores[label], torch.full((len(logits),), shown)) for label, shown in SHOWN.items()]
    return CANARY_WEIGHT * torch.stack(entropies).sum()
