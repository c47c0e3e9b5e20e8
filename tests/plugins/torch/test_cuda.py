"""The backend `cuda` without a card: its kernels on the CPU, its graphs on a stand-in whose streams run late."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import runtime_torch
import torch
from runtime.backend import DecodeShape, Limits, ModelSpec, PrefillShape, ShapePlan
from runtime.errors import BackendRefused, DeviceLost
from runtime.model import read_model
from runtime.static.device import Host
from runtime.static.graphs import GraphRunner
from runtime.static.warmup import empty_decode
from runtime_torch import cuda
from runtime_torch.cuda_device import CudaDevice
from runtime_torch.cuda_graphs import CudaGraphRunner
from runtime_torch.cuda_kernels import CudaKernels, Flash
from support.agreement import GEOMETRIES, NOISE
from support.checkpoints import DEMO, write_checkpoint
from support.fake_cuda import LOST, FakeGpu, install
from support.flash import flash
from support.mixed import serve_mixed
from support.recorded import RecordedRunner
from support.static import CACHE, LIMITS, agreement, ignore, plan_of

CPU = torch.device("cpu")
SEVERAL = ("grouped heads", "one key head, tied", "ungrouped, wide heads")


class OnHost(CudaDevice):
    """The device, with its tensors on the host."""

    def __init__(self, reserve: int) -> None:
        super().__init__(reserve)
        self.torch_device = CPU


@pytest.fixture(scope="module", params=[*SEVERAL, "demo"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    """The bundled model and some of random weights."""
    if request.param == "demo":
        return read_model(DEMO)
    return read_model(write_checkpoint(tmp_path_factory.mktemp("model"), GEOMETRIES[request.param]))


@pytest.fixture(scope="module")
def demo() -> ModelSpec:
    return read_model(DEMO)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGpu]:
    """A stand-in at work."""
    gpu = install(monkeypatch)
    with gpu.working():
        yield gpu


def made(model: ModelSpec, runner: GraphRunner, form: Flash | None = flash, limits: Limits = LIMITS) -> cuda.Cuda:
    """The backend in fp32, in which it must agree."""
    device = OnHost(0) if isinstance(runner, CudaGraphRunner) else Host()
    kernels = CudaKernels(form)
    return cuda.Cuda(model, limits, torch.float32, device, kernels, runner, CACHE, cuda.GRAPH_SHARE, strict=True)


@pytest.mark.parametrize("form", [flash, None], ids=["flash", "masked"])
def test_greedy_tokens_are_the_oracle_s(form: Flash | None, model: ModelSpec) -> None:
    """In fp32, recorded and replayed, whatever joins, leaves, waits, is padded or computed in parts."""
    plan, backend = plan_of(model), made(model, RecordedRunner(), form)
    backend.warmup(plan, ignore)
    traffic = agreement(backend, model, 0, plan)
    traffic.run(steps=25)
    assert max(traffic.differences) < NOISE
    assert backend.stats()["unknown_shapes"] == 0


@pytest.mark.parametrize("seed", range(2))
def test_greedy_tokens_are_the_oracle_s_however_late_the_streams_are(seed: int, demo: ModelSpec, gpu: FakeGpu) -> None:
    """And nothing is captured after the warm-up."""
    gpu.chance.seed(seed)
    plan, backend = plan_of(demo), made(demo, CudaGraphRunner(CPU))
    backend.warmup(plan, ignore)
    captures = gpu.captures
    traffic = agreement(backend, demo, seed, plan)
    traffic.run(steps=40)
    assert max(traffic.differences) < NOISE
    assert gpu.captures == captures == len(plan.prefill) + len(plan.decode) + 2 * len(plan.vision)
    assert backend.stats()["graph_captures"] == captures


PLAN = ShapePlan(prefill=(PrefillShape(1, 16),), decode=(DecodeShape(4, 64), DecodeShape(2, 64), DecodeShape(1, 64)))


def test_a_capture_without_memory_steps_back(demo: ModelSpec, gpu: FakeGpu) -> None:
    """To fewer slots, with everything captured anew; what then fits is served."""
    gpu.full_at = {2}
    backend = made(demo, CudaGraphRunner(CPU))
    backend.warmup(PLAN, ignore)
    assert backend.capacity().rows == 2
    assert backend.decode(empty_decode(PLAN.decode[1])).logits.shape == (2, demo.vocabulary)


def test_an_error_that_sticks_loses_the_device(demo: ModelSpec, gpu: FakeGpu) -> None:
    """In any step; what the driver says is for the log."""
    backend = made(demo, CudaGraphRunner(CPU))
    backend.warmup(PLAN, ignore)
    gpu.is_lost = True
    with pytest.raises(DeviceLost) as raised:
        backend.decode(empty_decode(PLAN.decode[0]))
    assert LOST in str(raised.value.__cause__)
    assert "CUDA" not in str(raised.value)


def test_a_step_is_launched_and_not_waited_for(demo: ModelSpec, gpu: FakeGpu) -> None:
    """So core is told that it may tell the step before meanwhile; prompts are computed in parts."""
    backend = made(demo, CudaGraphRunner(CPU))
    backend.warmup(PLAN, ignore)
    gpu.chance.random = lambda: 1.0  # type: ignore[method-assign]  # no time passes by itself
    backend.decode(empty_decode(PLAN.decode[0]))
    backend.decode(empty_decode(PLAN.decode[1]))
    assert gpu.current.work
    capacity = backend.capacity()
    assert (capacity.asynchronous, capacity.resumes) == (True, True)


@pytest.fixture
def on_host(monkeypatch: pytest.MonkeyPatch, gpu: FakeGpu) -> FakeGpu:
    """Loading as on a card, with tensors on the host."""
    monkeypatch.setattr(cuda, "CudaDevice", OnHost)
    return gpu


def options(**given: Any) -> Limits:
    """Limits with the options of the backend."""
    defaults = {option.name: option.default for option in runtime_torch.CUDA_OPTIONS}
    return replace(LIMITS, options={**defaults, **given})


@pytest.mark.parametrize(("dtype", "computed"), [(None, "bfloat16"), ("float32", "float32")])
def test_it_is_tried_and_tells_what_it_runs_as(
    dtype: str | None, computed: str, demo: ModelSpec, on_host: FakeGpu
) -> None:
    """On one prompt with a picture, against the host."""
    backend = runtime_torch.load_cuda(demo, options(dtype=dtype))
    assert isinstance(backend, cuda.Cuda)
    details = backend.capacity().details
    assert details["compute_dtype"] == computed
    assert details["decode_attention"] == "masked"  # the CPU has no flash attention
    assert details["self_test"].startswith("this model: prefill 0.")
    assert on_host.captures > 0


@pytest.mark.anyio
async def test_mixed_requests_capture_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Through the engine, with chunks, reused prefixes and every way of sampling; on a card two thousand."""
    install(monkeypatch)
    monkeypatch.setattr(cuda, "CudaDevice", OnHost)
    model = read_model(write_checkpoint(tmp_path, GEOMETRIES["grouped heads"]))
    before, after = await serve_mixed(
        lambda: runtime_torch.load_cuda(model, options()), model, LIMITS, plan_of(model), 30
    )
    assert after["graph_captures"] == before["graph_captures"] > 0
    assert after["unknown_shapes"] == 0
    assert after["graph_runs"] > before["graph_runs"] + 30


def test_a_card_that_fails_when_it_is_tried_is_refused(
    demo: ModelSpec, on_host: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the driver's words, which the operator needs."""

    def failing(runner: CudaGraphRunner, *_: object) -> None:
        on_host.is_lost = True
        raise RuntimeError(LOST)

    monkeypatch.setattr(CudaGraphRunner, "warm", failing)
    with pytest.raises(BackendRefused, match="the device failed when it was tried: CUDA error: an illegal memory"):
        runtime_torch.load_cuda(demo, options())
