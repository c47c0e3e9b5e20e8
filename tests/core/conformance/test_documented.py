"""`docs/conformance.md` lists the checks there are."""

from __future__ import annotations

import re
from pathlib import Path

from runtime.conformance.check import every_check

PAGE = Path(__file__).parents[3] / "docs" / "conformance.md"


def test_table_is_up_to_date() -> None:
    """One line for each check, in the order in which they run, with its own words."""
    table = re.search(r"<!-- checks -->\n(.*)<!-- end -->", PAGE.read_text(), re.DOTALL)
    assert table is not None
    lines = [f"| `{check.name}` | {check.proves} | {check.breaks} |" for check in every_check()]
    assert table[1].splitlines() == ["| check | proves | usually broken by |", "|---|---|---|", *lines]
