"""Options of a backend from words NAME=VALUE, for a caller without the command line's own parser."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from runtime.errors import StartupError
from runtime.knobs import Knob, Value

WORDS: Final = {"true": True, "1": True, "false": False, "0": False}


def pairs_of(words: Iterable[str]) -> dict[str, str]:
    """Split NAME=VALUE; raises StartupError for a word without the sign."""
    pairs = {}
    for word in words:
        name, separator, value = word.partition("=")
        if not separator:
            raise StartupError(f"{word!r} is not of the form NAME=VALUE")
        pairs[name.strip()] = value.strip()
    return pairs


def values_of(knobs: Sequence[Knob], given: Mapping[str, str]) -> dict[str, Value]:
    """Return the value of each option that is given; raises StartupError for one that is unknown or does not fit."""
    declared = {knob.name: knob for knob in knobs}
    unknown = sorted(given.keys() - declared.keys())
    if unknown:
        raise StartupError(f"the backend has no option {unknown[0]!r}; it has {', '.join(declared) or 'none'}")
    return {name: _value(declared[name], text) for name, text in given.items()}


def _value(knob: Knob, text: str) -> Value:
    refusal = StartupError(f"{text!r} is no value for the option {knob.name}")
    if knob.repeatable:
        return tuple(text.split(","))
    if knob.type is bool:
        if text.lower() not in WORDS:
            raise refusal
        return WORDS[text.lower()]
    if knob.is_number:
        try:
            number = int(text) if knob.type is int else float(text)
        except ValueError:
            raise refusal from None
        if not knob.lowest <= number <= knob.highest:
            raise refusal
        return number
    if knob.choices and text not in knob.choices:
        raise refusal
    return text
