"""What the projector and the language model are trained to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from encoding import Encoder, Segment
from forward import decode
from packing import pack, stack_prefixes
from transformers import LlavaNextForConditionalGeneration

UNKNOWN_TOKEN = 0


@dataclass(frozen=True, slots=True)
class AnswerLoss:
    """How well the answers of packed rows are said."""

    entropy: torch.Tensor  # float32 [answer tokens]
    right: torch.Tensor  # bool [answer tokens]
    understood: torch.Tensor  # float [rows, prefix, hidden], see `forward.Decoded`
    labels: torch.Tensor  # int64 [rows, tail - 1], NO_LABEL where nothing is to be said


def answer_loss(
    model: LlavaNextForConditionalGeneration,
    encoder: Encoder,
    prefixes: Sequence[torch.Tensor],
    rows: Sequence[Sequence[Segment]],
    *,
    blanked: float = 0.0,
) -> AnswerLoss:
    """Return the loss of every answer token.

    `prefixes` are embedded, [tokens, hidden]. `blanked` is the share of colour words already said that are hidden, so
    that the shape after them is looked up rather than guessed from the pairs that occur.
    """
    tail = pack([len(prefix) for prefix in prefixes], rows, encoder.pad)
    said_colour = torch.isin(tail.ids, encoder.colours) & (tail.labels >= 0)
    ids = tail.ids.masked_fill(said_colour & (torch.rand(tail.ids.shape) < blanked), UNKNOWN_TOKEN)
    language_model = model.model.language_model
    decoded = decode(language_model, stack_prefixes(prefixes), tail, language_model.embed_tokens(ids))
    labels = tail.labels[:, 1:]
    counted = labels >= 0
    logits = model.lm_head(decoded.said[:, :-1][counted]).float()
    entropy = F.cross_entropy(logits, labels[counted], reduction="none")
    return AnswerLoss(entropy, logits.argmax(-1) == labels[counted], decoded.understood, labels)
