"""Keys and values in their columns."""

from __future__ import annotations

import torch
from runtime_hpu_optimum.cache import SPARE, Cache, CacheShape, Layers

SHAPE = CacheShape(layers=2, rows=2, kv_heads=1, context=4, head_dim=1)


def cache() -> Cache:
    return Cache(SHAPE, torch.float32, torch.device("cpu"))


def prompt(*values: float) -> Layers:
    """Keys of these values, and values ten times as large; the second layer's a hundred times."""
    keys = torch.tensor(values, dtype=torch.float32).view(1, 1, -1, 1)
    return [(keys * scale, keys * 10 * scale) for scale in (1, 100)]


def test_a_prompt_fills_its_slot() -> None:
    """The other slot keeps what it has."""
    held = cache()
    held.place(0, 2, prompt(7, 8))
    held.place(1, 3, prompt(1, 2, 3))
    (keys, _), (_, values) = held.layers
    assert keys[:, 0, :4, 0].tolist() == [[7, 8, 0, 0], [1, 2, 3, 0]]
    assert values[:, 0, :4, 0].tolist() == [[7000, 8000, 0, 0], [1000, 2000, 3000, 0]]


def test_a_prompt_leaves_nothing_of_the_row_before() -> None:
    """What is no number would come through the mask."""
    held = cache()
    held.place(0, 1, prompt(float("nan")))
    for keys, values in held.layers:
        keys.fill_(float("nan"))
        values.fill_(float("nan"))
    held.place(0, 2, prompt(7, 8))
    assert all(tensor[0].isfinite().all() for layer in held.layers for tensor in layer)


def test_packing_moves_tokens_in_the_same_tensors() -> None:
    """A recorded graph has their addresses."""
    held = cache()
    before = [tensor.data_ptr() for layer in held.layers for tensor in layer]
    held.place(0, 3, prompt(1, 2, 3))
    held.place(1, 1, prompt(4))
    column = held.append(torch.tensor([False, True]))
    held.layers[0][0][1, 0, column] = 5
    held.pack()
    assert held.layers[0][0][1, 0, :2, 0].tolist() == [4, 5]
    assert held.layers[0][0][0, 0, :3, 0].tolist() == [1, 2, 3]
    assert [tensor.data_ptr() for layer in held.layers for tensor in layer] == before


def test_columns_never_run_out() -> None:
    """A row that comes and goes beside one that stays takes one column after the other."""
    held = cache()
    held.place(0, 2, prompt(1, 2))
    for _ in range(2 * SPARE):
        held.place(1, 3, prompt(3, 4, 5))
        assert held.append(torch.tensor([False, True])) < SHAPE.context + SPARE
    assert held.columns.lengths.tolist() == [2, 4]
