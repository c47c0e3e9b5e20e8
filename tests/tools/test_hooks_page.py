"""docs/hooks.md is made of the contract's sources."""

from __future__ import annotations

import dataclasses
import inspect
import runpy
from pathlib import Path

from runtime import backend
from runtime.hookspecs import Compute, Discovery

HOOKS = runpy.run_path(str(Path(__file__).resolve().parents[2] / "tools" / "hooks.py"))
PAGE: str = HOOKS["PAGE"].read_text()


def test_page_is_up_to_date() -> None:
    """`make docs` would change nothing."""
    assert HOOKS["page"]() == PAGE


def test_every_hook_is_there() -> None:
    """With its arguments and what it says of itself."""
    for spec in (Discovery, Compute):
        for name, hook in inspect.getmembers(spec, inspect.isfunction):
            arguments = [each for each in inspect.signature(hook).parameters if each != "self"]
            _, _, section = PAGE.partition(f"### {name}\n")
            section, _, _ = section.partition("\n### ")
            assert all(f"{argument}: " in section for argument in arguments), name
            assert inspect.getdoc(hook) in section, name  # type: ignore[operator]


def test_every_type_is_there() -> None:
    """With each of its fields."""
    own = [each for _, each in inspect.getmembers(backend, inspect.isclass) if each.__module__ == backend.__name__]
    assert len(own) > 15
    for each in own:
        _, _, section = PAGE.partition(f"### {each.__name__}\n")
        section, _, _ = section.partition("\n### ")
        names = [field.name for field in dataclasses.fields(each)] if dataclasses.is_dataclass(each) else []
        assert section, each
        assert all(f"| `{name}` |" in section for name in names), each


def test_required_hooks_say_so() -> None:
    """And no others."""
    required = [part.partition("\n")[0] for part in PAGE.split("### ") if "\nRequired. " in part]
    assert required == ["prefill", "concatenate", "decode"]
