"""What the bridge is told before it is imported, and what is refused then."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from runtime.errors import BackendRefused
from runtime_hpu.environment import Mode, mode_of, prepare, variables
from runtime_hpu.options import OPTIONS

VENDOR, STOCK = "2.5.1a0+git6fc067b", "2.13.0+cpu"
DEFAULTS: dict[str, Any] = {option.name: option.default for option in OPTIONS}
RECIPES = "/cache,false,8192"


@pytest.fixture(autouse=True)
def _environment_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is set is undone."""
    monkeypatch.setattr(os, "environ", os.environ.copy())


@pytest.mark.parametrize(
    ("wanted", "torch_version", "is_emulated", "given", "mode"),
    [
        ("auto", VENDOR, False, None, Mode.LAZY),
        ("auto", STOCK, False, None, Mode.COMPILE),
        ("auto", STOCK, True, None, Mode.LAZY),
        ("auto", VENDOR, False, "0", Mode.COMPILE),
        ("auto", VENDOR, False, "1", Mode.LAZY),
        ("lazy", VENDOR, False, "0", Mode.LAZY),
        ("compile", VENDOR, False, "1", Mode.COMPILE),
        ("eager", STOCK, False, None, Mode.EAGER),
    ],
)
def test_mode(wanted: str, torch_version: str, is_emulated: bool, given: str | None, mode: Mode) -> None:
    """The flag before the variable of the bridge, and that before what PyTorch can do."""
    environment = {} if given is None else {"PT_HPU_LAZY_MODE": given}
    assert mode_of(wanted, torch_version, is_emulated, environment) is mode


@pytest.mark.parametrize(("wanted", "environment"), [("lazy", {}), ("auto", {"PT_HPU_LAZY_MODE": "1"})])
def test_lazy_mode_needs_the_vendor_s_build(wanted: str, environment: dict[str, str]) -> None:
    """The remedy is another mode, or another image."""
    with pytest.raises(BackendRefused, match=r"this is 2\.13\.0\+cpu: use --hpu-mode compile"):
        mode_of(wanted, STOCK, is_emulated=False, environment=environment)


@pytest.mark.parametrize(("mode", "lazy"), [(Mode.LAZY, "1"), (Mode.COMPILE, "0"), (Mode.EAGER, "0")])
def test_variables(mode: Mode, lazy: str) -> None:
    """The mode, and no wrapping of weights; the rest only when it is given."""
    plain = {"PT_HPU_LAZY_MODE": lazy, "PT_HPU_WEIGHT_SHARING": "0"}
    assert variables(mode, DEFAULTS) == plain
    given = {**DEFAULTS, "pt_hpu_enable_lazy_collectives": True, "pt_hpu_recipe_cache_config": RECIPES}
    told = {"PT_HPU_ENABLE_LAZY_COLLECTIVES": "true", "PT_HPU_RECIPE_CACHE_CONFIG": RECIPES}
    assert variables(mode, given) == {**plain, **told}


@pytest.mark.parametrize("recipes", ["/cache", "/cache,maybe,10", "/cache,true,much", ",true,10"])
def test_a_malformed_recipe_cache_is_refused(recipes: str) -> None:
    """Its form is told."""
    with pytest.raises(BackendRefused, match="give PATH,DELETE_AT_START,MEGABYTES"):
        variables(Mode.LAZY, {**DEFAULTS, "pt_hpu_recipe_cache_config": recipes})


def test_the_environment_is_set() -> None:
    """Over what was there."""
    os.environ["PT_HPU_LAZY_MODE"] = "0"
    prepare(Mode.LAZY, DEFAULTS)
    assert os.environ["PT_HPU_LAZY_MODE"] == "1"
    assert os.environ["PT_HPU_WEIGHT_SHARING"] == "0"


@pytest.mark.parametrize("value", ["true", "false", "yes", ""])
def test_a_tensor_cache_that_the_bridge_would_misread_is_refused(value: str) -> None:
    """It takes everything but 1 for 0."""
    os.environ["PT_HPUGRAPH_DISABLE_TENSOR_CACHE"] = value
    with pytest.raises(BackendRefused, match="set it to 0 or 1"):
        prepare(Mode.LAZY, DEFAULTS)


@pytest.mark.parametrize("name", ["WORLD_SIZE", "OMPI_COMM_WORLD_SIZE"])
def test_several_processes_are_refused(name: str) -> None:
    """Whatever has started them; one is fine."""
    os.environ[name] = "1"
    prepare(Mode.LAZY, DEFAULTS)
    os.environ[name] = "8"
    with pytest.raises(BackendRefused, match=f"{name} is '8'"):
        prepare(Mode.LAZY, DEFAULTS)


def test_a_bridge_in_another_mode_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which it cannot leave; and nothing is set."""
    internal = SimpleNamespace(is_lazy=lambda: False)
    monkeypatch.setitem(sys.modules, "habana_frameworks.torch.utils.internal", internal)
    prepare(Mode.COMPILE, DEFAULTS)
    os.environ.pop("PT_HPU_WEIGHT_SHARING")
    with pytest.raises(BackendRefused, match="TORCH_DEVICE_BACKEND_AUTOLOAD=0 or PT_HPU_LAZY_MODE=1"):
        prepare(Mode.LAZY, DEFAULTS)
    assert "PT_HPU_WEIGHT_SHARING" not in os.environ
