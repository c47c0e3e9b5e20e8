"""The settings of the backend; those of TGI-Gaudi's guide by its names and with its defaults."""

from __future__ import annotations

from typing import Final

from runtime.backend import Knob
from runtime.static.options import IMAGE_CACHE_BYTES

OPTIONS: Final = (
    Knob(
        "hpu_mode",
        "HPU_MODE",
        str,
        "auto",
        "How the device is driven: `lazy` with recorded graphs, `compile` or plain `eager`; `auto` takes what "
        "PT_HPU_LAZY_MODE says, else lazy where PyTorch is the vendor's build, which alone can, else compile.",
        choices=("auto", "lazy", "compile", "eager"),
    ),
    Knob(
        "dtype",
        "DTYPE",
        str,
        None,
        "Type to compute in, by default bfloat16; float16 weights are converted.",
        choices=("bfloat16", "float32"),
    ),
    Knob(
        "enable_hpu_graph",
        "ENABLE_HPU_GRAPH",
        bool,
        True,
        "Record each shape as an HPU graph, or compile it in the mode that has none.",
    ),
    Knob(
        "limit_hpu_graph",
        "LIMIT_HPU_GRAPH",
        bool,
        False,
        "Do so for decode steps and pictures only, not for prefills, to save memory.",
    ),
    Knob("use_flash_attention", "USE_FLASH_ATTENTION", bool, False, "Use the fused attention kernel."),
    Knob(
        "flash_attention_recompute",
        "FLASH_ATTENTION_RECOMPUTE",
        bool,
        False,
        "Let that kernel recompute in prefills, which saves memory.",
    ),
    Knob(
        "graph_reserve_percent",
        "GRAPH_RESERVE_PERCENT",
        int,
        None,
        "Part of the memory left beside the weights that is kept for graphs; the rest holds tokens. By default 30 in "
        "lazy mode and 10 in the others.",
        lowest=0,
        highest=95,
    ),
    Knob(
        "pt_hpu_enable_lazy_collectives",
        "PT_HPU_ENABLE_LAZY_COLLECTIVES",
        bool,
        None,
        "Handed on to the vendor's bridge; matters to several devices only.",
    ),
    Knob(
        "pt_hpu_recipe_cache_config",
        "PT_HPU_RECIPE_CACHE_CONFIG",
        str,
        None,
        "Cache of compiled recipes on a local disk, for the next start: PATH,DELETE_AT_START,MEGABYTES, as "
        "/cache,false,8192.",
    ),
    IMAGE_CACHE_BYTES,
)
