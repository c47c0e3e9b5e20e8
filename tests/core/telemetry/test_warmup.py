"""What an operator sees of a warm-up."""

from __future__ import annotations

import io
import logging
import sys

import pytest
from runtime.telemetry.warmup import LINE_SECONDS, shown_warmup


def test_lines_are_few(caplog: pytest.LogCaptureFixture) -> None:
    """The first at once, then one every five seconds, however many shapes there are."""
    now = [0.0]
    with caplog.at_level(logging.INFO), shown_warmup(lambda: now[0]) as show:
        for done in range(101):
            now[0] = done * LINE_SECONDS / 50
            show(done, 100, f"{done} of 100 shapes")
    assert caplog.messages == [f"warming up: {done} of 100 shapes" for done in (0, 50, 100)]


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """It leaves room for all the words, goes away at the end, and no line is logged."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal, words = Terminal(), "12 of 155 shapes, prefill 4 x 4096 done, about 3 min left"
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    with caplog.at_level(logging.INFO), shown_warmup() as show:
        show(12, 155, words)
    assert "warming up" in terminal.getvalue()
    assert words in terminal.getvalue()
    assert terminal.getvalue().endswith("\x1b[2K")
    assert caplog.messages == []
