"""Generate the tables of `docs/configuration.md`: run `make docs` after every change of a knob.

The text around them is written by hand; a table stands between `<!-- table: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from runtime.compatibility import DEVICE_VARIABLES, FOREIGN_FLAGS, FOREIGN_VARIABLES
from runtime.knobs import GROUPS, Knob

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "configuration.md"
TABLE: Final = re.compile(r"(<!-- table: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(page: str) -> str:
    """Return the page with every table made anew; KeyError for a table nobody makes."""
    tables = dict(_tables())
    return TABLE.sub(lambda found: f"{found[1]}\n{tables[found['name']]}\n{found[3]}", page)


def _tables() -> Iterator[tuple[str, str]]:
    for group, knobs in GROUPS.items():
        yield group.lower(), _table(("Flag", "Environment", "Default", "Meaning"), [_knob_row(knob) for knob in knobs])
    yield (
        "device",
        _table(
            ("Variable", "Guide's default", "Meaning", "For a", "Why it has no effect"),
            [
                (f"`{it.environment}`", f"`{_written(it.default)}`", it.meaning, it.reader, it.reason)
                for it in DEVICE_VARIABLES
            ],
        ),
    )
    for name, refused in (("refused", True), ("ignored", False)):
        flags = [flag for flag in FOREIGN_FLAGS if flag.refused is refused]
        rows = [(f"`{flag.flag}`", ", ".join(f"`{value}`" for value in flag.harmless), flag.reason) for flag in flags]
        yield name, _table(("Flag", "Accepted in silence", "Reason"), rows)
    yield "variables", _table(("Variable", "Reason"), [(f"`{name}`", why) for name, why in FOREIGN_VARIABLES.items()])


def _knob_row(knob: Knob) -> Sequence[str]:
    return f"`{knob.flag}`", f"`{knob.environment}`", _default(knob), knob.meaning


def _default(knob: Knob) -> str:
    if knob.required:
        return "required"
    return "" if knob.default in (None, ()) else f"`{_written(knob.default)}`"


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text()))
