"""What attacks cost those who read their replies: `python -m benchmarks.under_attack`.

A real server with the bundled model on backend `cpu`; four streams of long replies, by turns undisturbed and while a
process fires every attack of `tests/attacks` in a loop. Told are the time between two tokens under attack as a
multiple of the undisturbed time (medians of the rounds), what the attackers were answered, and the worker's memory.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any, Final

import click
import httpx

from benchmarks.serving.children import Child
from benchmarks.serving.events import EventParser
from benchmarks.serving.figures import percentile

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from support.processes import Server, children, serving

STREAMS: Final = 4
TOKENS: Final = 400
"""Of each reply."""
PROMPTS: Final = [f"[INST] Tell me the story of picture {number}. [/INST]" for number in range(STREAMS)]
SAMPLE_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class Round:
    """What readers of streams saw in one round."""

    gaps: list[float]
    """Seconds from one token of a reply to the next; of tokens that arrive together, each has its share."""

    def figures(self) -> dict[str, float]:
        """Return milliseconds, by name."""
        shares = {f"p{100 * share:.0f}": percentile(self.gaps, share) for share in (0.5, 0.95, 0.99)}
        return {name: 1e3 * seconds for name, seconds in {"mean": mean(self.gaps), **shares}.items()}


@click.command()
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1))
@click.option("--seconds", default=15.0, show_default=True, help="Of each half of a round.")
@click.option("--attackers", default=8, show_default=True, type=click.IntRange(1), help="Requests in flight.")
def main(rounds: int, seconds: float, attackers: int) -> None:
    """Measure and print."""
    calm, attacked, told = [], [], []
    with Child("benchmarks.attackers", 1, pinned=False) as driver, _server(driver.ask()) as server:
        asyncio.run(_read(server.http, 1))  # the first requests pay for imports
        with _memory(server.worker) as samples, ThreadPoolExecutor(1) as aside:
            for _ in range(rounds):
                calm.append(asyncio.run(_read(server.http, seconds)))
                attack = aside.submit(driver.ask, server=server.http, seconds=seconds, attackers=attackers)
                attacked.append(asyncio.run(_read(server.http, seconds)))
                told.append(attack.result())
    _print(calm, attacked, told, samples)


def _server(hosts: int) -> AbstractContextManager[Server]:
    """Start a server that may fetch from the attackers' hosts, with a thread for each core as without tests."""
    arguments = ("--backend", "cpu", "--model-id", "demo", "--ignore-eos", "--image-url-allow", f"127.0.0.1:{hosts}")
    return serving(*arguments, variables={"OMP_NUM_THREADS": str(os.cpu_count())})


def _print(calm: list[Round], attacked: list[Round], told: list[dict[str, Any]], samples: list[int]) -> None:
    before, after = ([one.figures() for one in each] for each in (calm, attacked))
    for name in before[0]:
        ratios = [b[name] / a[name] for a, b in zip(before, after, strict=True)]
        medians = [median(one[name] for one in each) for each in (before, after)]
        print(f"{name} between tokens: {medians[0]:.2f} ms calm, {medians[1]:.2f} ms attacked, ", end="")
        print(f"ratio {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    statuses: Counter[str] = Counter()
    for each in told:
        statuses.update(each["statuses"])
    for attack in {attack for each in told for attack in each["through"]}:
        print(f"not refused: {attack}")
    print(f"answers to attacks: {dict(statuses)}, the longest took {max(each['longest'] for each in told):.1f} s")
    most, before_all = max(samples) / 2**20, samples[0] / 2**20
    print(f"resident memory of the worker and its children: {before_all:.0f} MB before, {most:.0f} MB at most")


async def _read(server: str, seconds: float) -> Round:
    """Read replies, one after the other on each of the streams, until the time is up; whole replies only."""
    seen = Round([])
    ends = time.monotonic() + seconds
    async with httpx.AsyncClient(base_url=server, timeout=120, trust_env=False) as http:

        async def stream(prompt: str) -> None:
            while time.monotonic() < ends:
                await _reply(http, prompt, seen)

        await asyncio.gather(*map(stream, PROMPTS))
    return seen


async def _reply(http: httpx.AsyncClient, prompt: str, seen: Round) -> None:
    body = {"inputs": prompt, "parameters": {"max_new_tokens": TOKENS}}
    parser, last = EventParser(), 0.0
    async with http.stream("POST", "/generate_stream", json=body) as response:
        async for received in response.aiter_raw():
            now = time.perf_counter()
            if not (events := list(parser.feed(received))):
                continue
            if last:
                seen.gaps.extend([(now - last) / len(events)] * len(events))
            last = now


@contextmanager
def _memory(worker: int) -> Iterator[list[int]]:
    """Sample the resident bytes of a process and its children, each on its own; shared pages count in each."""
    samples = [_resident(worker)]
    done = threading.Event()

    def sample() -> None:
        while not done.wait(SAMPLE_SECONDS):
            samples.append(_resident(worker))

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield samples
    finally:
        done.set()
        sampler.join()


def _resident(worker: int) -> int:
    total = 0
    for process in (worker, *children(worker)):
        try:
            pages = Path(f"/proc/{process}/statm").read_text().split()[1]
        except OSError:  # it ended meanwhile
            continue
        total += int(pages) * 4096
    return total


if __name__ == "__main__":
    main()
