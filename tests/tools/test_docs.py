"""The tables of the documentation are those of the code."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

DOCS = runpy.run_path(str(Path(__file__).resolve().parents[2] / "tools" / "docs.py"))


def test_docs_are_up_to_date() -> None:
    """`make docs` would change nothing."""
    page = DOCS["PAGE"].read_text()
    assert page.count("<!-- table: ") == page.count("<!-- end -->") == 8
    assert DOCS["with_tables"](page) == page


def test_a_table_is_made_anew() -> None:
    """And one that nobody makes is an error."""
    made = DOCS["with_tables"]("before\n<!-- table: model -->\nstale\n<!-- end -->\nafter\n")
    assert made.startswith("before\n<!-- table: model -->\n\n| Flag |")
    assert made.endswith(" |\n\n<!-- end -->\nafter\n")
    assert "stale" not in made
    with pytest.raises(KeyError):
        DOCS["with_tables"]("<!-- table: nothing -->\n<!-- end -->\n")
