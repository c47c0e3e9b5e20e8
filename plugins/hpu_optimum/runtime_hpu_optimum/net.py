"""Loading optimum-habana's network: its classes in the place of transformers' own, from safetensors of a local folder.

Importing this module changes nothing yet; `load_net` changes transformers for the whole process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from runtime.backend import ModelSpec
from runtime.errors import BackendRefused

ARCHITECTURE: Final = "LlavaNextForConditionalGeneration"


@dataclass(frozen=True, slots=True)
class Attention:
    """The flags of optimum-habana's attention."""

    flash: bool
    """Whether the fused kernel is used."""
    recompute: bool
    """Whether it recomputes in prefills."""

    def arguments(self) -> Mapping[str, bool]:
        return {"use_flash_attention": self.flash, "flash_attention_recompute": self.recompute}


@dataclass(frozen=True, slots=True)
class Net:
    """A loaded network."""

    module: Any
    """GaudiLlavaNextForConditionalGeneration, on the device."""
    dtype: torch.dtype
    attention: Attention
    graphs: bool
    """Whether its forward pass is recorded; a call may go past that with `bypass_hpu_graphs`."""

    is_lazy: bool
    """Whether the device collects operators before it runs them; there are no graphs otherwise."""

    def details(self) -> Mapping[str, str]:
        """Return what an operator should know when comparing."""
        return {
            "mode": ("lazy" if self.is_lazy else "eager") + (" with graphs" if self.graphs else ""),
            "attention": "fused" if self.attention.flash else "plain",
            "compute_dtype": str(self.dtype).removeprefix("torch."),
        }

    @property
    def device(self) -> torch.device:
        device: torch.device = self.module.device
        return device


def load_net(model: ModelSpec, dtype: str, attention: Attention, *, graphs: bool) -> Net:
    """Load the model; graphs are recorded in lazy mode only, for the vendor has none in eager mode.

    Raises BackendRefused for another architecture, and when weights are missing, left over or of another shape.
    """
    if model.architecture != ARCHITECTURE:
        raise BackendRefused(f"optimum-habana is asked for {ARCHITECTURE} only, and the model is {model.architecture}")
    import habana_frameworks.torch
    from habana_frameworks.torch.utils.internal import is_lazy
    from optimum.habana.transformers.modeling_utils import adapt_transformers_to_gaudi
    from optimum.habana.transformers.models import GaudiLlavaNextForConditionalGeneration

    adapt_transformers_to_gaudi()
    module, report = GaudiLlavaNextForConditionalGeneration.from_pretrained(
        model.path,
        torch_dtype=getattr(torch, dtype),
        attn_implementation="eager",
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report[kind]:
            names = sorted(str(entry) for entry in report[kind])
            raise BackendRefused(f"the weights do not fit the config: {len(names)} {kind}, the first is {names[0]}")
    for part in (module.vision_tower, module.language_model):
        if not type(part).__module__.startswith("optimum.habana."):
            raise BackendRefused(
                f"{type(part).__name__} is not optimum-habana's: this process has loaded a model of transformers "
                "before, and keeps its classes; load hpu_optimum in a process of its own"
            )
    module = module.eval().requires_grad_(False).to("hpu")
    module.image_offset = 0  # the class sets it with the first picture only, and reads it for text too
    recorded = graphs and is_lazy()
    if recorded:
        module = habana_frameworks.torch.hpu.wrap_in_hpu_graph(module)
    return Net(module, getattr(torch, dtype), attention, recorded, is_lazy())
