"""HPU graphs: what a capture refuses, and what a replay does and does not do. Run by test_emulated.py."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable

import habana_frameworks.torch as bridge
import pytest
import torch
from support.tiny_decoder import Decoder, generate
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from virtual_device import counters

hpu = bridge.hpu


def on(*data: float) -> Tensor:
    """A tensor of the device."""
    return torch.tensor(data, device="hpu")


class Accumulate(nn.Module):
    """Adds what it is given to a state, and tells how often Python ran."""

    def __init__(self) -> None:
        super().__init__()
        self.state = torch.zeros(2, device="hpu")
        self.calls = 0
        self.kept: list[Tensor] = []

    def forward(self, x: Tensor, factor: int) -> Tensor:
        self.calls += 1
        product = x * factor
        self.kept.append(product)
        self.state.add_(product)
        return (product + 1).view(2, 1)


@pytest.mark.parametrize("disable_tensor_cache", [False, True])
def test_a_replay_runs_no_python(disable_tensor_cache: bool) -> None:
    """It writes the same outputs, and persistent tensors, again."""
    module = hpu.wrap_in_hpu_graph(Accumulate(), disable_tensor_cache=disable_tensor_cache)
    first = module(on(1.0, 2.0), 2)
    assert first.tolist() == [[3.0], [5.0]]
    assert module.state.tolist() == [2.0, 4.0]
    again = module(on(10.0, 20.0), 2)
    assert again is first
    assert first.tolist() == [[21.0], [41.0]]
    assert module.state.tolist() == [22.0, 44.0]
    assert module.calls == 1


def test_with_the_tensor_cache_the_first_inputs_are_overwritten() -> None:
    """They are the caller's own."""
    module, x = hpu.wrap_in_hpu_graph(Accumulate()), on(1.0, 2.0)
    module(x, 2)
    module(on(10.0, 20.0), 2)
    assert x.tolist() == [10.0, 20.0]
    assert module.kept[0].tolist() == [20.0, 40.0]


def test_without_it_inputs_stay_and_intermediates_die() -> None:
    """What was kept on the way is nonsense, from the first call on."""
    module, x = hpu.wrap_in_hpu_graph(Accumulate(), disable_tensor_cache=True), on(1.0, 2.0)
    module(x, 2)
    assert module.kept[0].cpu().isnan().all()
    module(on(10.0, 20.0), 2)
    assert x.tolist() == [1.0, 2.0]
    assert module.kept[0].cpu().isnan().all()


@pytest.mark.parametrize("disable_tensor_cache", [False, True])
def test_an_input_that_is_written_to_is_the_callers(disable_tensor_cache: bool) -> None:
    """In place means in the tensor of this call, or in that of the first one when inputs are copied there."""

    class Twice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mul_(2) + 1

    module, x, y = hpu.wrap_in_hpu_graph(Twice(), disable_tensor_cache=disable_tensor_cache), on(1.0), on(5.0)
    assert module(x).tolist() == [3.0]
    assert x.tolist() == [2.0]
    assert module(y).tolist() == [11.0]
    assert (x.tolist(), y.tolist()) == (([2.0], [10.0]) if disable_tensor_cache else ([10.0], [5.0]))


@pytest.mark.parametrize(("variable", "disabled"), [("1", True), ("true", False), ("0", False)])
def test_the_environment_wins(monkeypatch: pytest.MonkeyPatch, variable: str, disabled: bool) -> None:
    """Over the argument, and only "1" means yes."""
    monkeypatch.setenv("PT_HPUGRAPH_DISABLE_TENSOR_CACHE", variable)
    module = hpu.wrap_in_hpu_graph(Accumulate(), disable_tensor_cache=not disabled)
    module(on(1.0, 2.0), 2)
    assert bool(module.kept[0].cpu().isnan().all()) is disabled


