"""The attention of the backend `cuda`, computed on the CPU: flash attention by what its documentation says."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from runtime.static.kv import CacheGeometry, KvCache
from runtime.static.rectangle import mask_after
from runtime_torch.cuda_kernels import CudaKernels, Flash, find_flash, stock_flash
from support.flash import flash, operator

CPU = torch.device("cpu")
FORMS: list[Flash | None] = [flash, None]


def attended(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """One query per head, [heads, d], over [tokens, kv_heads, d]: the textbook."""
    shared = query.shape[0] // key.shape[1]
    out = []
    for head, vector in enumerate(query.double()):
        keys, values = key[:, head // shared].double(), value[:, head // shared].double()
        out.append((keys @ vector * len(vector) ** -0.5).softmax(0) @ values)
    return torch.stack(out)


@pytest.mark.parametrize("form", FORMS, ids=["flash", "masked"])
@given(
    rows=st.integers(1, 4),
    kv_heads=st.sampled_from([1, 2, 3]),
    shared=st.sampled_from([1, 2, 4]),
    window=st.integers(1, 12),
    data=st.data(),
)
def test_the_newest_token_sees_its_own_row(
    form: Flash | None, rows: int, kv_heads: int, shared: int, window: int, data: st.DataObject
) -> None:
    """As many tokens as the row has and no others, of the first slots of a cache with more and longer ones."""
    width, context = 8, 12
    cache = KvCache(CacheGeometry(1, context, kv_heads, width, torch.float32), slots=5, device=CPU)
    generator = torch.Generator().manual_seed(0)
    for buffer in (cache._keys[0], cache._values[0]):
        buffer.normal_(generator=generator)
    lengths = torch.tensor(data.draw(st.lists(st.integers(1, window), min_size=rows, max_size=rows)))
    query = torch.randn(rows, kv_heads * shared + 2, width, generator=generator)[:, : kv_heads * shared]
    past = cache.first(0, rows, window)
    mask = mask_after(lengths.unsqueeze(1) - 1, window, torch.float32)
    seen = CudaKernels(form).attend_newest(query, *past, mask, lengths.int())
    assert seen.shape == query.shape
    for row, length in enumerate(lengths.tolist()):
        wanted = attended(query[row], *(each[row, :, :length].transpose(0, 1) for each in past))
        torch.testing.assert_close(seen[row].double(), wanted, rtol=1e-5, atol=1e-5)


def test_a_decode_step_copies_no_keys() -> None:
    """What flash attention gets is the cache itself."""
    given_keys: list[torch.Tensor] = []

    def watched(query: torch.Tensor, key: torch.Tensor, *others: Any) -> torch.Tensor:
        given_keys.append(key)
        return flash(query, key, *others)

    cache = KvCache(CacheGeometry(1, 16, 2, 8, torch.float32), slots=4, device=CPU)
    lengths = torch.tensor([3, 5], dtype=torch.int32)
    mask = mask_after(lengths.unsqueeze(1) - 1, 8, torch.float32)
    CudaKernels(watched).attend_newest(torch.ones(2, 4, 8), *cache.first(0, 2, 8), mask, lengths)
    assert given_keys[0].data_ptr() == cache._keys[0].data_ptr()
    assert given_keys[0].shape == (2 * 16, 2, 8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (6, 1)])
def test_prompts_are_causal(heads: int, kv_heads: int, dtype: torch.dtype) -> None:
    """Whatever pads them on the right."""
    rows, length, width = 2, 7, 8
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(rows, length, count, width, generator=generator).to(dtype).transpose(1, 2)
        for count in (heads, kv_heads, kv_heads)
    )
    seen = CudaKernels(None).attend_causal(query, key, value)
    tolerance = 1e-5 if dtype is torch.float32 else 0.02
    for row in range(rows):
        for place in range(length):
            past = (each[row, :, : place + 1].transpose(0, 1) for each in (key, value))
            wanted = attended(query[row, :, place], *past)
            torch.testing.assert_close(seen[row, :, place].double(), wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (6, 1)])
def test_the_rest_of_prompts_sees_its_window(heads: int, kv_heads: int) -> None:
    """Heads that share a key share its mask too: each query sees the places up to its own."""
    rows, length, window, width = 2, 3, 9, 8
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(rows, length, heads, width, generator=generator).transpose(1, 2)
    past = [torch.randn(rows, window, kv_heads, width, generator=generator).transpose(1, 2) for _ in range(2)]
    positions = torch.tensor([[4, 5, 6], [0, 1, 2]])
    seen = CudaKernels(None).attend_masked(query, past[0], past[1], mask_after(positions, window, torch.float32))
    for row in range(rows):
        for place in range(length):
            end = int(positions[row, place]) + 1
            wanted = attended(query[row, :, place], *(each[row, :, :end].transpose(0, 1) for each in past))
            torch.testing.assert_close(seen[row, :, place].double(), wanted, rtol=1e-5, atol=1e-5)


def test_flash_is_used_where_it_computes_right() -> None:
    """It is tried once, in the dtype and the width of heads that it is for."""
    with operator(flash):
        assert find_flash(torch.bfloat16, 128, CPU) is stock_flash
    assert CudaKernels(stock_flash).decode_attention == "flash"


def ignores_lengths(*arguments: Any) -> torch.Tensor:
    *others, lengths = arguments
    return flash(*others, torch.full_like(lengths, 16))


def absent(*arguments: Any) -> torch.Tensor:
    raise NotImplementedError("no kernel\nfor this card")


@pytest.mark.parametrize(
    ("compute", "reason"), [(ignores_lengths, "its results are wrong"), (absent, "no kernel for this card")]
)
def test_flash_that_cannot_be_used_is_replaced(
    compute: Callable[..., torch.Tensor], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """By attention with a mask, and a line in the log tells why decoding is slower."""
    with caplog.at_level(logging.WARNING), operator(compute):
        assert find_flash(torch.bfloat16, 64, CPU) is None
    (message,) = caplog.messages
    assert reason in message
    assert CudaKernels(None).decode_attention == "masked"


@pytest.mark.parametrize(("dtype", "width"), [(torch.float32, 64), (torch.bfloat16, 20), (torch.bfloat16, 512)])
def test_flash_is_not_tried_for_what_it_does_not_take(dtype: torch.dtype, width: int) -> None:
    """float32, and heads of odd or great width."""
    with operator(flash):
        assert find_flash(dtype, width, CPU) is None
