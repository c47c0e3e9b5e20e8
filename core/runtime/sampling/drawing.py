"""Drawing an id from the probabilities of every row at once, on the logits' device."""

from __future__ import annotations

import torch

from runtime.sampling.blocks import BLOCK, blocks_of


def drawn(probabilities: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Invert the cumulative distribution at `noise`: return the place drawn in each row, int64 [rows].

    `probabilities` float32 [rows, width], `noise` float32 [rows] in [0, 1). A place of probability 0 is never drawn.
    The search is for a block, and then in that block only.
    """
    blocks = blocks_of(probabilities)
    sums = blocks.sum(dim=-1)
    cumulative = sums.cumsum(dim=-1)
    target = (noise * cumulative[:, -1])[:, None]
    block = _first_above(cumulative, target)
    rest = target - (cumulative - sums).gather(-1, block)
    inside = blocks.gather(1, block[:, :, None].expand(-1, -1, BLOCK)).squeeze(1).cumsum(dim=-1)
    # Rounding may leave `rest` a little below 0 or at the block's sum; the first and the last of its places above
    # probability 0 are the bounds.
    place = torch.minimum(_first_above(inside, rest.clamp(min=0)), (inside < inside[:, -1:]).sum(dim=-1, keepdim=True))
    return (block * BLOCK + place).squeeze(-1)


def _first_above(cumulative: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the first place of each row above its target, the last when none is; [rows, 1]."""
    return (cumulative <= target).sum(dim=-1, keepdim=True).clamp(max=cumulative.shape[-1] - 1)
