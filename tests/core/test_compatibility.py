"""Variables that look meant for us."""

from __future__ import annotations

import pytest
from runtime.compatibility import known_variables, warnings_of
from runtime.knobs import KNOBS


def test_variables_that_mean_something_give_no_warning() -> None:
    """Ours, those of libraries below, and what an empty value unsets."""
    assert warnings_of({knob.environment: "1" for knob in KNOBS}) == []
    assert warnings_of({"HF_TOKEN": "x", "HABANA_VISIBLE_DEVICES": "all", "PATH": "/bin", "HOSTNAME": "a"}) == []
    assert warnings_of({"ENABLE_HPU_GRAPH": "1"}, {"ENABLE_HPU_GRAPH"}) == []
    assert warnings_of({"LOG_LEVEL": ""}) == []


def test_names_are_unique() -> None:
    """Nothing is both served and not."""
    names = list(known_variables())
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("MAX_BATHC_SIZE", "MAX_BATCH_SIZE"),
        ("MAX_INPUT_TOKEN", "MAX_INPUT_TOKENS"),
        ("MODEL_IDS", "MODEL_ID"),
        ("ENABLE_HPU_GRAPHS", "ENABLE_HPU_GRAPH"),
    ],
)
def test_misspelt_variables(name: str, meant: str) -> None:
    """One or two letters off."""
    told = warnings_of({name: "1"}, {"ENABLE_HPU_GRAPH"})
    assert told == [f"{name} has no effect: there is no such variable; did you mean {meant}?"]


@pytest.mark.parametrize("name", ["SORT", "APP_KEY", "MODEL_DIR", "MAX_TOKENS", "BATCH_SIZE"])
def test_other_variables(name: str) -> None:
    """Names that belong to somebody else, however short ours are."""
    assert warnings_of({name: "1"}) == []


def test_variables_of_tgi_without_a_flag() -> None:
    """Told with the reason."""
    assert warnings_of({"LOG_LEVEL": "debug"}) == ["LOG_LEVEL has no effect: everything from INFO on is logged"]
