"""Attackers of a server, in a process of their own: `python -m benchmarks.attackers`; see `under_attack.py`.

They are the hosts of `tests/support/attack_hosts.py` too. Answers with the port of these hosts when asked nothing, and
when given a server and seconds, with what became of the attacks of that time.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import httpx

from benchmarks.serving.children import answer

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from support.attack_addresses import SPELLINGS
from support.attack_hosts import QUICK, SLOW, hosting
from support.attack_pictures import REFUSED, endless_scans

PATIENCE: Final = 120.0
"""Seconds an attacker waits for an answer, which no answer may take."""


def main() -> None:
    """Host until standard input ends, and attack when asked to."""
    with hosting() as port:
        quick, slow = _attacks(port)

        def work(question: Mapping[str, Any]) -> Any:
            if not question:
                return port
            return asyncio.run(_attack(question["server"], question["seconds"], question["attackers"], quick, slow))

        answer(work)


def _attacks(port: int) -> tuple[list[str], list[str]]:
    """Return the addresses of pictures that are refused at once, and of those that are when a time is up."""
    by_value = [made() for made, told in REFUSED.values() if told != "too thin"]  # which they are for other models
    quick, slow = ([f"http://127.0.0.1:{port}/{path}" for path in hosts] for hosts in (QUICK, SLOW))
    return [*SPELLINGS, *map(_data_uri, by_value), *quick], [*slow, *[_data_uri(endless_scans(2**20))] * 4]


def _data_uri(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


async def _attack(server: str, seconds: float, attackers: int, quick: list[str], slow: list[str]) -> dict[str, Any]:
    """Attack for some time, half of the attackers with what takes long; then wait for the last answers.

    Told are the answers by status, the longest wait in seconds, and the attacks that were not refused.
    """
    statuses: Counter[str] = Counter()
    through: list[str] = []
    longest = 0.0
    ends = time.monotonic() + seconds

    async def attacker(http: httpx.AsyncClient, attacks: Iterator[str]) -> None:
        nonlocal longest
        while time.monotonic() < ends:
            attack = next(attacks)
            body = {"inputs": f"![]({attack})What is it?", "parameters": {"max_new_tokens": 1}}
            began = time.monotonic()
            status = (await http.post("/generate", json=body)).status_code
            longest = max(longest, time.monotonic() - began)
            statuses[str(status)] += 1
            if not 400 <= status < 500:
                through.append(attack[:200])

    async with httpx.AsyncClient(base_url=server, timeout=PATIENCE, trust_env=False) as http:
        turns = [itertools.cycle(random.sample(kind, len(kind))) for kind in (quick, slow)]
        await asyncio.gather(*(attacker(http, turns[index % 2]) for index in range(attackers)))
    return {"statuses": statuses, "longest": longest, "through": through}


if __name__ == "__main__":
    main()
