"""Loading the oracle's network: transformers' own class, in fp32, from safetensors of a local folder only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import transformers
from runtime.backend import ModelSpec


def load_net(model: ModelSpec) -> Any:
    """Load the model in fp32; raises ValueError when weights are missing, left over or of another shape."""
    dtype = "torch_dtype" if transformers.__version__.startswith("4.") else "dtype"
    with quiet():
        net, report = getattr(transformers, model.architecture).from_pretrained(
            model.path,
            **{dtype: torch.float32},
            attn_implementation="eager",
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # reported below, in one voice with the others
            output_loading_info=True,
        )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report[kind]:
            names = sorted(str(entry) for entry in report[kind])
            raise ValueError(f"the weights do not fit the config: {len(names)} {kind}, the first is {names[0]}")
    return net.eval()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' progress bars and notices off the terminal."""
    log: Any = transformers.utils.logging
    verbosity, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if bars:
            log.enable_progress_bar()
