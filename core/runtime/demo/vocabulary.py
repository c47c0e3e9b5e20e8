"""The words of the demo: every kind of shape, colour and background there is, and how they form phrases."""

from __future__ import annotations

from collections.abc import Sequence

SHAPES = ("circle", "square", "triangle", "star", "heart", "diamond", "cross", "ring")

COLOURS = {
    "red": (214, 40, 40),
    "orange": (245, 135, 20),
    "yellow": (245, 215, 40),
    "green": (40, 160, 70),
    "blue": (40, 90, 215),
    "purple": (130, 50, 175),
    "pink": (245, 130, 185),
    "black": (25, 25, 30),
}
"""RGB of each colour before its random jitter."""

BACKGROUNDS = {"white": (250, 250, 250), "grey": (185, 185, 188), "beige": (225, 205, 165)}

HELD_OUT = frozenset((tuple(COLOURS)[(3 * place + 1) % 8], shape) for place, shape in enumerate(SHAPES))
"""(colour, shape) pairs that no training picture shows: one for each colour and each shape."""

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def with_article(noun: str) -> str:
    """Return the noun with "a" or "an" before it."""
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def plural(shape: str) -> str:
    """Return the plural of a kind of shape."""
    return "crosses" if shape == "cross" else shape + "s"


def listing(parts: Sequence[str]) -> str:
    """Join at least one phrase with commas and a final "and"."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def capitalised(sentence: str) -> str:
    """Return the sentence with its first letter in upper case and the rest untouched."""
    return sentence[0].upper() + sentence[1:]
