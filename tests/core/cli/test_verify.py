"""`runtime verify`; what it finds is in tests/core/verify."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from runtime.cli import main
from runtime.errors import StartupError
from runtime.plugins import Hooks
from runtime.verify import apart
from runtime.verify.run import Outcome, Role, Task, Tell, perform
from runtime_cpu_reference.backend import CpuReference
from support.checkpoints import Checkpoint, write_checkpoint
from support.plugin import install_plugin
from support.verifying import cpu

LIMITS = ("--max-total-tokens", "256", "--max-batch-size", "2")

DIM = """
from dataclasses import replace

import torch
from runtime import hookimpl
from runtime.backend import Availability, BackendSpec
from runtime_torch.cpu import Cpu


class Dim(Cpu):
    @hookimpl
    def stages(self, batch, layers):
        return super().stages(dimmed(batch), layers)

    @hookimpl
    def prefill(self, batch):
        return super().prefill(dimmed(batch))


def dimmed(batch):
    return replace(batch, images=tuple(each and replace(each, tiles=0.5 * each.tiles) for each in batch.images))


def load(model, limits):
    torch.set_num_threads(1)
    return Dim(model, limits, torch.float32, 0)


@hookimpl
def runtime_backends():
    return [BackendSpec("dim", "sees half the light", "~=1.0", lambda: Availability(True), load)]
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_checkpoint(tmp_path_factory.mktemp("model"), Checkpoint()))


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["verify", *words])


def here(task: Task, tell: Tell) -> Outcome:
    """Perform a task in this process; the backend under test is `cpu`."""
    if task.role is Role.TESTED:
        return perform(task, Hooks("cpu", cpu(task.model, task.limits, torch.float32), task.model, task.limits), tell)
    dtype = getattr(torch, str(task.limits.options["reference_dtype"]))
    return perform(task, Hooks("oracle", CpuReference(task.model, task.limits, dtype), task.model, task.limits), tell)


def test_broken_backend_in_processes_of_their_own(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found as any plugin is; exit status 1, the stage in the last line, and both files written."""
    monkeypatch.syspath_prepend(install_plugin(tmp_path / "plugins", "dim", "dim_backend", DIM))
    files = tmp_path / "report.json", tmp_path / "report.html"
    words = ("--backend", "dim", "--model-id", model, "--cases", "one-picture", *LIMITS)
    result = run(*words, "--json", str(files[0]), "--html", str(files[1]))
    assert result.exit_code == 1, result.output
    assert "dim against cpu_reference" in result.output
    assert "first divergence at pixels, in case one-picture, row in slot 0, tile 0" in " ".join(result.output.split())
    facts = json.loads(files[0].read_text())
    assert (facts["ok"], facts["first_divergence"]["stage"]) == (False, "pixels")
    assert facts["grounds"]["backend"]["distribution"] == "dim"
    assert files[1].read_text().startswith("<!doctype html>")


def test_right_backend(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit status 0; cases may be separated by commas, repeated and in any order."""
    monkeypatch.setattr(apart, "perform_apart", here)
    result = run("--backend", "cpu", "--model-id", model, "--cases", "late-joins,text", "--cases", "text", *LIMITS)
    assert result.exit_code == 0, result.output
    assert "cpu against cpu_reference" in result.output
    assert "no divergence" in result.output
    assert result.output.index("│ text") < result.output.index("│ late-joins")


def test_every_layer(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told in the files."""
    monkeypatch.setattr(apart, "perform_apart", here)
    file = tmp_path / "report.json"
    words = ("--backend", "cpu", "--model-id", model, "--cases", "text", "--layers", "--json", str(file), *LIMITS)
    assert run(*words).exit_code == 0
    (case,) = json.loads(file.read_text())["cases"]
    assert "decoder.1" in [stage["stage"] for stage in case["stages"]]


def test_another_type_may_be_judged_by(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the backend says."""
    monkeypatch.setattr(apart, "perform_apart", here)
    file = tmp_path / "report.json"
    words = ("--backend", "cpu", "--model-id", model, "--cases", "text", "--judge-as", "bfloat16", *LIMITS)
    assert run(*words, "--seed", "5", "--json", str(file)).exit_code == 0
    judged = json.loads(file.read_text())["grounds"]["judged"]
    assert (judged["dtype"], judged["seed"]) == ("bfloat16", 5)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--cases", "txt"), "runtime verify: there is no case 'txt'; there are text, one-picture, "),
        (("--backend", "hal"), "runtime verify: there is no backend 'hal'"),
        (("--against", "cpu"), "runtime verify: backend cpu cannot be the oracle: it has no option reference_dtype"),
        (("--max-total-tokens", "9999999"), "runtime verify: --max-total-tokens 9999999 exceeds"),
    ],
)
def test_what_cannot_be_verified_is_told_in_a_line(words: tuple[str, ...], told: str, model: str) -> None:
    """Before anything is loaded."""
    result = run("--model-id", model, *words)
    assert result.exit_code == 1
    assert told in result.output
    assert "Traceback" not in result.output


def test_file_that_cannot_be_written(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told by name, after the report."""
    monkeypatch.setattr(apart, "perform_apart", here)
    file = tmp_path / "no" / "report.json"
    result = run("--backend", "cpu", "--model-id", model, "--cases", "text", "--json", str(file), *LIMITS)
    assert result.exit_code == 1
    assert "report.json: No such file or directory" in result.output


def test_backend_that_cannot_be_run(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line."""

    def fail(task: Task, tell: Tell) -> Outcome:
        raise StartupError("the process of the reference ended without an answer")

    monkeypatch.setattr(apart, "perform_apart", fail)
    result = run("--backend", "cpu", "--model-id", model, *LIMITS)
    assert result.exit_code == 1
    assert result.output.strip() == "runtime verify: the process of the reference ended without an answer"
