"""The oracle: Hugging Face's own model in fp32, so plain that other backends are measured against it.

transformers is imported only when the model is loaded.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from typing import Final

from runtime import hookimpl
from runtime.backend import Availability, Backend, BackendSpec, Knob, Limits, ModelSpec

OPTIONS: Final = (
    Knob(
        "reference_dtype",
        "REFERENCE_DTYPE",
        str,
        "float32",
        "Type that cpu_reference computes in; another only to measure what is lost in it.",
        choices=("float64", "float32", "bfloat16", "float16"),
    ),
)


@hookimpl
def runtime_backends() -> list[BackendSpec]:
    summary = "transformers in fp32 on the CPU, one row at a time: the numerics oracle"
    return [
        BackendSpec(
            name="cpu_reference",
            summary=summary,
            contract="~=1.1",
            probe=probe,
            load=load,
            options=OPTIONS,
            preference=0,
        )
    ]


def probe() -> Availability:
    """Look for transformers without importing it."""
    if importlib.util.find_spec("transformers") is None:
        return Availability(ok=False, reason="transformers is not installed; run: pip install transformers")
    versions = {package: importlib.metadata.version(package) for package in ("torch", "transformers")}
    return Availability(ok=True, details={"device": "cpu", **versions})


def load(model: ModelSpec, limits: Limits) -> Backend:
    """Load the weights, widened to fp32; raises ValueError when they do not fit the model's config."""
    import torch

    from runtime_cpu_reference.backend import CpuReference

    return CpuReference(model, limits, getattr(torch, str(limits.options.get("reference_dtype", "float32"))))
