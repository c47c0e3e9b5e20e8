"""optimum-habana's LLaVA-NeXT as it is: a second opinion on Gaudi, to compare speed and results with.

Loading it changes transformers for the whole process, so nothing of it is imported before.
"""

from __future__ import annotations

from typing import Final

from runtime import hookimpl
from runtime.backend import Availability, Backend, BackendSpec, Knob, Limits, ModelSpec

from runtime_hpu_optimum.requirements import VENDOR, lack, versions

OPTIONS: Final = (
    Knob("dtype", "DTYPE", str, None, "Type to compute in; bfloat16 by default.", choices=("bfloat16", "float32")),
    Knob("enable_hpu_graph", "ENABLE_HPU_GRAPH", bool, True, "Record device graphs."),
    Knob("use_flash_attention", "USE_FLASH_ATTENTION", bool, False, "Use the fused attention kernel."),
    Knob(
        "flash_attention_recompute",
        "FLASH_ATTENTION_RECOMPUTE",
        bool,
        False,
        "Let that kernel recompute in prefills.",
    ),
)
"""By the names and with the defaults of TGI-Gaudi."""


@hookimpl
def runtime_backends() -> list[BackendSpec]:
    return [
        BackendSpec(
            name="hpu_optimum",
            summary="optimum-habana's own LLaVA-NeXT on Gaudi, for comparison",
            contract="~=1.1",
            probe=probe,
            load=load,
            options=OPTIONS,
            preference=0,
            static_shapes=True,
        )
    ]


def probe() -> Availability:
    """Look for what it needs without importing any of it."""
    reason = lack()
    if reason is not None:
        return Availability(ok=False, reason=reason)
    found = versions()
    device = "hpu-emulated" if "emulated" in found.get(VENDOR, "") else "hpu"
    return Availability(ok=True, details={"device": device, **found})


def load(model: ModelSpec, limits: Limits) -> Backend:
    """Load the weights; raises BackendRefused for a model that is no LLaVA-NeXT or whose weights do not fit its config.

    transformers is another in this process from then on.
    """
    from runtime_hpu_optimum.backend import HpuOptimum
    from runtime_hpu_optimum.net import Attention, load_net

    options = limits.options
    attention = Attention(bool(options["use_flash_attention"]), bool(options["flash_attention_recompute"]))
    net = load_net(model, str(options["dtype"] or "bfloat16"), attention, graphs=bool(options["enable_hpu_graph"]))
    return HpuOptimum(model, limits, net)
