"""How the virtual HPU comes into a process, and how another process is asked about it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.virtual_hpu import Mode, Release, asking, environment, run_script

LOADED = "import sys, torch; print('habana_frameworks.torch' in sys.modules)"


@pytest.mark.parametrize(
    ("release", "mode", "loads"),
    [
        ("1.17", "eager", False),
        ("1.19", None, False),
        ("1.19", "lazy", False),
        ("1.19", "eager", True),
        ("1.23", None, True),
        ("1.23", "lazy", False),
    ],
)
def test_torch_alone_brings_it_in_eager_mode(release: Release, mode: Mode | None, loads: bool) -> None:
    """From 1.18 on, by the entry point that the vendor has."""
    assert run_script(LOADED, release, mode) == f"{loads}\n"


def test_which_can_be_turned_off() -> None:
    """As the vendor's."""
    assert run_script(LOADED, "1.23", "eager", PT_HPU_AUTOLOAD="0") == "False\n"


@pytest.mark.parametrize(("mode", "lazy"), [(None, False), ("lazy", True), ("eager", False)])
def test_the_mode_is_the_environments_else_the_releases(mode: Mode | None, lazy: bool) -> None:
    """1.23 is eager by default."""
    script = "from habana_frameworks.torch.utils.internal import is_lazy; print(is_lazy())"
    assert run_script(script, "1.23", mode) == f"{lazy}\n"


def test_importing_it_leaves_its_mark_on_the_environment() -> None:
    """As the vendor's import does; weight sharing comes with lazy mode unless it is turned off."""
    script = """
import os, sys, habana_frameworks.torch
print(os.environ["TORCHINDUCTOR_COMPILE_THREADS"], os.environ["HABANA_PROFILE"])
print("habana_frameworks.torch.core.weight_sharing" in sys.modules)
"""
    assert run_script(script, "1.19", "lazy") == "1 profile_api_light\nTrue\n"
    assert run_script(script, "1.19", "lazy", PT_HPU_WEIGHT_SHARING="0") == "1 profile_api_light\nFalse\n"


def test_a_release_that_is_not_the_distributions_is_refused() -> None:
    """Else a probe would see one release and the process would run another."""
    variables = {**environment("1.19", "lazy"), "VIRTUAL_HPU_RELEASE": "1.23"}
    done = subprocess.run(
        [sys.executable, "-c", "import habana_frameworks.torch"],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "VIRTUAL_HPU_RELEASE=1.23 but habana-torch-plugin is 1.19.0.561+emulated" in done.stderr


def test_another_process_is_asked_and_struck(tmp_path: Path) -> None:
    """The process that uses the device answers on the socket it was given."""
    script = """
import habana_frameworks.torch, torch
x = torch.ones(2, device="hpu")
print("ready", flush=True)
for line in iter(input, "end"):
    try:
        print((x + 1).tolist(), flush=True)
    except RuntimeError as error:
        print(error, flush=True)
"""
    address = tmp_path / "control"
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env=environment("1.19", "lazy", VIRTUAL_HPU_CONTROL=str(address)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        told, answers = process.stdin, process.stdout

        def work() -> str:
            print("go", file=told, flush=True)
            return answers.readline()

        assert answers.readline() == "ready\n"
        with asking(address) as device:
            before = device.counters()
            assert work() == "[2.0, 2.0]\n"
            assert device.counters()["host_reads"] == before["host_reads"] + 1
            device.strike("fatal")
            assert "Generic failure" in work()
            assert "Generic failure" in work()
        print("end", file=told, flush=True)
