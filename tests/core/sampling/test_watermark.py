"""The favoured ids after a token."""

from __future__ import annotations

from unittest import mock

import torch
from runtime.sampling import watermark
from runtime.sampling.watermark import GreenLists, green_list

CPU = torch.device("cpu")


def test_list_is_drawn_as_tgi_draws_it() -> None:
    """The first gamma x vocabulary entries of a permutation seeded with 15485863 x token, so detectors agree."""
    generator = torch.Generator().manual_seed(15485863 * 17)
    expected = set(torch.randperm(802, generator=generator)[:401].tolist())
    assert set(green_list(17, 802, 0.5).nonzero().flatten().tolist()) == expected


def test_bonus_is_delta_for_favoured_ids() -> None:
    """Each row follows its own last token."""
    bonus = GreenLists(gamma=0.25, delta=3.0).bonus([5, 9, 5], 100, CPU)
    assert bonus.sum(dim=-1).tolist() == [75.0, 75.0, 75.0]
    assert bonus.unique().tolist() == [0.0, 3.0]
    assert torch.equal(bonus[0], bonus[2])
    assert not torch.equal(bonus[0], bonus[1])


def test_lists_are_kept_and_bounded() -> None:
    """A list in use is drawn once; the one not used for longest makes room, and is the same when drawn again."""
    lists = GreenLists(most_lists=2)
    with mock.patch.object(watermark, "green_list", wraps=green_list) as drawn:
        first = lists.bonus([1], 50, CPU)
        lists.bonus([1, 2], 50, CPU)
        lists.bonus([1], 50, CPU)
        assert drawn.call_count == 2
        lists.bonus([3], 50, CPU)
        lists.bonus([1], 50, CPU)
        assert drawn.call_count == 3
        lists.bonus([2], 50, CPU)
        assert drawn.call_count == 4
        assert torch.equal(lists.bonus([1], 50, CPU), first)
