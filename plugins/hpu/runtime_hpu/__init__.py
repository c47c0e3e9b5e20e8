"""The backend `hpu`: Intel Gaudi, by the vendor's bridge to PyTorch, which is imported when a model is loaded."""

from __future__ import annotations

from runtime import hookimpl
from runtime.backend import Backend, BackendSpec, Limits, ModelSpec

from runtime_hpu.options import OPTIONS
from runtime_hpu.probe import availability


@hookimpl
def runtime_backends() -> list[BackendSpec]:
    return [
        BackendSpec(
            name="hpu",
            summary="Intel Gaudi: recorded or compiled graphs and the vendor's fused kernels",
            contract="~=1.1",
            probe=availability,
            load=load,
            options=OPTIONS,
            static_shapes=True,
        )
    ]


def load(model: ModelSpec, limits: Limits) -> Backend:
    """Set the environment, import the bridge and load the weights; call on the thread that will compute.

    Raises BackendRefused.
    """
    from runtime_hpu.loading import loaded

    return loaded(model, limits)