def test_control_keywords_do_not_reach_the_module() -> None:
    """One bypasses the graphs, one answers old outputs without a replay."""
    module = hpu.wrap_in_hpu_graph(Accumulate())
    before = counters.snapshot()
    assert module(on(1.0, 2.0), 2, bypass_hpu_graphs=True).tolist() == [[3.0], [5.0]]
    assert (counters.snapshot() - before).bypasses.total() == 1
    module(on(1.0, 2.0), 2)
    before = counters.snapshot()
    assert module(on(7.0, 8.0), 2, warmup_mode=True).tolist() == [[3.0], [5.0]]
    spent = counters.snapshot() - before
    assert (spent.replays.total(), spent.mark_steps.total()) == (0, 1)


def test_cleared_graphs_are_captured_again() -> None:
    """And their memory is given back."""
    module = hpu.wrap_in_hpu_graph(Accumulate())
    before = counters.snapshot()
    module(on(1.0, 2.0), 2)
    assert (counters.snapshot() - before).graph_bytes >= 2**20
    module.clear_cache()
    assert (counters.snapshot() - before).graph_bytes == 0
    module(on(1.0, 2.0), 2)
    assert (counters.snapshot() - before).captures == {"Accumulate(float32[2], 2)": 2}


def test_functions_are_wrapped_too() -> None:
    """Into a new callable."""
    double = hpu.wrap_in_hpu_graph_func(lambda x: x * 2)
    before = counters.snapshot()
    assert [double(on(value)).item() for value in (1.0, 2.0, 3.0)] == [2.0, 4.0, 6.0]
    assert (counters.snapshot() - before).replays.total() == 2


def test_a_graph_by_hand() -> None:
    """As in the vendor's simple capture: outputs, one of them a list of one, follow the inputs."""
    x, graph = on(1.0, 2.0), hpu.HPUGraph()
    with hpu.graph(graph):
        (values, places), (one,) = x.topk(2), torch._foreach_add([x], 1)
    assert one.tolist() == [2.0, 3.0]
    for _ in range(9):
        graph.replay()
    x.copy_(on(5.0, 4.0))
    graph.replay()
    assert values.tolist() == [5.0, 4.0]
    assert places.tolist() == [0, 1]
    assert one.tolist() == [6.0, 5.0]


def test_a_dry_run_leaves_everything_as_it_was() -> None:
    """Until the first replay."""
    state, graph = on(1.0), hpu.HPUGraph()
    with hpu.graph(graph, dry_run=True):
        result = state.add_(1) * 10
    assert state.item() == 1.0
    assert result.isnan().all()
    graph.replay()
    assert state.item() == 2.0
    assert result.item() == 20.0


def test_marked_inputs_are_given_anew() -> None:
    """Sizes must be those of the capture."""
    x, graph = on(1.0, 2.0), hpu.HPUGraph()
    graph.capture_begin()
    graph.mark_user_inputs([x])
    y = x + 1
    graph.capture_end()
    graph.mark_user_outputs([y])
    graph.replayV3([on(5.0, 6.0)])
    assert y.tolist() == [6.0, 7.0]
    assert x.tolist() == [1.0, 2.0]
    with pytest.raises(RuntimeError, match="was captured with inputs of"):
        graph.replayV3([on(1.0)])
    graph.reset()
    with pytest.raises(RuntimeError, match="nothing to replay"):
        graph.replay()


REFUSED: dict[str, Callable[[Tensor], object]] = {
    "item": lambda x: x.sum().item(),
    "item: ": lambda x: 1 if x.sum() > 0 else 2,
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "nonzero": lambda x: x.nonzero(),
    "masked_select": lambda x: x.masked_select(x > 0),
    "index with a boolean index": lambda x: x[x > 0],
    "index_put_ with a boolean index": lambda x: x.__setitem__(x > 0, 0.0),
    "copy_: host-to-device copy": lambda x: torch.ones(2).to("hpu"),
    "copy_: host-to-device": lambda x: torch.tensor(3.0, device="hpu"),
    "in-place update through a view": lambda x: x[:2].add_(1),
    "generator of the host": lambda x: x.uniform_(generator=torch.Generator()),
    "already in progress": lambda x: hpu.HPUGraph().capture_begin(),
    "Capture in progress": lambda x: hpu.HPUGraph().replay(),
    "synchronize": lambda x: torch.hpu.synchronize(),
    "cpu fallback": lambda x: torch.special.bessel_j0(x),
}


