"""The runner of CUDA graphs on a stand-in for `torch.cuda` whose streams run as late and as early as they may."""

from __future__ import annotations

import random

import pytest
import torch
from runtime.errors import UnplannedShape
from runtime.static.graphs import Outputs
from runtime_torch.cuda_device import CudaDevice
from runtime_torch.cuda_graphs import CudaGraphRunner
from support.fake_cuda import Event, FakeGpu, OnDevice, Stream, install

CPU = torch.device("cpu")
PLACES = 5


class Workload:
    """Two functions that share a buffer, as prefills and decode steps do, and what they should come to."""

    def __init__(self, gpu: FakeGpu) -> None:
        self.gpu = gpu
        self.runner = CudaGraphRunner(CPU)
        self.buffer = torch.zeros(PLACES, 2)
        self.expected = torch.zeros(PLACES, 2)
        self.pending: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        """What a key's last run answered, and what it should be."""
        with gpu.working():
            self.runner.warm("write", self.write, (torch.tensor([0]), torch.zeros(1, 2)))
            self.runner.warm("read", self.read, (torch.tensor([0, 1]),))

    def write(self, places: torch.Tensor, values: torch.Tensor) -> Outputs:
        self.buffer.index_copy_(0, places, values)
        return (values * 2,)

    def read(self, places: torch.Tensor) -> Outputs:
        return (self.buffer.index_select(0, places), places + 1)

    def run(self, key: str, wanted: torch.Tensor, *inputs: torch.Tensor) -> None:
        """Run, and overwrite what was given as soon as that returns."""
        with self.gpu.working():
            self.pending[key] = self.runner.run(key, inputs)[0], wanted
        for tensor in inputs:
            tensor.fill_(0)

    def is_wrong(self) -> bool:
        answers = [*self.pending.values(), (self.buffer, self.expected)]
        return any(not torch.equal(self.gpu.read(got), wanted) for got, wanted in answers)


def wrong_after(gpu: FakeGpu, steps: int, seed: int) -> bool:
    """Whether some number is wrong in random work, read now and then."""
    chance, load = random.Random(seed), Workload(gpu)
    for number in range(1, steps):
        if chance.random() < 0.5:
            place, values = torch.tensor([chance.randrange(PLACES)]), torch.full((1, 2), float(number))
            load.expected[place] = values
            load.run("write", 2 * values, place, values)
        else:
            places = torch.tensor([chance.randrange(PLACES) for _ in range(2)])
            load.run("read", load.expected[places], places)
        if chance.random() < 0.2 and load.is_wrong():
            return True
    return load.is_wrong()


@pytest.mark.parametrize("seed", range(30))
def test_every_run_is_of_its_own_inputs(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However late copies are done; and outputs stay until the next run of their key, whatever else runs."""
    assert not wrong_after(install(monkeypatch, seed), 40, seed)


@pytest.mark.parametrize(("kind", "name"), [(Stream, "wait_event"), (Event, "synchronize")])
def test_an_order_that_is_missing_shows(kind: type, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in is strict enough: without an event some number is wrong."""
    monkeypatch.setattr(kind, name, lambda *_: None)
    assert any(wrong_after(install(monkeypatch, seed), 40, seed) for seed in range(10))


def test_an_input_may_be_made_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is copied in the stream that made it, and what made it may run again at once."""
    gpu = install(monkeypatch)
    runner = CudaGraphRunner(CPU)
    with gpu.working():
        runner.warm("make", lambda x: (x * 2,), (torch.ones(1),))
        made = runner.run("make", (torch.ones(1),))[0].as_subclass(OnDevice)
        runner.warm("use", lambda x: (x + 1,), (made,))
        runner.run("make", (torch.tensor([3.0]),))
        (used,) = runner.run("use", (made,))
        runner.run("make", (torch.tensor([50.0]),))
        assert gpu.read(used).item() == 7
    assert len(gpu.staged) == 1


def test_only_a_warm_up_captures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each key once; a run replays, and a key that was not prepared is an error."""
    gpu = install(monkeypatch)
    runner = CudaGraphRunner(CPU)
    with gpu.working():
        runner.warm("key", lambda x, y: (x + y,), (torch.ones(1), torch.ones(1)))
        for _ in range(5):
            runner.run("key", (torch.ones(1), torch.ones(1)))
        with pytest.raises(UnplannedShape, match="another was not prepared"):
            runner.run("another", (torch.ones(1),))
    assert gpu.captures == 1
    assert runner.stats() == {"graph_captures": 1, "graph_runs": 5, "input_copies": 10}


def test_a_function_runs_plainly_before_it_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what the libraries load at the first call is loaded when they are captured."""
    gpu = install(monkeypatch)
    seen: list[bool] = []

    def watched(x: torch.Tensor) -> Outputs:
        seen.append(gpu.capturing)
        return (x,)

    with gpu.working():
        CudaGraphRunner(CPU).warm("key", watched, (torch.ones(1),))
    assert seen == [False, True]


def test_a_capture_without_memory_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device knows what failed, though the end of the capture fails too, and the stream is the one of before."""
    gpu = install(monkeypatch)
    gpu.full_at = {2}
    runner, device = CudaGraphRunner(CPU), CudaDevice(0)
    before = gpu.current
    with gpu.working():
        runner.warm("first", lambda x: (x,), (torch.ones(1),))
        with pytest.raises(RuntimeError, match="previous error during capture") as raised:
            runner.warm("second", lambda x: (x,), (torch.ones(1),))
        assert device.ran_out(raised.value)
        assert not device.is_lost(raised.value)
        assert gpu.current is before
        runner.clear()
        with pytest.raises(UnplannedShape):
            runner.run("first", (torch.ones(1),))
        runner.warm("first", lambda x: (x * 3,), (torch.ones(2),))
        (output,) = runner.run("first", (torch.tensor([1.0, 2.0]),))
        assert gpu.read(output).tolist() == [3, 6]
    assert gpu.emptied > 0


def test_a_function_may_answer_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As that which lays pictures."""
    gpu = install(monkeypatch)
    runner, buffer = CudaGraphRunner(CPU), torch.zeros(2)
    with gpu.working():

        def lay(x: torch.Tensor) -> Outputs:
            buffer.copy_(x)
            return ()

        runner.warm("lay", lay, (torch.zeros(2),))
        assert runner.run("lay", (torch.tensor([1.0, 2.0]),)) == ()
        assert gpu.read(buffer).tolist() == [1, 2]
