"""The tables of the documentation are those of the code."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

DOCS = runpy.run_path(str(Path(__file__).resolve().parents[2] / "tools" / "docs.py"))


@pytest.mark.parametrize("page", DOCS["PAGES"], ids=lambda page: page.name)
def test_docs_are_up_to_date(page: Path) -> None:
    """`make docs` would change nothing."""
    text = page.read_text()
    assert text.count("<!-- table: ") == text.count("<!-- end -->") > 0
    assert DOCS["with_tables"](text) == text


def test_every_table_is_shown() -> None:
    """Once."""
    shown = "".join(page.read_text() for page in DOCS["PAGES"])
    for name, _ in DOCS["_tables"]():
        assert shown.count(f"<!-- table: {name} -->") == 1, name


def test_a_table_is_made_anew() -> None:
    """And one that nobody makes is an error."""
    made = DOCS["with_tables"]("before\n<!-- table: model -->\nstale\n<!-- end -->\nafter\n")
    assert made.startswith("before\n<!-- table: model -->\n\n| Flag |")
    assert made.endswith(" |\n\n<!-- end -->\nafter\n")
    assert "stale" not in made
    with pytest.raises(KeyError):
        DOCS["with_tables"]("<!-- table: nothing -->\n<!-- end -->\n")
