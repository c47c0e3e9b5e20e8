"""Every attack in docs/security.md and every fault in docs/faults.md names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.compile(r"`(tests/[\w/]+\.py)`|`(\w+)`")
TABLES = {"security.md": "| attack | defence | test |", "faults.md": "| fault | expected | test |"}
LEAST = {"security.md": 40, "faults.md": 30}


def dangers(page: str) -> dict[str, str]:
    """What the last column says of each attack or fault."""
    rows: dict[str, str] = {}
    is_row = False
    for line in (ROOT / "docs" / page).read_text().splitlines():
        is_row = line.startswith("|") and (is_row or line == TABLES[page])
        if is_row and line != TABLES[page] and not line.startswith("|---"):
            danger, *_, tests = (cell.strip() for cell in line.strip("|").split(" | "))
            rows[danger] = tests
    return rows


def functions_of(path: Path) -> set[str]:
    """The names of all functions of a file."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize(("page", "danger"), [(page, danger) for page in TABLES for danger in dangers(page)])
def test_names_its_tests(page: str, danger: str) -> None:
    """A file and functions of it, at least one."""
    found: set[str] = set()
    proofs = 0
    for file, name in NAMED.findall(dangers(page)[danger]):
        if file:
            found = functions_of(ROOT / file)
        else:
            assert name in found
            proofs += 1
    assert proofs


@pytest.mark.parametrize("page", TABLES)
def test_dangers_are_found(page: str) -> None:
    """An empty table would prove everything."""
    assert len(dangers(page)) >= LEAST[page]
