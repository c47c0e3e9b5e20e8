"""The lines of the log."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator

import pytest
from runtime.telemetry.logs import set_up_logs
from support.logs import logging_restored

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Undo what the set-up does to the whole process."""
    with logging_restored():
        yield


def test_a_line_has_time_level_and_process(capsys: pytest.CaptureFixture[str]) -> None:
    """On standard output; the time is UTC with milliseconds."""
    set_up_logs("worker")
    logging.getLogger("runtime.engine").info("loaded in %.1f s", 2)
    logging.getLogger("runtime.engine").warning("slow")
    captured = capsys.readouterr()
    first, second = captured.out.splitlines()
    assert re.fullmatch(rf"{STAMP}  INFO worker: loaded in 2\.0 s", first)
    assert re.fullmatch(rf"{STAMP} WARNING worker: slow", second)
    assert captured.err == ""


def test_libraries_are_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    """But for their warnings."""
    set_up_logs("serve")
    for name in ("httpx", "uvicorn.error"):
        logging.getLogger(name).info("a request came")
        logging.getLogger(name).warning("it was odd")
    logging.getLogger("runtime").debug("detail")
    assert capsys.readouterr().out.count("\n") == 2


def test_grpc_core_is_quiet_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator's own choice stays."""
    set_up_logs("serve")
    assert os.environ["GRPC_VERBOSITY"] == "NONE"
    monkeypatch.setenv("GRPC_VERBOSITY", "DEBUG")
    set_up_logs("serve")
    assert os.environ["GRPC_VERBOSITY"] == "DEBUG"


def test_setting_up_again_does_not_double_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """The last one counts."""
    set_up_logs("serve")
    set_up_logs("worker")
    logging.getLogger("runtime").info("once")
    assert capsys.readouterr().out.endswith("INFO worker: once\n")


def test_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """One object a line, a failure's traceback within it."""
    set_up_logs("serve", as_json=True)
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("runtime").exception("it %s", "failed")
    told = json.loads(capsys.readouterr().out)
    assert re.fullmatch(STAMP, told["timestamp"])
    assert (told["level"], told["target"], told["message"]) == ("ERROR", "serve", "it failed")
    assert told["exception"].startswith("Traceback")
