"""The card that is measured, or the CPU to try the benchmark out: its rates, and backends on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field

import torch
from runtime.backend import Limits, ModelSpec
from runtime.static.device import Device, Host
from runtime.static.graphs import Function, GraphRunner, Inputs, Outputs, PlainRunner
from runtime_torch.cuda import GRAPH_SHARE, RESERVE, Cuda
from runtime_torch.cuda_device import CudaDevice
from runtime_torch.cuda_graphs import CudaGraphRunner
from runtime_torch.cuda_kernels import CudaKernels, find_flash

from benchmarks.cuda.random_weights import RandomWeights
from benchmarks.serving.bounds import Machine


class RandomCuda(Cuda):
    """The backend with weights of no meaning."""

    weights = RandomWeights


@dataclass
class StageClock:
    """A runner that can tell how long its functions take, by the kind of their keys; it waits for each then."""

    inner: GraphRunner
    synchronise: Callable[[], None]
    seconds: dict[str, float] | None = None
    """None while nothing is timed."""

    def warm(self, key: Hashable, function: Function, inputs: Inputs) -> None:
        self.inner.warm(key, function, inputs)

    def run(self, key: Hashable, inputs: Inputs) -> Outputs:
        if self.seconds is None:
            return self.inner.run(key, inputs)
        self.synchronise()
        started = time.perf_counter()
        outputs = self.inner.run(key, inputs)
        self.synchronise()
        kind = type(key).__name__
        self.seconds[kind] = self.seconds.get(kind, 0.0) + time.perf_counter() - started
        return outputs

    def clear(self) -> None:
        self.inner.clear()

    def stats(self) -> Mapping[str, float]:
        return self.inner.stats()


@dataclass(frozen=True)
class Card:
    """Where everything is computed; `torch_device` is a card or the CPU."""

    torch_device: torch.device
    is_card: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_card", self.torch_device.type == "cuda")

    def synchronise(self) -> None:
        if self.is_card:
            torch.cuda.synchronize()

    def free(self) -> int:
        """Bytes that the driver has left; 0 on the CPU."""
        if not self.is_card:
            return 0
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info()[0]

    def facts(self) -> dict[str, str]:
        """Return what a reader of the figures must know."""
        found = {"torch": str(torch.__version__), "device": "cpu: these figures mean nothing"}
        if self.is_card:
            properties = torch.cuda.get_device_properties(0)
            memory = f"{properties.total_memory / 2**30:.1f} GiB"
            found |= {"device": properties.name, "memory": memory, "cuda": str(torch.version.cuda)}
        return found

    def seconds(self, work: Callable[[], object], times: int = 10) -> float:
        """Return what some work takes, on the average of several that are waited for together; best of three."""
        work()
        shortest = float("inf")
        for _ in range(3):
            self.synchronise()
            started = time.perf_counter()
            for _ in range(times):
                work()
            self.synchronise()
            shortest = min(shortest, (time.perf_counter() - started) / times)
        return shortest

    def machine(self) -> Machine:
        """Measure the bounds: a copy reads and writes, and products are of square bf16 matrices."""
        size, side = (4 * 2**30, 8192) if self.is_card else (2**20, 64)
        source = torch.ones(size // 2, dtype=torch.bfloat16, device=self.torch_device)
        target = torch.empty_like(source)
        copy = self.seconds(lambda: target.copy_(source))
        left = torch.randn(side, side, device=self.torch_device, dtype=torch.bfloat16)
        product = self.seconds(lambda: left @ left)
        return Machine(read=2 * size / copy, multiply=2 * side**3 / product)

    def backend(self, model: ModelSpec, limits: Limits) -> tuple[RandomCuda, StageClock]:
        """Load the backend with random weights, bf16 on a card, and the clock in it."""
        dtype = torch.bfloat16 if self.is_card else torch.float32
        device: Device = CudaDevice(RESERVE) if self.is_card else Host()
        inner: GraphRunner = CudaGraphRunner(self.torch_device) if self.is_card else PlainRunner(device)
        flash = find_flash(dtype, model.decoder.head_dim, self.torch_device)
        clock = StageClock(inner, self.synchronise)
        return RandomCuda(model, limits, dtype, device, CudaKernels(flash), clock, 0, GRAPH_SHARE), clock
