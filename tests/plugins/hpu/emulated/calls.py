"""On the virtual device in lazy mode: every call of the plugin fits the record of every release of the bridge."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import habana_frameworks.torch as bridge
import habana_frameworks.torch.core as core
import habana_frameworks.torch.hpex.kernels as kernels
import habana_frameworks.torch.hpex.normalization as normalization
import habana_frameworks.torch.hpu.metrics as metrics
import pytest
import torch
from runtime.backend import DecodeShape, PrefillShape
from runtime.model import read_model
from runtime.static.warmup import empty_decode, empty_prefill
from support.checkpoints import Checkpoint, write_checkpoint
from support.hpu import FLASH, loaded

RECORDS = sorted((Path(__file__).parents[3] / "conformance" / "habana").glob("*.json"))
ROOT = "habana_frameworks.torch."
PLACES: dict[str, tuple[Any, str]] = {
    "core.mark_step": (core, "mark_step"),
    "hpex.kernels.FusedSDPA.forward": (kernels.FusedSDPA, "apply"),
    "hpex.kernels.apply_rotary_pos_emb": (kernels, "apply_rotary_pos_emb"),
    "hpex.normalization.FusedRMSNorm.forward": (normalization.FusedRMSNorm, "apply"),
    "hpu.graphs.wrap_in_hpu_graph": (bridge.hpu, "wrap_in_hpu_graph"),
    "hpu.mem_get_info": (torch.hpu, "mem_get_info"),  # type: ignore[attr-defined]
    "hpu.metrics.metric_global": (metrics, "metric_global"),
    "hpu.synchronize": (torch.hpu, "synchronize"),  # type: ignore[attr-defined]
}
"""By the names of the records, where the plugin finds what it calls."""


def signature(parameters: list[list[str]]) -> inspect.Signature:
    """Of a function as it is recorded: [name, kind, default]; the context that autograd puts first is left out."""
    found = []
    for name, kind, *default in parameters:
        if kind == "variadic":
            found.append(inspect.Parameter(name.lstrip("*"), inspect.Parameter.VAR_POSITIONAL))
        elif name != "ctx":
            default_of = default[0] if default else inspect.Parameter.empty
            found.append(inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default_of))
    return inspect.Signature(found)


def spied(real: Callable[..., Any], calls: list[tuple[Any, Any]]) -> Callable[..., Any]:
    def spy(*arguments: Any, **named: Any) -> Any:
        calls.append((arguments, named))
        return real(*arguments, **named)

    return spy


def test_every_call_binds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a load, a prefill from the start and one that resumes, a decode step, and what is told."""
    calls: dict[str, list[tuple[Any, Any]]] = {name: [] for name in PLACES}
    for name, (place, attribute) in PLACES.items():
        monkeypatch.setattr(place, attribute, spied(getattr(place, attribute), calls[name]))
    backend = loaded(read_model(write_checkpoint(tmp_path, Checkpoint())), enable_hpu_graph=True, **FLASH)
    backend.prefill(empty_prefill(PrefillShape(1, 64)))
    backend.prefill(empty_prefill(PrefillShape(1, 64, 64)))
    backend.decode(empty_decode(DecodeShape(2, 384)))
    backend.stats()
    backend._device.synchronise()
    assert len(RECORDS) == 3
    for path in RECORDS:
        recorded = json.loads(path.read_text(encoding="utf-8"))["signatures"]
        for name, made in calls.items():
            assert made, f"{name} is not called"
            takes = signature(recorded[ROOT + name]["parameters"])
            for arguments, named in made:
                takes.bind(*arguments, **named)
            if name.endswith(".forward"):
                assert not any(named for _, named in made), f"{name} takes its arguments by place"


def test_the_arguments_of_attention_have_the_same_places() -> None:
    """The nine that are given, in every release."""
    names = ["q", "k", "v", "attn_mask", "dropout_p", "is_causal", "scale", "softmax_mode", "recompute_mode"]
    for path in RECORDS:
        recorded = json.loads(path.read_text(encoding="utf-8"))["signatures"]
        parameters = recorded[f"{ROOT}hpex.kernels.FusedSDPA.forward"]["parameters"]
        assert [name for name, *_ in parameters][1:10] == names
