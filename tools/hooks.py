"""Generate `docs/hooks.md`, the contract of a plugin, from `runtime.hookspecs` and `runtime.backend`: run `make docs`.

Read from the sources, for comments beside fields and the order of the classes are in no object.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from runtime.backend import CONTRACT_VERSION
from runtime.plugins import REQUIRED_HOOKS

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = ROOT / "docs" / "hooks.md"
CORE: Final = ROOT / "core" / "runtime"

HEAD: Final = f"""\
# Hooks and types

The contract of a backend, version {CONTRACT_VERSION}: every hook and every type that crosses the boundary, in the words
of `core/runtime/hookspecs.py` and `core/runtime/backend.py`, which this page is made of (`make docs`).
[plugins.md](plugins.md) says how they are used, [proofs.md](proofs.md#hooks) which test shows each.

A hook is a method, or a function of a module, with `@hookimpl` above it, and may take fewer arguments than are listed.
All but `runtime_backends` are called on one thread, never two at once.
"""


def page() -> str:
    """Return the whole text."""
    hooks = [*_classes(CORE / "hookspecs.py")]
    types = [*_classes(CORE / "backend.py")]
    parts = [HEAD, "## Hooks\n"]
    for spec in hooks:
        parts += [_hook(method) for method in spec.body if isinstance(method, ast.FunctionDef)]
    lines = (CORE / "backend.py").read_text().splitlines()
    return "\n".join([*parts, "## Types\n", *(_type(each, lines) for each in types)])


def _classes(path: Path) -> Iterator[ast.ClassDef]:
    yield from (node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef))


def _hook(method: ast.FunctionDef) -> str:
    arguments = [argument for argument in method.args.args if argument.arg != "self"]
    told = ", ".join(f"{each.arg}: {ast.unparse(each.annotation)}" for each in arguments if each.annotation is not None)
    assert method.returns is not None
    signature = f"def {method.name}({told}) -> {ast.unparse(method.returns)}"
    required = "Required. " if method.name in REQUIRED_HOOKS else ""
    return f"### {method.name}\n\n```python\n{signature}\n```\n\n{required}{_told(method)}\n"


def _type(definition: ast.ClassDef, lines: list[str]) -> str:
    fields = [*_fields(definition, lines)]
    heading = f"### {definition.name}\n\n{_told(definition)}\n"
    if not fields:
        return heading
    table = "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in fields)
    return f"{heading}\n| Field | Type | Default | Meaning |\n| --- | --- | --- | --- |\n{table}"


def _fields(definition: ast.ClassDef, lines: list[str]) -> Iterator[tuple[str, str, str, str]]:
    """Yield name, type, default and meaning: the comment behind a field, and the text below it."""
    for node, below in zip(definition.body, [*definition.body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign):
            continue
        meanings = [lines[node.lineno - 1].partition("  # ")[2]]
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            meanings.append(" ".join(str(below.value.value).split()))
        default = "" if node.value is None else f"`{_default(node.value)}`"
        meaning = ". ".join(text.rstrip(".") for text in meanings if text)
        yield f"`{ast.unparse(node.target)}`", f"`{ast.unparse(node.annotation)}`", default, meaning


def _default(value: ast.expr) -> str:
    made = re.fullmatch(r"field\(default_factory=(\w+)\)", ast.unparse(value))
    return f"{made[1]}()" if made else ast.unparse(value)


def _told(node: ast.ClassDef | ast.FunctionDef) -> str:
    return textwrap.dedent(ast.get_docstring(node) or "").strip()


if __name__ == "__main__":
    PAGE.write_text(page())
