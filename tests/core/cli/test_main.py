"""The command `runtime` itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import runtime
from click.testing import CliRunner
from runtime.cli import COMMANDS, main

HEAVY = ("torch", "transformers", "grpc", "fastapi", "numpy")


def test_help_lists_every_command() -> None:
    """With its first sentence; each has a help of its own."""
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    listed = result.output.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in listed] == list(COMMANDS)
    assert all(len(line.split()) > 3 for line in listed)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    """Under both names of the option."""
    for option in ("-h", "--help"):
        result = CliRunner().invoke(main, [command, option], prog_name="runtime")
        assert result.exit_code == 0
        assert result.output.startswith(f"Usage: runtime {command} ")


def test_commands_are_the_files_of_the_folder() -> None:
    """A command that is not listed could not be found."""
    files = {path.stem for path in Path(next(iter(runtime.cli.__path__))).glob("*.py")}
    assert {name.replace("-", "_") for name in COMMANDS} == files - {
        "__init__",
        "asking",
        "options",
        "plan_text",
        "running",
    }


def test_unknown_command() -> None:
    """Click's own message."""
    result = CliRunner().invoke(main, ["sever"])
    assert result.exit_code == 2
    assert "No such command 'sever'" in result.output


def test_version() -> None:
    """That of the package."""
    assert CliRunner().invoke(main, ["--version"]).output == f"runtime, version {runtime.__version__}\n"


def test_help_imports_nothing_heavy() -> None:
    """It answers at once, and where no backend works."""
    code = (
        "import sys; from runtime.cli import main; main(['--help'], standalone_mode=False);"
        f"sys.exit(' '.join(name for name in {HEAVY} if name in sys.modules) or 0)"
    )
    source = Path(runtime.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(source)}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "Commands:" in done.stdout
