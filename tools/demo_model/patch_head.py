"""The linear head that says what each patch shows; it teaches the tower and is not part of the model."""

from __future__ import annotations

from collections.abc import Collection

import torch
import torch.nn.functional as F
from architecture import HIDDEN
from labels import CLASSES, Label

# "Nothing here" is the commonest class by far; the last two labels have no such class to learn.
_WEIGHT_OF_NOTHING = {Label.DIGIT: 0.1, Label.BACKGROUND: 0.0, Label.PLACE: 0.0}


def new_patch_head() -> torch.nn.Module:
    """Return an untrained head: [.., HIDDEN] -> [.., sum(CLASSES)]."""
    return torch.nn.Sequential(torch.nn.LayerNorm(HIDDEN), torch.nn.Linear(HIDDEN, sum(CLASSES)))


def patch_loss(logits: torch.Tensor, labels: torch.Tensor, skip: Collection[Label] = ()) -> torch.Tensor:
    """Return the summed cross-entropy of all labels but those skipped.

    `logits` [tiles, patches, sum(CLASSES)], `labels` int64 [tiles, patches, labels].
    """
    loss = torch.zeros(())
    for label, scores in _by_label(logits):
        if label not in skip:
            weight = torch.ones(CLASSES[label])
            weight[0] = _WEIGHT_OF_NOTHING.get(label, 0.3)
            loss = loss + F.cross_entropy(scores, labels[..., label].flatten(), weight=weight)
    return loss


def patch_accuracy(logits: torch.Tensor, labels: torch.Tensor) -> dict[Label, float]:
    """Return for each label the share of patches that show something and are named right; 1 if none does."""
    accuracy = {}
    for label, scores in _by_label(logits):
        truth = labels[..., label].flatten()
        shown = truth > 0
        right = scores.argmax(-1)[shown] == truth[shown]
        accuracy[label] = right.float().mean().item() if len(right) else 1.0
    return accuracy


def _by_label(logits: torch.Tensor) -> list[tuple[Label, torch.Tensor]]:
    """Return the scores [tiles * patches, classes] of each label in float32."""
    return list(zip(Label, torch.split(logits.float().flatten(0, 1), list(CLASSES), -1), strict=True))
