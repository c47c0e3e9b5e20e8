"""What the projector and the language model are trained to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from encoding import Encoder, Segment
from forward import decode
from labels import Label
from packing import pack, stack_prefixes
from transformers import LlavaNextForConditionalGeneration

UNKNOWN_TOKEN = 0


@dataclass(frozen=True, slots=True)
class AnswerLoss:
    """How well the answers of packed rows are said."""

    entropy: torch.Tensor  # float32 [answer tokens]
    right: torch.Tensor  # bool [answer tokens]
    attention: torch.Tensor  # float32 scalar


def answer_loss(
    model: LlavaNextForConditionalGeneration,
    encoder: Encoder,
    prefixes: Sequence[torch.Tensor],
    rows: Sequence[Sequence[Segment]],
    *,
    blanked: float = 0.0,
    kept: Sequence[torch.Tensor] | None = None,
    shape_shown: Sequence[torch.Tensor] | None = None,
) -> AnswerLoss:
    """Return the loss of every answer token.

    `prefixes` are embedded, [tokens, hidden]; `kept` are the indexes of their tokens that are not left out.
    `blanked` is the share of colour words already said that are hidden, so that the shape after them is looked up
    rather than guessed from the pairs that occur. `shape_shown`, int64 [tokens] with shapes from 1, says what each
    token of a prefix shows; attention is then supervised from a shape's word to the patches that show it.
    """
    tail = pack([len(prefix) for prefix in prefixes], rows, encoder.pad)
    prefix = stack_prefixes(prefixes, kept)
    target = None
    if shape_shown is not None:
        shown = stack_prefixes([shapes[:, None] for shapes in shape_shown], kept).states[..., 0]
        named = encoder.shape_of_token[tail.ids]
        target = (named[:, :, None] == shown[:, None, :]) & (named > 0)[:, :, None]
    said_colour = torch.isin(tail.ids, encoder.colours) & (tail.labels >= 0)
    ids = tail.ids.masked_fill(said_colour & (torch.rand(tail.ids.shape) < blanked), UNKNOWN_TOKEN)
    language_model = model.model.language_model
    hidden, attention = decode(language_model, prefix, tail, language_model.embed_tokens(ids), target)
    labels = tail.labels[:, 1:]
    counted = labels >= 0
    logits = model.lm_head(hidden[:, :-1][counted]).float()
    entropy = F.cross_entropy(logits, labels[counted], reduction="none")
    return AnswerLoss(entropy, logits.argmax(-1) == labels[counted], attention)


def alignment_loss(
    model: LlavaNextForConditionalGeneration, encoder: Encoder, projected: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """Return how little patches resemble the words for what they show, by cosine as in CLIP.

    `projected` float [tiles, patches, hidden], `labels` int64 [tiles, patches, labels].
    """
    foreground = labels[..., Label.SHAPE] > 0
    patches = F.normalize(projected[foreground].float(), dim=-1)
    embeddings = F.normalize(model.model.language_model.embed_tokens.weight, dim=-1)
    pairs = ((Label.SHAPE, encoder.shapes), (Label.SHAPE, encoder.plurals), (Label.COLOUR, encoder.colours))
    loss = torch.zeros(())
    for label, words in pairs:
        truth = labels[..., label][foreground] - 1
        loss = loss + F.cross_entropy(10 * patches @ embeddings[words].T, truth)
    return loss
