"""The snapshot of TGI's integration tests for this model, on the real weights where they are at hand.

REAL_MODEL names the folder of llava-hf/llava-v1.6-mistral-7b-hf, REAL_PICTURE the file
integration-tests/images/chicken_on_money.png of text-generation-inference, RUNTIME_BACKEND the backend.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from runtime.runtime import GenerateRequest, ImagePart, StoppingParameters, TextPart
from runtime.serve.assembly import build_runtime, model_of
from support.command_line import settings_of
from support.serving import ids, reply

MODEL, PICTURE = (Path(os.environ.get(name, "missing")) for name in ("REAL_MODEL", "REAL_PICTURE"))
QUESTION = "Can you tell me a very short story based on the image?"
IDS = [13, 13, 16114, 3714, 264, 727, 28725, 736, 403, 264]
TEXT = "\n\nOnce upon a time, there was a"


@pytest.mark.anyio
@pytest.mark.real_model
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not (MODEL.is_dir() and PICTURE.is_file()), reason="REAL_MODEL and REAL_PICTURE name no files")
async def test_snapshot() -> None:
    """Ten greedy tokens of integration-tests/models/test_llava_next.py, which TGI told on another accelerator."""
    backend = os.environ.get("RUNTIME_BACKEND", "cpu_reference")
    settings = settings_of("--model-id", str(MODEL), "--backend", backend, "--max-batch-size", "1")
    parts = (TextPart("User:"), ImagePart(PICTURE.read_bytes()), TextPart(QUESTION))
    runtime = build_runtime(settings, model_of(settings))
    try:
        await asyncio.wrap_future(runtime.engine.loaded)
        answer = await reply(runtime, GenerateRequest(parts, stopping=StoppingParameters(len(IDS))))
    finally:
        await runtime.aclose()
    assert ids(answer) == IDS
    assert answer.completion is not None
    assert answer.completion.text == TEXT
