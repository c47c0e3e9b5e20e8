"""The worker is killed again and again under streams of the real backend: `make faults` runs it.

Sixteen streams of the bundled model, half of them about a picture and half of them sampled. Their texts are compared,
byte for byte, with those of an undisturbed run.
"""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import statistics
import time
from typing import Any

import pytest
from runtime import demo
from support.processes import serving
from support.streams import Streams, read, sound

pytestmark = [pytest.mark.anyio, pytest.mark.long, pytest.mark.timeout(1200)]

KILLS = 20
PICTURE = base64.b64encode((demo.PICTURES / "three-shapes.png").read_bytes()).decode()


def body(number: int, length: int) -> dict[str, Any]:
    """One of sixteen, all different."""
    picture = f"![](data:image/png;base64,{PICTURE})" if number % 2 else ""
    parameters = {"max_new_tokens": length}
    if number % 4 > 1:
        parameters |= {"seed": number, "temperature": 1.2, "top_p": 0.95}
    return {"inputs": f"[INST] {picture}\nStory number {number}, please. [/INST]", "parameters": parameters}


@pytest.mark.parametrize(("exact", "length"), [("--dtype=float32", 1000), ("--deterministic", 250)])
async def test_killed_worker(exact: str, length: int) -> None:
    """Twenty times; no stream loses, repeats or changes a byte.

    In bf16 a row's numbers depend on who runs beside it, and that changes with a restart, unless rows run apart.
    """
    bodies, pauses = [body(number, length) for number in range(16)], []
    with serving("--backend", "cpu", "--model-id", "demo", exact, "--max-batch-size", "16", "--ignore-eos") as server:
        undisturbed = sound(await read(server.http, bodies))
        async with Streams(server.http, bodies) as streams:
            for _ in range(KILLS):
                await streams.grow(2)
                assert not any(stream.is_over for stream in streams.all)
                began = time.monotonic()
                os.kill(server.worker, signal.SIGKILL)
                await asyncio.to_thread(server.wait_for, "Connected")
                pauses.append(time.monotonic() - began)
            await streams.end()
    differing = [
        n for n, (told, wanted) in enumerate(zip(sound(streams.all), undisturbed, strict=True)) if told != wanted
    ]
    assert differing == []
    print(f"{KILLS} kills; ready again after {statistics.median(pauses):.1f} s, at most {max(pauses):.1f} s")
