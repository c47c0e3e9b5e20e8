"""Every attack in docs/security.md names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.compile(r"`(tests/[\w/]+\.py)`|`(\w+)`")


def attacks() -> dict[str, str]:
    """What the last column says of each attack."""
    rows: dict[str, str] = {}
    is_attack = False
    for line in (ROOT / "docs" / "security.md").read_text().splitlines():
        is_attack = line.startswith("|") and (is_attack or line == "| attack | defence | test |")
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if is_attack and cells[0] != "attack" and not line.startswith("|---"):
            rows[cells[0]] = cells[-1]
    return rows


def functions_of(path: Path) -> set[str]:
    """The names of all functions of a file."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("attack", attacks())
def test_names_its_tests(attack: str) -> None:
    """A file and functions of it, at least one."""
    found: set[str] = set()
    proofs = 0
    for file, name in NAMED.findall(attacks()[attack]):
        if file:
            found = functions_of(ROOT / file)
        else:
            assert name in found
            proofs += 1
    assert proofs


def test_attacks_are_found() -> None:
    """An empty table would prove everything."""
    assert len(attacks()) > 40
