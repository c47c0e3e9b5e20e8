"""Which calls share a graph: the vendor's key with its omissions, and the errors that tell of them."""

from __future__ import annotations

from collections import UserDict

import habana_frameworks.torch as bridge
import pytest
import torch
from habana_frameworks.torch.hpu.graphs import input_hash
from torch import Tensor, nn
from virtual_device import counters
from virtual_device.release import RELEASE

hpu = bridge.hpu


class Anything(nn.Module):
    """Takes anything."""

    def forward(self, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        return x + 1


def captures(*calls: tuple[tuple[object, ...], dict[str, object]]) -> int:
    """How many graphs these calls of one module make."""
    module = hpu.wrap_in_hpu_graph(Anything())
    before = counters.snapshot()
    for args, kwargs in calls:
        module(*args, **kwargs)
    return (counters.snapshot() - before).captures.total()


X, Y = torch.ones(2, device="hpu"), torch.zeros(2, device="hpu")


def test_values_of_tensors_do_not_count_and_shapes_do() -> None:
    """Ten calls of one shape are one graph."""
    assert captures(*[((tensor,), {}) for tensor in (X, Y) * 5]) == 1
    assert captures(*[((torch.ones(size, device="hpu"),), {}) for size in (1, 2, 3)]) == 3


def test_python_values_count() -> None:
    """Each is a graph of its own, and so is another order of keywords."""
    assert captures(((X, 1), {}), ((X, 2), {}), ((X, "a"), {}), ((X, None), {})) == 4
    assert captures(((X,), {"a": 1, "b": 2}), ((X,), {"b": 2, "a": 1})) == 2


def test_views_count() -> None:
    """A view is not a base of the same shape."""
    assert captures(((X,), {}), ((torch.ones(4, device="hpu")[:2],), {}), ((torch.ones(4, device="hpu")[2:],), {})) == 3


def test_objects_count_by_identity_and_what_has_no_hash_is_refused() -> None:
    """A new object per call is a new graph per call."""
    assert captures(((X, object()), {}), ((X, object()), {})) == 2
    with pytest.raises(TypeError, match="unhashable"):
        captures(((X, {1, 2}), {}))


def test_dicts_of_users_are_known_from_1_18_on() -> None:
    """Before, they have no hash."""
    if RELEASE.name == "1.17":
        with pytest.raises(TypeError, match="unhashable"):
            input_hash(UserDict(a=(1,)))
    else:
        assert input_hash(UserDict(a=(1,))) == input_hash(UserDict(a=(1,)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((X,), (torch.ones(2, device="hpu").bfloat16(),)),
        ((X, -1), (X, -2)),
        ((X, 1), (X, True)),
    ],
)
def test_calls_that_would_share_a_graph_by_mistake_are_refused(
    one: tuple[object, ...], other: tuple[object, ...]
) -> None:
    """The key has neither dtypes nor more of a value than its hash."""
    assert input_hash((one, {})) == input_hash((other, {}))
    with pytest.raises(RuntimeError, match="two calls share one hpu graph"):
        captures((one, {}), (other, {}))


def test_beyond_max_graphs_modules_run_plainly() -> None:
    """As in the vendor's test: shapes one to five, two of them graphed, results right throughout."""
    module = hpu.wrap_in_hpu_graph(Anything(), max_graphs=2)
    before = counters.snapshot()
    for _ in range(3):
        for size in range(1, 6):
            x = torch.randn(size, device="hpu")
            assert torch.equal(module(x).cpu(), x.cpu() + 1)
    spent = counters.snapshot() - before
    assert (spent.captures.total(), spent.replays.total(), spent.bypasses.total()) == (2, 4, 9)


def test_options_are_the_releases() -> None:
    """`hash_with_views` of older releases is an error."""
    with pytest.raises(TypeError):
        hpu.wrap_in_hpu_graph(Anything(), hash_with_views=True)
    if RELEASE.name == "1.23":
        hpu.wrap_in_hpu_graph(Anything(), verbose=True)
    else:
        with pytest.raises(TypeError):
            hpu.wrap_in_hpu_graph(Anything(), verbose=True)
