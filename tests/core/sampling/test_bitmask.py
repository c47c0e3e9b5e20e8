"""Unpacking masks."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from runtime.sampling.bitmask import allowed


@given(st.lists(st.binary(min_size=8, max_size=8), min_size=1, max_size=4), st.integers(1, 100))
def test_bit_of_an_id_decides(masks: list[bytes], vocabulary: int) -> None:
    """Id i is allowed when bit i % 8 of byte i // 8 is set; ids beyond the mask never are."""
    expected = [[i < 64 and bool(mask[i // 8] >> (i % 8) & 1) for i in range(vocabulary)] for mask in masks]
    assert allowed(masks, vocabulary, torch.device("cpu")).tolist() == expected
