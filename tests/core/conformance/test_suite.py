"""The kit finds mistakes, and names the check that each breaks; it finds none in the backends of this project."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from runtime import demo
from runtime.backend import Knob, Limits, ModelSpec
from runtime.conformance.bench import Bench
from runtime.conformance.check import every_check
from runtime.conformance.loading import LIMITS
from runtime.conformance.oracle import Oracle
from runtime.conformance.report import Result
from runtime.conformance.suite import run_check, run_checks
from runtime.errors import StartupError
from runtime.knobs import Value
from runtime.model import read_model
from runtime.plugins import backend_named
from support import broken
from support.plugin import install_plugin

REQUESTS = 32
PLUGIN = """
from runtime import hookimpl
from runtime.backend import Availability, BackendSpec

def probe():
    import vendor
    return Availability(True)

@hookimpl
def runtime_backends():
    return [BackendSpec("broken", "imports too much", "~=1.0", probe, lambda model, limits: None)]
"""

MISTAKES: tuple[tuple[Callable[..., Any], str, set[str]], ...] = (
    (broken.Overclaims, "capacity", {"small-limits"}),
    (broken.Overflows, "scores", set()),
    (broken.AnswersIds, "scores", {"prompt-logprobs"}),
    (broken.LeavesWordsOut, "scores", set()),
    (broken.ShiftsLogprobs, "prompt-logprobs", set()),
    (broken.SeesNeighbours, "neighbours", {"padding", "order", "inactive-rows"}),
    (broken.DependsOnTheSlot, "slots", {"neighbours", "shapes", "order", "inactive-rows"}),
    (broken.TakesTheLastPlace, "padding", {"neighbours", "order", "inactive-rows"}),
    (broken.PlacesInOrder, "order", set()),
    (broken.WritesInactiveRows, "inactive-rows", set()),
    (broken.RemembersTheSlot, "slot-memory", {"cancelled-row"}),
    (broken.RunsOutOfBuffers, "cancelled-prefill", {"cancelled-row"}),
    (broken.ReleasesTooMuch, "cancelled-row", {"cancelled-prefill"}),
    (broken.ExchangesPictures, "two-pictures", set()),
    (broken.ExchangesSides, "odd-pictures", {"one-picture", "two-pictures", "picture-again"}),
    (broken.KnowsPicturesBySize, "picture-again", {"two-pictures"}),
    (broken.IgnoresOffsets, "parts", {"parts-together", "kept"}),
    (broken.OneOffsetForAll, "parts-together", set()),
    (broken.ForgetsReleased, "kept", set()),
    (broken.AnotherRotation, "prefill-numerics", {"decode-numerics"}),
    (broken.LessThanItTells, "decode-numerics", {"prefill-numerics"}),
    (broken.Crashes, "errors", set()),
    (broken.IsSpoiledByErrors, "errors", set()),
    (broken.loads_anything, "refuses-broken-model", set()),
    (broken.CountsNothing, "stats", set()),
    (broken.Keeps, "memory", set()),
    (broken.WarmsUpInSlots, "warmup-keeps-rows", set()),
    (broken.LeavesAShapeOut, "warmup-covers-plan", {"no-unknown-shape"}),
    (broken.WarmsNothing, "no-unknown-shape", set()),
    (broken.NeverStops, "warmup-stops", set()),
)
"""The mistake, the check that is about it, and which others of its theme it cannot help breaking."""


@pytest.fixture(scope="module")
def model() -> ModelSpec:
    return read_model(demo.MODEL)


@pytest.fixture(scope="module")
def oracle(model: ModelSpec) -> Oracle:
    return Oracle(model, LIMITS)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Mistakes are logged with their tracebacks, which nobody reads here."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


def results(bench: Bench, theme: str) -> dict[str, Result]:
    """What the checks of a theme come to."""
    checks = [check for check in every_check() if check.theme == theme]
    return {check.name: run_check(bench, check, None).result for check in checks}


def failed(bench: Bench, name: str) -> set[str]:
    """Names of the checks that fail, of the theme of the check of that name."""
    (theme,) = (check.theme for check in every_check() if check.name == name)
    return {other for other, result in results(bench, theme).items() if result is Result.FAILED}


@pytest.mark.parametrize(("mistake", "name", "others"), MISTAKES, ids=lambda value: getattr(value, "__name__", ""))
def test_mistake_breaks_its_check(
    mistake: Callable[..., Any], name: str, others: set[str], model: ModelSpec, oracle: Oracle
) -> None:
    """Its check fails, and no other of the theme that has nothing to do with it."""
    assert failed(Bench(broken.found(mistake), model, oracle, requests=REQUESTS), name) == {name, *others}


def test_contract_without_an_end(model: ModelSpec, oracle: Oracle) -> None:
    """Nobody knows what the next major version means."""
    assert failed(Bench(broken.found(broken.Plain, ">=1.0"), model, oracle), "spec") == {"spec"}


@pytest.mark.parametrize(
    "option",
    [
        Knob("port", "MY_PORT", int, 1, "Taken by the server."),
        Knob("depth", "PORT", int, 1, "Whose variable is taken."),
        Knob("depth", "DEPTH", int, 0, "Below its bounds."),
        Knob("depth", "DEPTH", str, "no", "None of its choices.", choices=("low", "high")),
        Knob("depth", "DEPTH", int, None, " "),
        Knob("the depth", "DEPTH", int, None, "With a space."),
    ],
    ids=lambda knob: knob.meaning,
)
def test_wrong_option(option: Knob, model: ModelSpec, oracle: Oracle) -> None:
    """Each is found before a user meets it."""
    assert failed(Bench(broken.found(broken.Plain, options=(option,)), model, oracle), "options") == {"options"}


def test_probe_that_imports_a_vendor_s_package(
    model: ModelSpec, oracle: Oracle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Listed and tried as an installed plugin."""
    install_plugin(tmp_path, "broken", "broken_plugin", PLUGIN)
    (tmp_path / "vendor.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert failed(Bench(broken.found(broken.Plain), model, oracle), "probe") == {"probe"}


def test_backend_that_does_not_load(model: ModelSpec, oracle: Oracle) -> None:
    """One check fails, and those that need it are not run; so it does not conform."""

    def load(_model: ModelSpec, _limits: Limits) -> Any:
        raise RuntimeError("no such device")

    report = run_checks(Bench(broken.found(load), model, oracle), {}, lambda check: None)
    seen = {outcome.check.name: outcome for outcome in report.outcomes}
    assert [name for name, outcome in seen.items() if outcome.result is Result.FAILED] == ["load"]
    assert seen["load"].seen == "RuntimeError: no such device"
    assert seen["neighbours"].result is Result.NOT_RUN
    assert not report.conforms


@pytest.mark.parametrize("name", ["cpu", "cpu_reference"])
def test_own_backend_conforms(name: str, model: ModelSpec, oracle: Oracle) -> None:
    """In fp32, to all of it."""
    found = backend_named(name)
    options = {"dtype": "float32", "threads": 1} if name == "cpu" else {}
    report = run_checks(Bench(found, model, oracle, options, REQUESTS), {}, lambda check: None)
    assert [(each.check.name, each.seen) for each in report.outcomes if each.result is Result.FAILED] == []
    assert report.conforms
    assert report.count(Result.PASSED) >= 27


def test_static_backend_conforms(model: ModelSpec, oracle: Oracle) -> None:
    """The toolkit's, with a plan."""
    report = run_checks(Bench(broken.found(broken.Planned), model, oracle, requests=REQUESTS), {}, lambda check: None)
    assert [(each.check.name, each.seen) for each in report.outcomes if each.result is Result.FAILED] == []
    assert report.count(Result.NOT_APPLICABLE) == 2  # not installed, and no log-probabilities


def test_bf16_is_measured_by_the_oracle_in_bf16(model: ModelSpec, oracle: Oracle) -> None:
    """A backend that computes in bf16 and tells so has its numbers right."""

    def load(model: ModelSpec, limits: Limits) -> broken.Plain:
        return broken.Plain(model, limits, torch.bfloat16)

    bench = Bench(broken.found(load), model, oracle)
    assert failed(bench, "decode-numerics") == set()
    assert bench.dtype is torch.bfloat16
    assert 0.005 < bench.tolerance.mean < 0.05  # two to three significant digits
    assert bench.tolerance.mean < bench.tolerance.each < 0.5


def test_waived_check_is_not_run(model: ModelSpec, oracle: Oracle) -> None:
    """And the report has the reason."""
    reason = "this chip has one slot only"
    waivers = {check.name: reason for check in every_check() if check.name != "spec"}
    report = run_checks(Bench(broken.found(broken.Plain), model, oracle), waivers, lambda check: None)
    assert report.conforms
    assert report.count(Result.PASSED) == 1
    assert {outcome.seen for outcome in report.outcomes if outcome.result is Result.WAIVED} == {reason}


@pytest.mark.parametrize(
    ("waivers", "text"),
    [
        ({"neighbors": "written in American"}, "there is no check 'neighbors' to waive"),
        ({"neighbours": "because"}, "at least 10 characters"),
    ],
)
def test_waiver_that_is_none(waivers: dict[str, str], text: str, model: ModelSpec, oracle: Oracle) -> None:
    """A name that is no check's, and a reason that is none."""
    with pytest.raises(StartupError, match=text):
        run_checks(Bench(broken.found(broken.Plain), model, oracle), waivers, lambda check: None)


def test_every_check_is_explained() -> None:
    """In one sentence each, under a name of its own."""
    checks = every_check()
    assert len({check.name for check in checks}) == len(checks) > 30
    for check in checks:
        for sentence in (check.proves, check.breaks):
            assert sentence.endswith(".")
            assert sentence.count(". ") == 0


def test_digest_is_of_what_was_checked(model: ModelSpec, oracle: Oracle) -> None:
    """The same for the same, and another for other options."""

    def digest(**options: Value) -> str:
        waivers = {check.name: "only the digest is looked at" for check in every_check()}
        bench = Bench(backend_named("cpu"), model, oracle, options)
        return run_checks(bench, waivers, lambda check: None).digest

    assert digest() == digest()
    assert digest() != digest(threads=1)
