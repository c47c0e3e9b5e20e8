"""Right answers by kind of question, and tables of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping


class Tally:
    """Counts answers that are right in every letter."""

    def __init__(self) -> None:
        self._right: Counter[str] = Counter()
        self._asked: Counter[str] = Counter()

    def add(self, kind: str, *, right: bool) -> None:
        """Count one answer."""
        self._asked[kind] += 1
        self._right[kind] += right

    @property
    def kinds(self) -> list[str]:
        """Kinds that were asked, in the order they first came."""
        return list(self._asked)

    def cell(self, kind: str | None = None) -> str:
        """Return share and counts of a kind, or of all, as a table shows them."""
        right = self._right.total() if kind is None else self._right[kind]
        asked = self._asked.total() if kind is None else self._asked[kind]
        return f"{right / asked:.3f} ({right} of {asked})" if asked else "-"

    def share(self, kind: str | None = None) -> float:
        """Return the share of right answers of a kind, or of all; 1 if there are none."""
        right = self._right.total() if kind is None else self._right[kind]
        asked = self._asked.total() if kind is None else self._asked[kind]
        return right / asked if asked else 1.0

    def line(self) -> str:
        """Return the shares of all kinds on one line."""
        return f"all {self.share():.3f} " + " ".join(f"{kind} {self.share(kind):.3f}" for kind in sorted(self._asked))


def markdown_table(columns: Mapping[str, Tally]) -> str:
    """Return a table with a row for each kind and a column for each tally."""
    kinds = list(dict.fromkeys(kind for tally in columns.values() for kind in tally.kinds))
    lines = [
        "| kind | " + " | ".join(columns) + " |",
        "| --- |" + " --- |" * len(columns),
        "| **all** | " + " | ".join(tally.cell() for tally in columns.values()) + " |",
    ]
    lines += [f"| {kind} | " + " | ".join(tally.cell(kind) for tally in columns.values()) + " |" for kind in kinds]
    return "\n".join(lines)
