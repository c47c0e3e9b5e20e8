"""Tensors of the virtual device: where they are, what is copied and read, what is refused. Run by test_emulated.py."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import habana_frameworks.torch
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from virtual_device import counters
from virtual_device.counters import Snapshot

HPU = torch.device("hpu")


def spent(action: Callable[[], object]) -> Snapshot:
    """What an action cost."""
    before = counters.snapshot()
    action()
    return counters.snapshot() - before


def test_says_that_it_is_emulated() -> None:
    """Nobody can take it for a card."""
    assert habana_frameworks.torch.__emulated__ is True


FACTORIES: list[Callable[[], Tensor]] = [
    lambda: torch.zeros(2, device=HPU),
    lambda: torch.ones(2, dtype=torch.bfloat16, device="hpu:0"),
    lambda: torch.arange(5, device=HPU),
    lambda: torch.full((2,), 7.0, device=HPU),
    lambda: torch.randn(3, device=HPU),
    lambda: torch.eye(2, device=HPU),
    lambda: torch.linspace(0, 1, 3, device=HPU),
    lambda: torch.empty(2, device=HPU).new_zeros(3),
    lambda: torch.zeros_like(torch.empty(2, device=HPU)),
]


@pytest.mark.parametrize("factory", FACTORIES)
def test_factories_make_tensors_there(factory: Callable[[], Tensor]) -> None:
    """They are on the device, and nothing is copied to it."""
    before = counters.snapshot()
    tensor = factory()
    assert tensor.device == torch.device("hpu:0")
    assert isinstance(tensor, Tensor)
    assert not (counters.snapshot() - before).h2d_copies


def test_memory_that_nobody_wrote_is_nonsense() -> None:
    """Empty tensors hold NaN, or an integer out of any range."""
    assert torch.empty(2, device=HPU).cpu().isnan().all()
    assert torch.empty(2, dtype=torch.int32, device=HPU).cpu().eq(715_827_882).all()


def test_copies_to_the_device_are_counted() -> None:
    """One each, with its bytes; what needs no data from the host is none."""
    x = torch.arange(6.0).view(2, 3).to(HPU, non_blocking=True)
    copies: list[Callable[[], object]] = [
        lambda: torch.ones(6).to(HPU),
        lambda: torch.tensor([1, 2], device=HPU),
        lambda: x.new_tensor([1.0]),
        lambda: x.__setitem__(0, torch.ones(3)),
        lambda: x.copy_(torch.ones(2, 3)),
        lambda: x[[0, 1]],
    ]
    assert [spent(copy).h2d_copies.total() for copy in copies] == [1] * len(copies)
    assert spent(copies[0]).h2d_bytes == 24
    assert all(site.startswith("device.py:") for site in spent(copies[0]).h2d_copies)
    for free in (lambda: x.__setitem__((0, 1), 5), lambda: x.__setitem__(1, 2.0), lambda: x.add_(1)):
        assert not spent(free).h2d_copies


READS: list[tuple[str, Callable[[Tensor], object]]] = [
    ("item", lambda x: x.sum().item()),
    ("item", lambda x: bool(x.sum() > 0)),
    ("item", lambda x: int(x[0])),
    ("item", lambda x: f"{x.sum():.1f}"),
    ("tolist", lambda x: x.tolist()),
    ("cpu", lambda x: x.cpu()),
    ("cpu", lambda x: x.to("cpu")),
    ("copy_ to cpu", lambda x: torch.empty(2).copy_(x)),
    ("nonzero", lambda x: x.nonzero()),
    ("index with a boolean index", lambda x: x[x > 1]),
    ("masked_select", lambda x: x.masked_select(x > 1)),
    ("_unique2", lambda x: x.unique()),
    ("equal", lambda x: torch.equal(x, x)),
    ("allclose", lambda x: torch.allclose(x, x)),
    ("bincount", lambda x: x.int().bincount()),
    ("is_nonzero", lambda x: x[0].is_nonzero()),
]


@pytest.mark.parametrize(("kind", "read"), READS)
def test_reads_of_the_host_are_counted(kind: str, read: Callable[[Tensor], object]) -> None:
    """One each, with its kind and where it was called."""
    x = torch.tensor([1.0, 2.0], device=HPU)
    found = spent(lambda: read(x))
    assert found.host_reads == 1
    ((counted, site),) = found.d2h_syncs
    assert counted in (kind, "item", "_unique")
    assert site.startswith("device.py:")


def test_waiting_is_no_read() -> None:
    """It is counted, and moves no data."""
    found = spent(torch.hpu.synchronize)
    assert found.host_reads == 0
    assert [kind for kind, _ in found.d2h_syncs] == ["synchronize"]


def test_numpy_wants_the_host() -> None:
    """As on any device."""
    x = torch.ones(2, device=HPU)
    for convert in (x.numpy, lambda: np.asarray(x)):
        with pytest.raises(TypeError, match=r"Use Tensor\.cpu\(\)"):
            convert()


def test_a_read_that_does_not_wait_is_there_after_the_event() -> None:
    """Until then the host holds nonsense, also when the event was recorded too early."""
    x, place = torch.ones(2, device=HPU), torch.zeros(2)
    early = torch.hpu.Event()
    early.record()
    place.copy_(x, non_blocking=True)
    late = torch.hpu.Event()
    late.record()
    early.synchronize()
    assert place.isnan().all()
    late.synchronize()
    assert place.tolist() == [1.0, 1.0]
    moved = x.to("cpu", non_blocking=True)
    assert moved.isnan().all()
    torch.hpu.synchronize()
    assert moved.tolist() == [1.0, 1.0]


MIXTURES: list[Callable[[Tensor, Tensor], object]] = [
    lambda x, c: x + c,
    lambda x, c: c + x,
    lambda x, c: c @ x,
    lambda x, c: torch.cat([x, c]),
    lambda x, c: torch.where(c > 0, x, 0.0),
    lambda x, c: x[torch.tensor([0])],
    lambda x, c: nn.Linear(2, 2).to(HPU)(c),
    lambda x, c: torch.tensor(1.0).add_(x.sum()),
]


@pytest.mark.parametrize("mix", MIXTURES)
def test_tensors_of_the_host_are_refused(mix: Callable[[Tensor, Tensor], object]) -> None:
    """With the place where it happened."""
    with torch.no_grad(), pytest.raises(RuntimeError, match=r"same device.*device\.py:"):
        mix(torch.ones(2, 2, device=HPU), torch.ones(2, 2))


def test_numbers_of_the_host_pass() -> None:
    """Tensors without a dimension are scalars."""
    assert (torch.ones(2, device=HPU) * torch.tensor(2.0)).tolist() == [2.0, 2.0]


def test_there_is_no_double() -> None:
    """Neither made, nor cast, nor copied."""
    for make in (
        lambda: torch.zeros(2, dtype=torch.float64, device=HPU),
        lambda: torch.ones(2, device=HPU).double(),
        lambda: torch.ones(2, dtype=torch.float64).to(HPU),
    ):
        with pytest.raises(RuntimeError, match="float64 is not supported"):
            make()


def test_views_share_memory() -> None:
    """Writes through views are seen everywhere."""
    base = torch.zeros(4, 4, device=HPU)
    base.narrow(0, 1, 2).transpose(0, 1).fill_(3)
    base.view(-1)[0] = 9
    base.index_copy_(0, torch.tensor([3], device=HPU), torch.ones(1, 4, device=HPU))
    base[0, 2:] = 5
    assert base.tolist() == [[9, 0, 5, 5], [3, 3, 3, 3], [3, 3, 3, 3], [1, 1, 1, 1]]
    turned = base.t()
    assert turned._base is base
    base.add_(1)
    assert turned[0].tolist() == [10, 4, 4, 2]


def test_results_given_an_empty_tensor_grow_it() -> None:
    """`out=` changes the size of what the user holds."""
    out = torch.empty(0, device=HPU)
    torch.add(torch.ones(3, device=HPU), 1, out=out)
    assert out.shape == (3,)
    assert out.tolist() == [2.0, 2.0, 2.0]


def test_other_threads_use_the_device() -> None:
    """The device thread of a server is not the main thread."""
    found: list[Any] = []

    def work() -> None:
        with torch.inference_mode():
            found.append((torch.zeros(2, device="hpu") + torch.ones(2).to("hpu")).tolist())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [[1.0, 1.0]]


def test_streams_are_chosen_for_a_while() -> None:
    """By thread; the default one is number 0."""
    side = torch.hpu.Stream()
    with torch.hpu.stream(side):
        assert torch.hpu.current_stream() == side
        side.wait_stream(torch.hpu.default_stream())
    assert torch.hpu.current_stream() == torch.hpu.default_stream()


def test_what_the_card_does_not_have_is_absent() -> None:
    """No cache to empty, no pinned memory, and nothing to synchronise but all."""
    assert not hasattr(torch.hpu, "empty_cache")
    assert not hasattr(torch.hpu, "pin_memory")
    with pytest.raises(TypeError):
        torch.hpu.synchronize("hpu:0")
    setting = habana_frameworks.torch.internal.bridge_config.env_setting
    with pytest.raises(KeyError), setting("PT_NO_SUCH_THING", True):
        pass
