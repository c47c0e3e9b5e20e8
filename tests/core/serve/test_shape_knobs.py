"""What the settings for shapes do to the batches that a backend of static shapes sees."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from runtime import demo
from runtime.backend import DecodeShape, PrefillShape, VisionShape
from runtime.config import Settings
from runtime.geometry import tile_count
from runtime.local import LocalRuntime
from runtime.model import FoundModel
from runtime.runtime import GenerateRequest, ImagePart, StoppingParameters, TextPart
from runtime.serve.assembly import build_runtime
from support import planned
from support.arithmetic import expected
from support.planned import PlannedBackend
from support.plugin import install_plugin
from support.serving import MODEL, ids, reply, tokens_request

pytestmark = pytest.mark.anyio

SMALL = {"max_total_tokens": 200, "max_input_tokens": 150, "max_batch_size": 6, "pad_sequence_to_multiple_of": 16}
SHAPES: dict[str, Any] = {
    "pad_sequence_to_multiple_of": 64,
    "prefill_batch_bucket_size": 1,
    "batch_bucket_size": 2,
    "warmup_enabled": False,
}


@pytest.fixture(autouse=True)
def _planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the backend known."""
    monkeypatch.syspath_prepend(install_plugin(tmp_path / "plugins", "planned", "support.planned"))


@asynccontextmanager
async def served(**given: Any) -> AsyncIterator[tuple[LocalRuntime, PlannedBackend]]:
    """A runtime that is ready, and its backend."""
    settings = Settings.of(**{"model_id": "demo", "backend": "planned", **SMALL, **given})
    settings.check()
    runtime = build_runtime(settings, FoundModel(MODEL, None))
    try:
        await asyncio.wrap_future(runtime.engine.loaded)
        yield runtime, planned.loaded[-1]
    finally:
        await runtime.aclose()


@pytest.mark.parametrize(
    ("given", "prompt", "shapes"),
    [
        pytest.param({}, 40, (PrefillShape(4, 48), DecodeShape(6, 64)), id="defaults"),
        pytest.param(
            {"pad_sequence_to_multiple_of": 64},
            40,
            (PrefillShape(4, 64), DecodeShape(6, 64)),
            marks=pytest.mark.proves("--pad-sequence-to-multiple-of"),
        ),
        pytest.param(
            {"prefill_batch_bucket_size": 1},
            40,
            (PrefillShape(1, 48), DecodeShape(6, 64)),
            marks=pytest.mark.proves("--prefill-batch-bucket-size"),
        ),
        pytest.param(
            {"batch_bucket_size": 2},
            40,
            (PrefillShape(4, 48), DecodeShape(2, 64)),
            marks=pytest.mark.proves("--batch-bucket-size"),
        ),
        pytest.param({"bucket_strategy": "linear"}, 90, (PrefillShape(4, 96), DecodeShape(6, 128))),
        pytest.param(
            {"bucket_strategy": "exponential"},  # 16 32 48 64 80 112 144
            90,
            (PrefillShape(4, 112), DecodeShape(6, 128)),
            marks=pytest.mark.proves("--bucket-strategy"),
        ),
    ],
)
async def test_batches_are_padded(given: dict[str, Any], prompt: int, shapes: tuple[PrefillShape, DecodeShape]) -> None:
    """A prompt and its second token, alone; by default prefills are of 4 rows, and 8 rows are more than there are."""
    async with served(**given) as (runtime, backend):
        answer = await reply(runtime, tokens_request([501] * prompt, 2))
    assert ids(answer) == expected([501] * prompt, 2)
    assert tuple(backend.met) == shapes
    assert backend.unknown == 0


@pytest.mark.proves("--bucket-file")
async def test_batches_are_padded_as_the_file_says(tmp_path: Path) -> None:
    """And to the limits, which it need not list."""
    lists = {"prefill_lengths": [70], "prefill_rows": [2], "decode_rows": [3], "decode_contexts": [75]}
    (tmp_path / "buckets.json").write_text(json.dumps(lists))
    given = {"bucket_strategy": "file", "bucket_file": str(tmp_path / "buckets.json")}
    async with served(**given) as (runtime, backend):
        for prompt in ([501] * 40, [502] * 80):
            await reply(runtime, tokens_request(prompt, 2))
    assert backend.met == [PrefillShape(2, 70), DecodeShape(3, 75), PrefillShape(2, 150), DecodeShape(3, 200)]


@pytest.mark.proves("--warmup-enabled")
@pytest.mark.parametrize("enabled", [True, False])
async def test_shapes_are_warmed_or_met_in_service(enabled: bool) -> None:
    """All of them before the first request, or none; the rest is the same."""
    async with served(warmup_enabled=enabled) as (runtime, backend):
        answer = await reply(runtime, tokens_request([500] * 40, 2))
        details = (await runtime.info()).details
        plan = runtime.engine.prepared.plan
    assert ids(answer) == expected([500] * 40, 2)
    assert {*backend.warmed} == ({*plan.prefill, *plan.vision, *plan.decode} if enabled else set())
    assert backend.unknown == (0 if enabled else 2)
    assert details["warmup"] == ("done" if enabled else "skipped")


async def test_pictures_meet_planned_shapes_only() -> None:
    """Each has the shape of its tiles, and its tokens are padded with those of the text."""
    pictures = sorted(demo.PICTURES.glob("*.png"))
    async with served(max_total_tokens=2048, max_input_tokens=1500, pad_sequence_to_multiple_of=256) as (
        runtime,
        backend,
    ):
        for picture in pictures:
            request = GenerateRequest((ImagePart(picture.read_bytes()), TextPart("What?")))
            await reply(runtime, replace(request, stopping=StoppingParameters(2)))
    assert MODEL.images is not None
    assert len(pictures) > 3
    visions = [shape for shape in backend.met if isinstance(shape, VisionShape)]
    assert len(visions) == len(pictures)
    assert {*visions} <= {*backend.plan.vision}
    assert max(shape.tiles for shape in visions) == max(
        tile_count(canvas, MODEL.images) for canvas in MODEL.images.pinpoints
    )
    assert backend.unknown == 0


@pytest.mark.parametrize("name", SHAPES)
async def test_backend_of_any_shape_heeds_none(
    name: str, arithmetic_plugin: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each that was given is told of at the start."""
    monkeypatch.syspath_prepend(arithmetic_plugin)
    settings = Settings.of(model_id="demo", backend="arithmetic", **{name: SHAPES[name]})
    runtime = build_runtime(settings, FoundModel(MODEL, None))
    await runtime.aclose()
    flag = "--" + name.replace("_", "-")
    assert caplog.messages == [f"{flag} has no effect: backend arithmetic takes batches of any shape"]


async def test_backend_of_static_shapes_heeds_all(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is told in vain but that there is no warm-up."""
    async with served(**SHAPES):
        pass
    (line,) = caplog.messages
    assert line.startswith("the warm-up is off (--no-warmup-enabled): each of ")
