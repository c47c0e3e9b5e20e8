"""Backends on stock PyTorch; torch's own kernels are first touched when a model is loaded."""

from __future__ import annotations

from typing import Final

import torch
from runtime import hookimpl
from runtime.backend import Availability, Backend, BackendSpec, Knob, Limits, ModelSpec
from runtime.static.options import IMAGE_CACHE_BYTES

from runtime_torch import cuda_probe

OPTIONS: Final = (
    Knob(
        "dtype",
        "DTYPE",
        str,
        None,
        "Type to compute in; by default bfloat16 where the processor has instructions for it, else float32. float16 "
        "weights are converted.",
        choices=("bfloat16", "float32"),
    ),
    Knob("threads", "RUNTIME_THREADS", int, None, "Threads that compute; one per core by default.", highest=1024),
    IMAGE_CACHE_BYTES,
)

CUDA_OPTIONS: Final = (
    Knob(
        "dtype",
        "DTYPE",
        str,
        None,
        "Type to compute in, by default bfloat16; float16 weights are converted.",
        choices=("bfloat16", "float32"),
    ),
    IMAGE_CACHE_BYTES,
)


@hookimpl
def runtime_backends() -> list[BackendSpec]:
    return [
        BackendSpec(
            name="cpu",
            summary="fast serving on the CPU, in bf16 where the processor can",
            contract="~=1.1",
            probe=probe,
            load=load,
            options=OPTIONS,
            preference=10,
        ),
        BackendSpec(
            name="cuda",
            summary="NVIDIA GPUs: CUDA graphs and flash attention; not tried on a card yet",
            contract="~=1.1",
            probe=cuda_probe.availability,
            load=load_cuda,
            options=CUDA_OPTIONS,
            preference=0,  # until it has run on a card, nobody gets it who has not asked for it
            static_shapes=True,
        ),
    ]


def probe() -> Availability:
    """Tell what the processor can; any will do."""
    return Availability(ok=True, details={"device": "cpu", "torch": str(torch.__version__), "dtype": best_dtype()})


def best_dtype() -> str:
    """Return bfloat16 where the processor has instructions for it; elsewhere it is many times slower than float32."""
    # The questions are private, so a PyTorch without them is taken to say no.
    answers = (getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return "bfloat16" if any(answers) else "float32"


def load(model: ModelSpec, limits: Limits) -> Backend:
    """Load the weights; call on the thread that will compute. Raises BackendRefused."""
    from runtime_torch.cpu import Cpu
    from runtime_torch.memory import keep_freed_memory
    from runtime_torch.threads import settle_threads

    options = limits.options
    threads, cache = options["threads"], options["image_cache_bytes"]
    assert threads is None or isinstance(threads, int)
    assert isinstance(cache, int)
    settle_threads(threads)
    keep_freed_memory()
    return Cpu(model, limits, getattr(torch, str(options["dtype"] or best_dtype())), cache)


def load_cuda(model: ModelSpec, limits: Limits) -> Backend:
    """Load the weights on the card; call on the thread that will compute. Raises BackendRefused."""
    from runtime_torch.cuda import loaded

    return loaded(model, limits)
