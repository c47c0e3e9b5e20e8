"""Mixed load with random faults, for half an hour: `make soak`; SOAK_MINUTES makes it longer or shorter.

Clients ask with pictures and without, greedy and sampled, over HTTP; some hang up, some send what is refused. The
worker is killed, hung and failed at random. Every answer must be the oracle's, or a refusal while no worker serves.
"""

from __future__ import annotations

import asyncio
import base64
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from runtime import demo
from support.chaos import HARM, Hurt, hurting
from support.processes import serving
from support.streams import Stream, read, sound

pytestmark = [pytest.mark.anyio, pytest.mark.soak]

MINUTES = float(os.environ.get("SOAK_MINUTES", "30"))
CLIENTS = 6
SEED = 20
PICTURES = [base64.b64encode(path.read_bytes()).decode() for path in sorted(demo.PICTURES.glob("*.png"))]
QUESTIONS = (
    "What is this a picture of?",
    "How many shapes are there?",
    "Describe the picture.",
    "What colour is the background?",
)
REFUSED = (
    {"inputs": "hello", "parameters": {"max_new_tokens": 100_000}},
    {"inputs": "hello", "parameters": {"temperature": -1}},
    {"inputs": "![](data:image/png;base64,aGVsbG8=) hello"},
    {"inputs": "![](http://127.0.0.1:9/a.png) hello"},
)
MOST_KILOBYTES_A_MINUTE = 1024


def bodies() -> list[dict[str, Any]]:
    """What is asked: every question about every picture, greedy and with a seed, and some talk."""
    asked: list[dict[str, Any]] = []
    for number, (picture, question) in enumerate((each, ask) for each in PICTURES for ask in QUESTIONS):
        parameters: dict[str, Any] = {"max_new_tokens": 40}
        if number % 2:
            parameters |= {"seed": number, "temperature": 0.7, "top_p": 0.9}
        asked.append(
            {"inputs": f"[INST] ![](data:image/png;base64,{picture})\n{question} [/INST]", "parameters": parameters}
        )
    stories = {"max_new_tokens": 150}
    return asked + [
        {"inputs": f"[INST] Story number {number}, please. [/INST]", "parameters": stories} for number in range(4)
    ]


BODIES = bodies()


class Soak:
    """What the clients saw."""

    def __init__(self, truth: list[str | None], hurt: Hurt) -> None:
        self.truth = truth
        self.hurt = hurt
        self.random = random.Random(SEED)  # to be repeated
        self.seen: Counter[str] = Counter()
        self.wrong: list[object] = []
        self.until = time.monotonic() + 60 * MINUTES
        self.memory: list[tuple[float, int]] = []
        """Seconds, and kilobytes of the gateway."""
        self.handles: list[int] = []

    async def client(self, http: httpx.AsyncClient) -> None:
        """Ask one thing after another."""
        while time.monotonic() < self.until:
            kind = self.random.random()
            if kind < 0.1:
                await self._refused(http)
            elif kind < 0.2:
                await self._hung_up(http)
            else:
                await self._answered(http)

    async def _answered(self, http: httpx.AsyncClient) -> None:
        number = self.random.randrange(len(BODIES))
        stream = Stream(BODIES[number])
        await stream.read(http)
        if stream.status == 503:  # no worker serves
            self.seen["not ready"] += 1
            await asyncio.sleep(0.5)
        elif stream.is_sound and stream.whole == self.truth[number]:
            self.seen["right"] += 1
        else:
            self.wrong.append((number, stream.status, stream.error, stream.whole))

    async def _hung_up(self, http: httpx.AsyncClient) -> None:
        stream = Stream(self.random.choice(BODIES))
        reading = asyncio.ensure_future(stream.read(http))
        await asyncio.wait({reading}, timeout=self.random.random())
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading
        self.seen["hung up"] += 1

    async def _refused(self, http: httpx.AsyncClient) -> None:
        answer = await http.post("/generate", json=self.random.choice(REFUSED))
        if answer.status_code not in (422, 503):
            self.wrong.append((answer.status_code, answer.text))
        self.seen["refused"] += 1

    async def harm(self) -> None:
        """Hurt the worker every few seconds, once it has answered again: what never answers is another test's."""
        while time.monotonic() < self.until - 60:
            answered = self.seen["right"] + 2 * CLIENTS
            while self.seen["right"] < answered:  # noqa: ASYNC110  # a look now and then is enough
                await asyncio.sleep(self.random.uniform(1, 5))
            harm = self.random.choice([*HARM, "no numbers", "wrong shape"])
            self.hurt.order(self.random.choice(["decode", "decode", "prefill"]), harm)
            self.seen[f"harm: {harm}"] += 1

    async def measure(self) -> None:
        """Watch the gateway, which lives as long as the server."""
        process = Path(f"/proc/{self.hurt.server.process.pid}")
        while time.monotonic() < self.until:
            await asyncio.sleep(5)
            resident = next(line for line in (process / "status").read_text().splitlines() if line.startswith("VmRSS"))
            self.memory.append((time.monotonic(), int(resident.split()[1])))
            self.handles.append(len(list((process / "fd").iterdir())))

    @property
    def slope(self) -> float:
        """Kilobytes a minute by which the gateway grew in the second half, by least squares."""
        later = self.memory[len(self.memory) // 2 :]
        middle = sum(at for at, _ in later) / len(later), sum(size for _, size in later) / len(later)
        covariance = sum((at - middle[0]) * (size - middle[1]) for at, size in later)
        return 60 * covariance / sum((at - middle[0]) ** 2 for at, _ in later)


@pytest.fixture
def hurt(tmp_path: Path) -> Iterator[Hurt]:
    """The backend `cpu` in fp32, whose tokens are the oracle's, with the wrapper `chaos` around it."""
    with hurting(tmp_path, "--backend", "cpu", "--dtype", "float32", "--step-timeout", "5") as hurt:
        yield hurt


@pytest.mark.timeout(60 * MINUTES + 900)
async def test_soak(hurt: Hurt) -> None:
    """Nothing lost, nothing told twice, nothing wrong; memory and file handles flat."""
    with serving("--backend", "cpu_reference", "--model-id", "demo") as oracle:
        truth = sound(await read(oracle.http, BODIES))
    soak = Soak(truth, hurt)
    async with httpx.AsyncClient(base_url=hurt.server.http, timeout=300, trust_env=False) as http:
        await asyncio.gather(*(soak.client(http) for _ in range(CLIENTS)), soak.harm(), soak.measure())
    print(f"{MINUTES:g} minutes: {dict(soak.seen)}")
    print(f"{soak.slope:+.0f} KB a minute; {soak.handles[0]} file handles at first, {soak.handles[-1]} at last")
    assert soak.wrong == []
    assert soak.seen["right"] > 0
    assert soak.slope < MOST_KILOBYTES_A_MINUTE
    assert max(soak.handles[len(soak.handles) // 2 :]) <= max(soak.handles[: len(soak.handles) // 2]) + 8
