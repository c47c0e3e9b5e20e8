"""How many requests are computed together, from the guide's flags to the steps of the scheduler."""

from __future__ import annotations

from dataclasses import replace

import pytest
from runtime.serve.assembly import budgets_of, limits_of
from support.command_line import settings_of
from support.serving import MODEL
from support.simulator import Job, Simulator

MISTRAL = replace(MODEL, max_positions=32768)
GUIDE = [
    *("--model-id", "demo"),
    *("--max-input-tokens", "4096", "--max-batch-prefill-tokens", "16384"),
    *("--max-total-tokens", "8192", "--max-batch-total-tokens", "32768"),
]


class Watched(Simulator):
    """Remembers the most rows that ran together."""

    most = 0

    def _check_account(self) -> None:
        super()._check_account()
        self.most = max(self.most, len(self.running))


VECTORS = {
    # what else is given, tokens of each prompt, of each reply at most; prompts of a prefill, rows that decode together
    "full": ([], 4096, 4096, 4, 4),
    "full, more slots": (["--max-batch-size", "16"], 4096, 4096, 4, 4),
    "short": ([], 512, 512, 4, 4),
    "short, more slots": (["--max-batch-size", "16"], 512, 512, 16, 16),
    "long prompts, short replies": (["--max-batch-size", "16"], 4096, 64, 4, 7),
    "short prompts, long replies": (["--max-batch-size", "16"], 64, 8128, 4, 4),
    "smaller prefills": (["--max-batch-prefill-tokens", "8192"], 4096, 4096, 2, 4),
    "fewer slots": (["--max-batch-size", "2"], 512, 512, 2, 2),
}


@pytest.mark.parametrize(("flags", "prompt", "reply", "prefill", "rows"), VECTORS.values(), ids=VECTORS.keys())
def test_requests_together(flags: list[str], prompt: int, reply: int, prefill: int, rows: int) -> None:
    """16384 / 4096 = 4 prompts of full length in a prefill, and 32768 / 8192 = 4 rows of full length.

    TGI-Gaudi warms up 16 rows with these flags, because its model reads MAX_BATCH_TOTAL_TOKENS from the environment,
    131072 by default, and not the flag. And it charges every request the longest prompt and reply there may be.
    """
    settings = settings_of(*GUIDE, *flags)
    limits = limits_of(settings, MISTRAL)
    jobs = [Job(key, 0.0, prompt, reply, min(reply, 64)) for key in range(32)]
    simulator = Watched(jobs, limits.rows, limits.prefill_rows, budgets_of(settings, limits))
    simulator.run()
    assert (max(map(len, simulator.prefills)), simulator.most) == (prefill, rows)
    assert len(simulator.finished) == len(jobs)
