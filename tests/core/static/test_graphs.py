"""Functions prepared before service, and the strict runner that the other tests run them with."""

from __future__ import annotations

import logging

import pytest
import torch
from runtime.backend import DecodeShape
from runtime.errors import BackendError, UnplannedShape
from runtime.static.device import Host
from runtime.static.graphs import Call, GraphRunner, Graphs, Outputs, PlainRunner
from support.recorded import NotRecordable, RecordedRunner

SHAPE = DecodeShape(rows=2, context=128)

RUNNERS = pytest.mark.parametrize("runner", [PlainRunner(Host()), RecordedRunner()], ids=["plain", "recorded"])


def doubled(x: torch.Tensor) -> Outputs:
    return (x * 2,)


def call(*values: float, key: object = SHAPE) -> Call:
    return Call(key, doubled, (torch.tensor(values),))


@RUNNERS
def test_a_prepared_function_runs_on_what_it_is_given(runner: GraphRunner) -> None:
    """And before that once, as it will be in service."""
    graphs = Graphs(runner, strict=True)
    (first,) = graphs.warm(call(1, 2))
    assert first.tolist() == [2, 4]
    graphs.seal()
    (later,) = graphs.run(call(3, 5))
    assert later.tolist() == [6, 10]
    stats = graphs.stats()
    assert stats["graphs"] == 1
    assert stats["unknown_shapes"] == 0


def test_an_unknown_shape_is_prepared_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The log tells the shape in clear; the second time it is known."""
    graphs = Graphs(PlainRunner(Host()), strict=False)
    graphs.seal()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            (output,) = graphs.run(call(1, 2))
            assert output.tolist() == [2, 4]
    assert graphs.stats()["unknown_shapes"] == 1
    assert [record.getMessage() for record in caplog.records] == [
        "DecodeShape(rows=2, context=128) is not in the plan and is prepared in service; requests wait for it"
    ]


def test_an_unknown_shape_is_an_error_when_strict() -> None:
    """For tests; it is counted too."""
    graphs = Graphs(PlainRunner(Host()), strict=True)
    graphs.seal()
    with pytest.raises(UnplannedShape, match=r"DecodeShape\(rows=2, context=128\)"):
        graphs.run(call(1, 2))
    assert graphs.stats()["unknown_shapes"] == 1


def test_before_the_seal_no_shape_is_unknown(caplog: pytest.LogCaptureFixture) -> None:
    """Without a warm-up every function is prepared when it is met."""
    graphs = Graphs(PlainRunner(Host()), strict=True)
    (output,) = graphs.run(call(1, 2))
    assert output.tolist() == [2, 4]
    assert graphs.stats()["unknown_shapes"] == 0
    assert not caplog.records


@pytest.mark.parametrize("tensor", [torch.zeros(3), torch.zeros(2, dtype=torch.float64), torch.zeros(2, 1)])
def test_a_key_has_one_form(tensor: torch.Tensor) -> None:
    """Inputs of another shape or dtype than the function was prepared for."""
    graphs = Graphs(PlainRunner(Host()), strict=False)
    graphs.warm(call(1, 2))
    with pytest.raises(BackendError, match="prepared for"):
        graphs.run(Call(SHAPE, doubled, (tensor,)))


@RUNNERS
def test_what_is_forgotten_can_be_prepared_again(runner: GraphRunner) -> None:
    """As for a cache at another address."""
    graphs = Graphs(runner, strict=True)
    graphs.warm(call(1, 2))
    graphs.clear()
    assert graphs.stats()["graphs"] == 0
    (output,) = graphs.warm(call(2, 3, 4))
    assert output.tolist() == [4, 6, 8]


def test_a_recorded_function_freezes_what_it_took_from_python() -> None:
    """Which is how a number of the batch that is no input shows."""
    factor, runner = 2.0, RecordedRunner()
    runner.warm("key", lambda x: (x * factor,), (torch.ones(1),))
    factor = 3.0
    assert runner.run("key", (torch.ones(1),))[0].item() == 2.0


def test_a_recorded_function_writes_to_what_was_there_before() -> None:
    """Through views too; that is how a cache is filled."""
    cache, runner = torch.zeros(4, 2), RecordedRunner()

    def write(places: torch.Tensor, values: torch.Tensor) -> Outputs:
        cache.view(2, 2, 2)[1].index_copy_(0, places, values)
        return ()

    runner.warm("key", write, (torch.tensor([0]), torch.zeros(1, 2)))
    assert runner.run("key", (torch.tensor([1]), torch.ones(1, 2))) == ()
    assert cache.tolist() == [[0, 0], [0, 0], [0, 0], [1, 1]]


def test_the_output_of_a_recorded_function_lasts_until_its_next_run() -> None:
    """It is the same tensor every time."""
    runner = RecordedRunner()
    runner.warm("key", doubled, (torch.zeros(1),))
    (first,) = runner.run("key", (torch.tensor([1.0]),))
    (second,) = runner.run("key", (torch.tensor([2.0]),))
    assert first is second
    assert second.item() == 4


@pytest.mark.parametrize(
    "function",
    [
        lambda x: (x * float(x.sum()),),
        lambda x: (x[x > 0],),
        lambda x: (x.nonzero(),),
        lambda x: (x if x.sum() > 0 else -x,),
        lambda x: (x + torch.tensor([1.0, 2.0]),),
    ],
)
def test_a_recorded_function_asks_the_device_for_nothing(function: object) -> None:
    """A number, a mask as an index, the places that are not 0, a branch; nor does it bring anything along."""
    with pytest.raises(NotRecordable):
        RecordedRunner().warm("key", function, (torch.ones(2),))
