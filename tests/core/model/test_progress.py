"""Telling how far a download is; the hub waits in the middle of the weights until it was told."""

from __future__ import annotations

import io
import logging
import sys
import threading

import pytest
from runtime import demo
from runtime.model import progress
from support.hub_server import FIRST, MODEL_ID, WEIGHTS, Find, HubServer

SIZE = f"{(demo.MODEL / WEIGHTS).stat().st_size / 1e6:.1f} MB"


def test_progress_is_logged(
    server: HubServer,
    find: Find,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log tells of a download while it goes on; the hub waits here until it does."""
    told, waited = threading.Event(), list[bool]()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if f"MB of {SIZE}" in record.getMessage():
                told.set()

    monkeypatch.setattr(progress, "LINE_SECONDS", 0.001)
    monkeypatch.setattr(progress.log, "handlers", [Listener()])
    server.halfway = lambda name: None if name != WEIGHTS else waited.append(told.wait(10))
    with caplog.at_level(logging.INFO):
        find()
    assert waited == [True]
    assert f"fetching {MODEL_ID} at commit {FIRST}: 1 file(s), {SIZE}" in caplog.text
    assert server.url not in caplog.text


def test_progress_is_a_bar_on_a_terminal(server: HubServer, find: Find, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes away when the download is done."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

        def write(self, text: str) -> int:
            if f"/{SIZE}" in text:
                told.set()
            return super().write(text)

    told, waited, terminal = threading.Event(), list[bool](), Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "BAR_SECONDS", 0.001)
    server.halfway = lambda name: None if name != WEIGHTS else waited.append(told.wait(10))
    find()
    assert waited == [True]
    assert terminal.getvalue().endswith("\x1b[2K")
