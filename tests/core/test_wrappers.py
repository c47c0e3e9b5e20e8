"""Wrappers that operators ask for by name, from installed packages."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from pathlib import Path

import pytest
from runtime.errors import BackendContractError, BackendRefused
from runtime.hookspecs import hookimpl
from runtime.plugins import Hooks
from runtime.wrappers import ENTRY_POINT_GROUP, wrappers_named
from support.arithmetic import ArithmeticBackend
from support.plugin import install_plugin
from support.processes import refused, serving
from support.scrape import read_scrape
from support.serving import LIMITS, MODEL

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "wrappers"


def install(folder: Path, name: str, made: str) -> None:
    """Install a package with a wrapper: an expression of `model` and `limits`."""
    install_plugin(folder, name, f"{name}_wrapper:wrap", group=ENTRY_POINT_GROUP)
    (folder / f"{name}_wrapper.py").write_text(f"def wrap(model, limits):\n    return {made}\n")


@pytest.fixture(autouse=True)
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path of imports."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def refusal(name: str) -> str:
    """Why the wrapper cannot be had."""
    with pytest.raises(BackendRefused) as error:
        _ = [wrapper.around(MODEL, LIMITS) for wrapper in wrappers_named([name])]
    return error.value.message


def test_wrappers_in_the_order_they_are_named(packages: Path) -> None:
    """Each is made for the model and the limits of the backend it goes around."""
    for name in ("inner", "outer"):
        install(packages, name, f"({name!r}, model.vocabulary, limits.rows)")
    made = [wrapper.around(MODEL, LIMITS) for wrapper in wrappers_named(["outer", "inner"])]
    assert made == [("outer", MODEL.vocabulary, LIMITS.rows), ("inner", MODEL.vocabulary, LIMITS.rows)]
    assert wrappers_named([]) == []


def test_unknown_wrapper(packages: Path) -> None:
    """The names that there are."""
    install(packages, "meter", "3")
    assert refusal("metre") == "there is no wrapper 'metre'; installed: meter"


def test_wrapper_that_cannot_be_made(packages: Path) -> None:
    """In its own words, in one line."""
    install(packages, "heavy", "1 / 0")
    assert refusal("heavy") == "wrapper heavy could not start: ZeroDivisionError: division by zero"


def test_wrapper_that_cannot_be_imported(packages: Path) -> None:
    """The rest of the package may be fine."""
    install(packages, "late", "3")
    (packages / "late_wrapper.py").write_text("import no_such_module\n")
    assert refusal("late").startswith("wrapper 'late' failed to load: ModuleNotFoundError: No module named 'no_such_m")


def test_what_is_no_wrapper(packages: Path) -> None:
    """An entry point may name anything."""
    install(packages, "number", "3")
    (packages / "number_wrapper.py").write_text("wrap = 3\n")
    assert refusal("number") == "wrapper 'number' is a int, not a callable of model and limits"


def test_name_in_two_packages(packages: Path) -> None:
    """Neither is taken: nothing says which one is meant."""
    install(packages, "meter", "3")
    other = packages / "other-1.0.dist-info"
    shutil.copytree(packages / "meter-1.0.dist-info", other)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    assert refusal("meter") == "the wrapper 'meter' is in meter and other; uninstall one of them"


class Usurper:
    """Answers in the place of the backend."""

    @hookimpl
    def decode(self) -> None:
        """A mark without `wrapper=True`."""


class Misspelt:
    """Wraps a hook that there is not."""

    @hookimpl(wrapper=True)
    def decod(self) -> Generator[None]:
        yield


@pytest.mark.parametrize(
    ("wrapper", "told"),
    [
        (Usurper(), r"the wrapper Usurper would answer decode itself; write @hookimpl\(wrapper=True\)"),
        (Misspelt(), "unknown hook 'decod'"),
        (object(), "the wrapper object has no hook; did you forget @hookimpl?"),
    ],
)
def test_what_cannot_go_around_a_backend(wrapper: object, told: str) -> None:
    """Told when it is put there."""
    with pytest.raises(BackendContractError, match=told):
        Hooks("sums", ArithmeticBackend(MODEL.vocabulary, LIMITS), MODEL, LIMITS, [wrapper])


@pytest.mark.proves("--wrap")
def test_server_with_a_wrapper(arithmetic_plugin: Path, packages: Path) -> None:
    """Its counters are told with the backend's; one that cannot be had is told before anything is loaded."""
    install_plugin(packages, "timing", "runtime_wrappers.timing:Timing", group=ENTRY_POINT_GROUP)
    arguments, folders = ("--model-id", "demo", "--backend", "arithmetic"), [arithmetic_plugin, packages, EXAMPLES]
    with serving(*arguments, "--wrap", "timing", folders=folders) as server:
        server.events({"inputs": "Hello", "parameters": {"max_new_tokens": 3}})
        with server.client() as http:
            told = read_scrape(http.get("/metrics").content)["runtime_backend_stat"].values
        assert told["prefill_calls"] == 1
        assert told["prefill_seconds"] > 0
    line = refused("worker", *arguments, "--wrap", "metre", "--listen", "unix:unused", folders=folders)
    assert line == "runtime worker: there is no wrapper 'metre'; installed: timing"
