"""The linear heads that say what each patch shows; they teach the tower and the language model and are then dropped."""

from __future__ import annotations

from collections.abc import Collection

import torch
import torch.nn.functional as F
from architecture import HIDDEN
from labels import CLASSES, UNTAUGHT, Label

# "Nothing here" is the commonest class by far; the labels with 0 have no such class to learn, only gaps.
_WEIGHT_OF_NOTHING = {
    Label.SIZE: 0.0,
    Label.DIGIT: 0.1,
    Label.BACKGROUND: 0.0,
    Label.PLACE: 0.0,
    Label.ORDER: 0.0,
    Label.COUNT: 0.0,
}

_WEIGHT_OF_LABEL = {Label.DIGIT: 2.0}
"""Digits are the finest and rarest of what there is to tell, and take longest."""


def new_label_head() -> torch.nn.Module:
    """Return an untrained head: [.., HIDDEN] -> [.., sum(CLASSES)]."""
    return torch.nn.Sequential(torch.nn.LayerNorm(HIDDEN), torch.nn.Linear(HIDDEN, sum(CLASSES)))


def label_loss(logits: torch.Tensor, labels: torch.Tensor, skip: Collection[Label] = ()) -> torch.Tensor:
    """Return the summed cross-entropy of all labels but those skipped.

    `logits` [.., sum(CLASSES)], `labels` int64 [.., labels] of as many patches.
    """
    loss = torch.zeros(())
    for label, scores in _by_label(logits):
        truth = labels[..., label].flatten()
        weight_of_nothing = _WEIGHT_OF_NOTHING.get(label, 0.3)
        if label in skip or (not weight_of_nothing and not truth.any()):
            continue
        weight = torch.ones(CLASSES[label])
        weight[0] = weight_of_nothing
        entropy = F.cross_entropy(scores, truth, weight=weight, ignore_index=UNTAUGHT)
        loss = loss + _WEIGHT_OF_LABEL.get(label, 1.0) * entropy
    return loss


def label_accuracy(logits: torch.Tensor, labels: torch.Tensor) -> dict[Label, float]:
    """Return for each label the share of patches that show something and are named right; 1 if none does."""
    accuracy = {}
    for label, scores in _by_label(logits):
        truth = labels[..., label].flatten()
        shown = truth > 0
        right = scores.argmax(-1)[shown] == truth[shown]
        accuracy[label] = right.float().mean().item() if len(right) else 1.0
    return accuracy


def _by_label(logits: torch.Tensor) -> list[tuple[Label, torch.Tensor]]:
    """Return the scores [patches, classes] of each label in float32."""
    flat = logits.float().flatten(0, -2)
    return list(zip(Label, torch.split(flat, list(CLASSES), -1), strict=True))
