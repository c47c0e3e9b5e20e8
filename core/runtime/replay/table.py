"""A comparison on a terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from runtime.replay.comparison import Comparison, TokenDifference

DIGEST: Final = re.compile("[0-9a-f]{64}")
SHOWN: Final = 16
"""Digits of a digest."""
MOST_TEXT: Final = 200
"""Characters of a fact."""


def print_comparison(comparison: Comparison, texts: Mapping[int, str], console: Console) -> None:
    """Print what both tell, and whether the tokens are the same; `texts` tells those of token ids, where known."""
    console.print(_table(comparison))
    differing = ", ".join(fact.name for fact in comparison.facts() if not fact.is_same)
    if differing and comparison.same_prompt:
        console.print(f"what differs beside tokens: {differing}", style="yellow", soft_wrap=True, markup=False)
    style = "green" if comparison.is_reproduced else "bold red"
    console.print(_headline(comparison, texts), style=style, soft_wrap=True, markup=False)


def _table(comparison: Comparison) -> Table:
    table = Table(title=f"receipt {comparison.before.digest[:SHOWN]}", title_justify="left")
    for name in ("", "receipt", "now"):
        table.add_column(name, overflow="fold")
    for fact in comparison.facts():
        now = Text("same", "dim") if fact.is_same else Text(_shown(fact.now), "yellow")
        table.add_row(Text(fact.name), Text(_shown(fact.before)), now)
    return table


def _shown(value: str | None) -> str:
    if value is None:
        return "not told"
    if DIGEST.fullmatch(value):
        return value[:SHOWN]
    return value if len(value) <= MOST_TEXT else value[: MOST_TEXT - 3] + "..."


def _headline(comparison: Comparison, texts: Mapping[int, str]) -> str:
    if not comparison.same_prompt:
        return "another prompt or picture: there is nothing to compare"
    found = comparison.first_difference
    if found is None:
        return f"reproduced: the same {len(comparison.now.tokens)} tokens"
    return f"not reproduced: {_difference(found, texts)}"


def _difference(found: TokenDifference, texts: Mapping[int, str]) -> str:
    before, now = _token(found.before, texts), _token(found.now, texts)
    return f"token {found.position + 1} is {before} in the receipt and {now} now"


def _token(id: int | None, texts: Mapping[int, str]) -> str:
    if id is None:
        return "missing"
    return f"{id}, {texts[id]!r}," if id in texts else str(id)
