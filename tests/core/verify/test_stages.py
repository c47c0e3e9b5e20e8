"""The hook `stages` of this project's backends, and what `Hooks` makes of its answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from runtime.backend import Limits, ModelSpec, PrefillBatch
from runtime.batches import AnyShapes
from runtime.errors import BackendContractError
from runtime.hookspecs import hookimpl
from runtime.plugins import Hooks
from runtime.verify.cases import Case, cases_of
from runtime.verify.walk import Move, Prefill, Tokens, walk
from runtime_cpu_reference.backend import CpuReference
from runtime_cpu_reference.net import load_net
from support.verifying import LIMITS, cpu, static

FP32 = torch.float32


def reference(model: ModelSpec, limits: Limits, dtype: torch.dtype) -> CpuReference:
    return CpuReference(model, limits, dtype)


ALL = [reference, cpu, static]


def batch_of(model: ModelSpec, name: str) -> PrefillBatch:
    """The first prefill of a case, as it comes to a backend of any shape."""
    (case,) = cases_of(model, LIMITS, 240, 0, (name,))
    assert isinstance(case, Case)
    found: list[PrefillBatch] = []

    def take(move: Move) -> Tokens:
        found.extend([move.batch] if isinstance(move, Prefill) else [])
        return [5] * len(move.slots)

    walk(case, AnyShapes(LIMITS), True, take)
    return found[0]


@pytest.mark.parametrize("make", ALL)
def test_stages_are_named_and_shaped_as_the_contract_says(make: Callable[..., Any], model: ModelSpec) -> None:
    """Rows of different lengths and pictures of different tiles, one behind the other."""
    batch = batch_of(model, "aspect-ratios")
    assert model.images is not None
    assert model.vision is not None
    tiles = sum(sum(images.counts) for images in batch.images if images is not None)
    tokens, patches = int(batch.lengths.sum()), (model.images.tile // model.images.patch) ** 2
    width, side = model.vision.hidden, model.images.tile
    wanted = {
        "pixels": (tiles, 3, side, side),
        "vision": (tiles, patches, width),
        "projector": (tiles, patches, model.hidden),
        "embeddings": (tokens, model.hidden),
        "decoder": (tokens, model.hidden),
    }
    hooks = Hooks("tested", make(model, LIMITS, FP32), model, LIMITS)
    assert {name: tuple(stage.shape) for name, stage in hooks.stages(batch).items()} == wanted
    layers = {name: tuple(stage.shape) for name, stage in hooks.stages(batch, layers=True).items()}
    assert layers.items() >= wanted.items()
    told = layers.keys() - wanted.keys()
    assert told >= {f"vision.{layer}" for layer in range(4)} | {f"decoder.{layer}" for layer in (1, 2, 3)}
    assert {layers[name] for name in told if "vision" in name} == {(tiles, patches + 1, width)}
    assert {layers[name] for name in told if "decoder" in name} == {(tokens, model.hidden)}


@pytest.mark.parametrize("make", ALL)
def test_text_has_no_stages_of_pictures(make: Callable[..., Any], text_model: ModelSpec) -> None:
    """Those of the decoder are there."""
    hooks = Hooks("tested", make(text_model, LIMITS, FP32), text_model, LIMITS)
    assert set(hooks.stages(batch_of(text_model, "full-batch"))) == {"embeddings", "decoder"}


@pytest.mark.parametrize("make", ALL)
def test_stages_change_nothing_for_others(make: Callable[..., Any], model: ModelSpec) -> None:
    """A prefill after them gives the scores that it gives without them."""
    batch = batch_of(model, "aspect-ratios")
    asked, unasked = (make(model, LIMITS, FP32) for _ in range(2))
    Hooks("asked", asked, model, LIMITS).stages(batch, layers=True)
    assert torch.equal(asked.prefill(batch).logits, unasked.prefill(batch).logits)


def test_last_stage_leads_to_the_scores(model: ModelSpec) -> None:
    """The oracle's norm and head, on its decoder's output after the last token, give its own scores."""
    batch = batch_of(model, "one-picture")
    oracle = CpuReference(model, LIMITS)
    hidden = oracle.stages(batch, layers=False)["decoder"][-1:]
    net = oracle.net
    with torch.no_grad():
        logits = net.lm_head(net.get_decoder().norm(hidden))
    assert torch.allclose(logits, oracle.prefill(batch).logits, rtol=1e-4, atol=1e-4)


def test_stages_leave_no_hooks_behind(model: ModelSpec) -> None:
    """The oracle's network is as before."""
    oracle = CpuReference(model, LIMITS)
    oracle.stages(batch_of(model, "one-picture"), layers=True)  # transformers puts in some of its own, the first time
    modules = list(oracle.net.modules())
    before = [(len(module._forward_hooks), len(module._forward_pre_hooks)) for module in modules]
    oracle.stages(batch_of(model, "one-picture"), layers=True)
    assert [(len(module._forward_hooks), len(module._forward_pre_hooks)) for module in modules] == before


def test_layers_widened_one_at_a_time_are_the_same(model: ModelSpec) -> None:
    """To the last bit, while the weights of the decoder stay as they are stored."""
    batch = batch_of(model, "two-pictures")
    wide, narrow = CpuReference(model, LIMITS), CpuReference(model, LIMITS)
    narrow.net = load_net(model, FP32, narrow=True)
    stages = wide.stages(batch, layers=True)
    for name, stage in narrow.stages(batch, layers=True).items():
        assert torch.equal(stage, stages[name]), name
    assert torch.equal(narrow.prefill(batch).logits, wide.prefill(batch).logits)
    stored = {parameter.dtype for layer in narrow.net.get_decoder().layers for parameter in layer.parameters()}
    assert stored == {torch.bfloat16}


def test_oracle_is_narrow_where_wide_weights_take_most_of_the_memory(
    model: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a 7B model in fp32, 30 GB, would need a machine of its own."""
    sizes = {"SC_PHYS_PAGES": 1, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr("runtime_cpu_reference.net.os.sysconf", sizes.__getitem__)
    layer = CpuReference(model, LIMITS).net.get_decoder().layers[0]
    assert next(layer.parameters()).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_oracle_computes_in_another_type(dtype: torch.dtype, model: ModelSpec) -> None:
    """Its scores say so, and are near those in fp32."""
    batch = batch_of(model, "one-picture")
    wanted = CpuReference(model, LIMITS).prefill(batch).logits
    got = CpuReference(model, LIMITS, dtype).prefill(batch).logits
    assert got.dtype == dtype
    error = float((got.double() - wanted.double()).norm() / wanted.double().norm())
    assert 0 < error < 30 * max(torch.finfo(dtype).eps, torch.finfo(FP32).eps)


@pytest.mark.parametrize(
    ("answer", "told"),
    [([1.0], "answered a list"), ({"decoder": [1.0]}, "answered a dict"), ("decoder", "answered a str")],
)
def test_stages_that_are_no_tensors_are_a_breach(answer: object, told: str, model: ModelSpec) -> None:
    """The error names backend and hook."""

    class Odd:
        @hookimpl
        def prefill(self) -> None: ...

        @hookimpl
        def concatenate(self) -> None: ...

        @hookimpl
        def decode(self) -> None: ...

        @hookimpl
        def stages(self) -> object:
            return answer

    hooks = Hooks("odd", Odd(), model, LIMITS)  # type: ignore[arg-type]
    with pytest.raises(BackendContractError, match=f"backend odd: stages {told}, not a mapping of names to tensors"):
        hooks.stages(batch_of(model, "text"))
