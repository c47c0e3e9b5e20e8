"""The emulation has the names and signatures of the record, which are the vendor's: tests/conformance/habana/."""

from __future__ import annotations

import importlib
import inspect
import json
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import Any

import habana_frameworks.torch as bridge
import pytest
from virtual_device.release import LAZY, RELEASE

RECORD = json.loads(
    (Path(__file__).parents[3] / "conformance" / "habana" / f"{RELEASE.name}.json").read_text(encoding="utf-8")
)
GRAPHS = "habana_frameworks.torch.hpu.graphs."


def find(name: str) -> Any:
    """What a dotted name stands for: an attribute before a module, as FusedSDPA is both."""
    found: Any = bridge
    path = bridge.__name__
    for part in name.removeprefix(f"{path}.").split("."):
        path = f"{path}.{part}"
        found = getattr(found, part) if hasattr(found, part) else importlib.import_module(path)
    return found


def parameters(function: Any) -> list[list[str]]:
    """As the record writes them."""
    return [_parameter(item) for item in inspect.signature(function).parameters.values()]


def _parameter(item: inspect.Parameter) -> list[str]:
    if item.kind is item.VAR_POSITIONAL:
        return [f"*{item.name}", "variadic"]
    if item.kind is item.VAR_KEYWORD:
        return [f"**{item.name}", "variadic"]
    kind = "keyword" if item.kind is item.KEYWORD_ONLY else "positional"
    if item.default is item.empty:
        return [item.name, kind]
    return [item.name, kind, str(item.default) if isinstance(item.default, Enum) else repr(item.default)]


@pytest.mark.parametrize("name", [name for name in RECORD["signatures"] if LAZY or not name.startswith(GRAPHS)])
def test_signatures_are_the_vendors(name: str) -> None:
    """Names, order, defaults and kinds."""
    assert parameters(find(name)) == RECORD["signatures"][name]["parameters"]


@pytest.mark.parametrize("name", RECORD["lazy_only"])
def test_graphs_are_in_lazy_mode_only(name: str) -> None:
    """Missing attributes else, no stand-ins."""
    module, _, attribute = name.rpartition(".")
    assert hasattr(find(module), attribute) is LAZY


@pytest.mark.parametrize("name", RECORD["absent"])
def test_absent_names_stay_absent(name: str) -> None:
    """What the vendor does not have, nobody may rely on."""
    module, _, attribute = name.rpartition(".")
    assert not hasattr(find(module), attribute)


def test_streams_and_events_take_what_the_vendors_take() -> None:
    """Their constructors, which the vendor writes as __new__."""
    bridge.hpu.Stream(device="hpu", priority=0)
    bridge.hpu.Event(enable_timing=True)


def test_the_distribution_tells_that_it_is_emulated() -> None:
    """In the local part of its version, after the release that was chosen."""
    release, _, local = version("habana-torch-plugin").partition("+")
    assert release.startswith(f"{RELEASE.name}.")
    assert local == "emulated"
