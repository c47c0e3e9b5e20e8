"""What a knob is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Reader = Literal["gateway", "worker"]
Value = str | int | float | bool | tuple[str, ...] | None


def flag_of(name: str) -> str:
    """Return the flag of a knob."""
    return "--" + name.replace("_", "-")


@dataclass(frozen=True, slots=True)
class Knob:
    """One setting an operator can turn."""

    name: str
    """Field of `Settings`; the flag is the same with dashes."""
    environment: str
    type: type[str] | type[int] | type[float] | type[bool]
    default: Value
    """None: derived from other values or the model, or off."""
    meaning: str
    readers: tuple[Reader, ...] = ("worker",)
    required: bool = False
    lowest: int = 1
    """Bounds of a number, both included."""
    highest: int = 2**30
    repeatable: bool = False
    """Whether the flag may be given several times; the environment separates values with commas."""
    secret: bool = False
    """Whether the value is never printed."""
    choices: tuple[str, ...] = ()
    """The words a text may be; empty for any."""

    @property
    def flag(self) -> str:
        return flag_of(self.name)

    @property
    def is_number(self) -> bool:
        return self.type in (int, float)


BOTH: Final[tuple[Reader, ...]] = ("gateway", "worker")
GATEWAY: Final[tuple[Reader, ...]] = ("gateway",)
WORKER: Final[tuple[Reader, ...]] = ("worker",)
