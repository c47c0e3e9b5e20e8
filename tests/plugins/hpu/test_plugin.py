"""What the plugin declares, and where it meets the vendor."""

from __future__ import annotations

import ast
import logging
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import runtime_hpu
import torch
from packaging.specifiers import SpecifierSet
from runtime.backend import CONTRACT_VERSION
from runtime.errors import BackendRefused
from runtime.static.kernels import TorchStaticKernels
from runtime_hpu.kernels import HpuKernels, import_bridge
from support.options import OPTIONS

SOURCES = sorted(Path(runtime_hpu.__file__).parent.glob("*.py"))


def test_one_backend_is_offered() -> None:
    """It speaks the contract of this version and needs to know every shape; `auto` prefers it to `cpu`."""
    (spec,) = runtime_hpu.runtime_backends()
    assert spec.name == "hpu"
    assert CONTRACT_VERSION in SpecifierSet(spec.contract)
    assert spec.static_shapes
    assert spec.preference > 10


def test_the_guide_s_variables_are_options() -> None:
    """With the defaults of its table."""
    defaults = {option.environment: option.default for option in OPTIONS}
    guide = {
        "ENABLE_HPU_GRAPH": True,
        "LIMIT_HPU_GRAPH": False,
        "USE_FLASH_ATTENTION": False,
        "FLASH_ATTENTION_RECOMPUTE": False,
    }
    assert {name: defaults[name] for name in guide} == guide
    assert {"PT_HPU_ENABLE_LAZY_COLLECTIVES", "PT_HPU_RECIPE_CACHE_CONFIG"} <= defaults.keys()


def test_the_vendor_is_imported_in_two_files_and_late() -> None:
    """Those of kernels and of graphs, within their functions."""
    importing = set()
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.startswith("habana_frameworks") for name in names):
                importing.add(path.name)
                assert node not in tree.body
    assert importing == {"graphs.py", "kernels.py"}


def test_kernels_that_are_missing_are_replaced(caplog: pytest.LogCaptureFixture) -> None:
    """Each by stock PyTorch, with a line in the log."""
    with caplog.at_level(logging.WARNING):
        kernels = HpuKernels(flash=True, recompute=True)
    assert kernels.fused == []
    assert [message.split()[2] for message in caplog.messages] == ["FusedSDPA", "FusedRMSNorm", "apply_rotary_pos_emb"]
    assert all("stock PyTorch takes its place: No module named" in message for message in caplog.messages)
    stock, generator = TorchStaticKernels(), torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, 2, 3, 4, generator=generator) for _ in range(3))
    mask = torch.zeros(1, 1, 1, 3)
    for name, arguments in {
        "attend": (query, key, value),
        "attend_causal": (query, key, value),
        "attend_masked": (query, key, value, mask),
        "rms_norm": (query[0, 0], torch.ones(4), 1e-5),
        "rotate": (query[0], query[0, :, :1], key[0, :, :1]),
    }.items():
        assert torch.equal(getattr(kernels, name)(*arguments), getattr(stock, name)(*arguments))
    assert kernels.negates_sine


def test_an_attention_of_too_few_arguments_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As releases before 1.14 had it."""

    class FusedSDPA(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, q: Any, k: Any, v: Any, attn_mask: Any = None, dropout_p: Any = 0.0) -> Any:
            raise AssertionError("not used")

    vendor: Any = ModuleType("habana_frameworks.torch.hpex.kernels")
    vendor.FusedSDPA = FusedSDPA
    for name in ("habana_frameworks", "habana_frameworks.torch", "habana_frameworks.torch.hpex"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, vendor.__name__, vendor)
    with caplog.at_level(logging.WARNING):
        kernels = HpuKernels(flash=True, recompute=False)
    assert "FusedSDPA" not in kernels.fused
    assert "it takes 5 arguments, and 9 are given" in caplog.messages[0]


def test_a_bridge_that_cannot_be_imported_is_refused() -> None:
    """Whatever it raises; the remedy is an image in which all is of one release."""
    with pytest.raises(BackendRefused, match=r"cannot be imported \(ModuleNotFoundError\).*of one release"):
        import_bridge()
