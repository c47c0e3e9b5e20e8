"""Variables that look meant for us."""

from __future__ import annotations

import pytest
from runtime.compatibility import DEVICE_VARIABLES, DeviceVariable, known_variables, warnings_of
from runtime.errors import StartupError
from runtime.knobs import KNOBS


def test_variables_that_mean_something_give_no_warning() -> None:
    """Ours, those of libraries below, and what an empty value unsets."""
    assert warnings_of({knob.environment: "1" for knob in KNOBS}) == []
    assert warnings_of({"HF_TOKEN": "x", "HABANA_VISIBLE_DEVICES": "all", "PATH": "/bin", "HOSTNAME": "a"}) == []
    assert warnings_of({variable.environment: "" for variable in DEVICE_VARIABLES}) == []


def test_names_are_unique() -> None:
    """Nothing is both served and not."""
    names = list(known_variables())
    assert len(names) == len(set(names))


@pytest.mark.parametrize("variable", DEVICE_VARIABLES, ids=lambda variable: variable.environment)
def test_device_variables(variable: DeviceVariable) -> None:
    """A right value gives a warning with the reason, a wrong one a line that names the variable."""
    name = variable.environment
    assert warnings_of({name: "1"}) == [f"{name} has no effect: {variable.reason}"]
    with pytest.raises(StartupError, match=f"the environment variable {name} is 'many'; set it to "):
        warnings_of({name: "many"})


def test_long_values() -> None:
    """Are not repeated in full."""
    with pytest.raises(StartupError, match="LIMIT_HPU_GRAPH") as error:
        warnings_of({"LIMIT_HPU_GRAPH": "9" * 5000})
    assert len(error.value.message) < 200


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
    assert warnings_of({name: "1"}) == [f"{name} has no effect: there is no such variable; did you mean {meant}?"]


@pytest.mark.parametrize("name", ["SORT", "APP_KEY", "MODEL_DIR", "MAX_TOKENS", "BATCH_SIZE"])
def test_other_variables(name: str) -> None:
    """Names that belong to somebody else, however short ours are."""
    assert warnings_of({name: "1"}) == []


def test_variables_of_tgi_without_a_flag() -> None:
    """Told with the reason."""
    assert warnings_of({"LOG_LEVEL": "debug"}) == ["LOG_LEVEL has no effect: everything from INFO on is logged"]
