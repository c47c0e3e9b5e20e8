"""Options of a backend as words, for pytest's command line."""

from __future__ import annotations

import pytest
from runtime.backend import Knob
from runtime.conformance.values import pairs_of, values_of
from runtime.errors import StartupError

KNOBS = (
    Knob("dtype", "DTYPE", str, None, "Type.", choices=("bfloat16", "float32")),
    Knob("folder", "FOLDER", str, None, "Any text."),
    Knob("threads", "THREADS", int, None, "Threads.", highest=8),
    Knob("share", "SHARE", float, None, "Share.", lowest=0, highest=1),
    Knob("fused", "FUSED", bool, None, "Fused kernels."),
    Knob("names", "NAMES", str, (), "Names.", repeatable=True),
)


def test_values_have_their_types() -> None:
    """As the options declare them; what is not given is not there."""
    words = ["dtype=float32", "folder=a=b", "threads=8", "share=0.5", "fused=True", "names=one,two"]
    values = values_of(KNOBS, pairs_of(words))
    assert values == {
        "dtype": "float32", "folder": "a=b", "threads": 8, "share": 0.5, "fused": True, "names": ("one", "two")
    }  # fmt: skip
    assert values_of(KNOBS, pairs_of(["fused=0"])) == {"fused": False}


@pytest.mark.parametrize("word", ["dtype=int8", "threads=9", "threads=many", "share=nan", "fused=perhaps"])
def test_value_that_does_not_fit(word: str) -> None:
    """The error names option and value."""
    name, _, value = word.partition("=")
    with pytest.raises(StartupError, match=f"'{value}' is no value for the option {name}"):
        values_of(KNOBS, pairs_of([word]))


def test_unknown_option() -> None:
    """The error lists those there are."""
    with pytest.raises(StartupError, match="no option 'type'; it has dtype, folder"):
        values_of(KNOBS, {"type": "float32"})
    with pytest.raises(StartupError, match="NAME=VALUE"):
        pairs_of(["dtype"])
