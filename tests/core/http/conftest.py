"""The whole worker behind HTTP: the demo model's tokenizer and template, the arithmetic backend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from runtime.config import Settings
from runtime.local import LocalRuntime
from runtime.serve.assembly import build_runtime, model_of


@pytest.fixture
async def demo(arithmetic_plugin: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LocalRuntime]:
    """A runtime that takes text and pictures; the reply to a prompt is `support.arithmetic.expected`."""
    monkeypatch.syspath_prepend(str(arithmetic_plugin))
    settings = Settings.of(model_id="demo", backend="arithmetic")
    runtime = build_runtime(settings, model_of(settings))
    try:
        await asyncio.wrap_future(runtime.engine.loaded)
        yield runtime
    finally:
        await runtime.aclose()