@pytest.mark.parametrize("words", REFUSED)
def test_captures_refuse(words: str) -> None:
    """With the operator, and the place where it happened; afterwards another capture is possible here."""
    x = on(1.0, 2.0, 3.0, 4.0)
    with pytest.raises(RuntimeError, match=rf"{words}.*graphs\.py:\d+"), hpu.graph(hpu.HPUGraph()):
        REFUSED[words](x)
    with hpu.graph(hpu.HPUGraph()):
        x + 1


def test_captures_take_what_stays_on_the_device() -> None:
    """Indices there, writes to base tensors, factories, numbers of Python."""
    x, places = on(1.0, 2.0, 3.0, 4.0), torch.tensor([1, 0], device="hpu")
    graph = hpu.HPUGraph()
    with hpu.graph(graph):
        x.index_copy_(0, places, torch.zeros(2, device="hpu") + 2.0)
        (torch.ones(1, 2, 2, device="hpu") @ torch.ones(2, 2, device="hpu")).add_(1)
        chosen = x.index_select(0, places) + torch.arange(2, device="hpu")
        bridge.core.mark_step()
        masked = torch.arange(3, device="hpu").masked_fill(torch.ones(3, device="hpu") > 0, 1)
    graph.replay()
    assert chosen.tolist() == [2.0, 3.0]
    assert masked.tolist() == [1, 1, 1]


def test_numbers_of_the_host_are_frozen() -> None:
    """Also those in tensors without a dimension."""
    number, x, graph = torch.tensor(2.0), on(1.0), hpu.HPUGraph()
    with hpu.graph(graph):
        y = x * number
    number.fill_(3.0)
    graph.replay()
    assert y.item() == 2.0


def test_a_capture_belongs_to_its_thread_and_stream() -> None:
    """Other threads may not use the device meanwhile, and it ends where it began."""
    failures: list[str] = []

    def intrude() -> None:
        try:
            torch.zeros(2, device="hpu")
        except RuntimeError as error:
            failures.append(str(error))

    graph = hpu.HPUGraph()
    graph.capture_begin()
    thread = threading.Thread(target=intrude)
    thread.start()
    thread.join()
    with hpu.stream(hpu.Stream()), pytest.raises(RuntimeError, match="must end on the same stream"):
        graph.capture_end()
    graph.capture_end()
    assert "another thread" in failures[0]


def test_inputs_of_the_host_are_refused() -> None:
    """At the capture and later."""
    module = hpu.wrap_in_hpu_graph(Accumulate())
    for _ in range(2):
        with pytest.raises(RuntimeError, match="an input of an hpu graph is on cpu"):
            module(torch.ones(2), 2)


@pytest.mark.parametrize("disable_tensor_cache", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_replayed_decoder_is_bit_identical(dtype: torch.dtype, disable_tensor_cache: bool) -> None:
    """And costs, after it ran twice, no capture, no compilation and two reads in nine steps."""
    torch.manual_seed(0)
    reference = Decoder().to(dtype).eval()
    model = copy.deepcopy(reference).to("hpu")
    graphed = hpu.wrap_in_hpu_graph(copy.deepcopy(reference).to("hpu"), disable_tensor_cache=disable_tensor_cache)
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH):
        for _ in range(3):
            prompt = torch.randint(0, 64, (2, 5))
            expected = generate(model, prompt, 8, "hpu")
            before = counters.snapshot()
            found = generate(graphed, prompt, 8, "hpu")
            spent = counters.snapshot() - before
            assert torch.equal(found[0], expected[0])
            assert torch.equal(found[1], expected[1])
    assert spent.replays.total() == 9
    assert (spent.captures.total(), spent.compilations, spent.host_reads) == (0, 0, 2)
