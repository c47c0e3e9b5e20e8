"""Loading the oracle's network: transformers' own class, in fp32, from safetensors of a local folder only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
import transformers
from runtime.backend import ModelSpec

MOST_OF_MEMORY: Final = 0.6


def load_net(model: ModelSpec, dtype: torch.dtype = torch.float32, narrow: bool | None = None) -> Any:
    """Load the model to compute in `dtype`; ValueError when weights are missing, left over or of another shape.

    With `narrow`, by default where wide weights would take most of the memory, the decoder's layers keep their stored
    type and are widened one at a time, while they compute: the same values, for twice the time.
    """
    if narrow is None:
        narrow = _takes_most_of_memory(model, dtype)
    key = "torch_dtype" if transformers.__version__.startswith("4.") else "dtype"
    with quiet():
        net, report = getattr(transformers, model.architecture).from_pretrained(
            model.path,
            **{key: getattr(torch, model.dtype) if narrow else dtype},
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
    return _widened(net, dtype).eval() if narrow else net.eval()


def _takes_most_of_memory(model: ModelSpec, dtype: torch.dtype) -> bool:
    files = model.path.glob("*.safetensors")
    stored: torch.dtype = getattr(torch, model.dtype)
    wide = sum(file.stat().st_size for file in files) * dtype.itemsize // stored.itemsize
    return wide > MOST_OF_MEMORY * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _widened(net: Any, dtype: torch.dtype) -> Any:
    """Widen all but the decoder's layers, and those while they compute: no value changes on the way there and back."""
    layers = list(net.get_decoder().layers)
    narrow = next(layers[0].parameters()).dtype
    inner = {id(parameter) for layer in layers for parameter in layer.parameters()}
    for parameter in net.parameters():
        if id(parameter) not in inner:
            parameter.data = parameter.data.to(dtype)

    def widen(layer: Any, *_arguments: Any) -> None:
        layer.to(dtype)

    def put_back(layer: Any, *_arguments: Any) -> None:
        layer.to(narrow)

    for layer in layers:
        layer.register_forward_pre_hook(widen)
        layer.register_forward_hook(put_back)
    return net


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
