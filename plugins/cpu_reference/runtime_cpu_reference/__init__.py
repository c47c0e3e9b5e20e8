"""The oracle: Hugging Face's own model in fp32, so plain that other backends are measured against it.

transformers is imported only when the model is loaded.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util

from runtime import hookimpl
from runtime.backend import Availability, Backend, BackendSpec, Limits, ModelSpec


@hookimpl
def runtime_backends() -> list[BackendSpec]:
    summary = "transformers in fp32 on the CPU, one row at a time: the numerics oracle"
    return [BackendSpec(name="cpu_reference", summary=summary, contract="~=1.0", probe=probe, load=load, preference=0)]


def probe() -> Availability:
    """Look for transformers without importing it."""
    if importlib.util.find_spec("transformers") is None:
        return Availability(ok=False, reason="transformers is not installed; run: pip install transformers")
    versions = {package: importlib.metadata.version(package) for package in ("torch", "transformers")}
    return Availability(ok=True, details={"device": "cpu", **versions})


def load(model: ModelSpec, limits: Limits) -> Backend:
    """Load the weights, widened to fp32; raises ValueError when they do not fit the model's config."""
    from runtime_cpu_reference.backend import CpuReference

    return CpuReference(model, limits)
