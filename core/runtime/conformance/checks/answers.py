"""What a backend answers with."""

from __future__ import annotations

from typing import Final

from runtime.conformance.bench import Bench
from runtime.conformance.check import Failed, NotApplicable, check
from runtime.conformance.readings import wholes

NATS: Final = 20
"""How far a log-probability may be off, as a multiple of the mean deviation that scores may have."""


@check(
    "scores",
    "Every prompt and every token is answered with a number for each word of the vocabulary.",
    "Scores of the padded vocabulary, ids in place of scores, or an overflow that became no number.",
)
def answers_are_scores(bench: Bench) -> str:
    for name, reading in bench.own.items():
        if not reading.isfinite().all():
            step = int((~reading.isfinite()).any(-1).nonzero()[0])
            raise Failed(f"{name}: scores that are no numbers, {step} tokens after the prompt")
    return str(bench.dtype).removeprefix("torch.")


@check(
    "prompt-logprobs",
    "The log-probabilities of a prompt's own tokens are right, or it says that it cannot tell them.",
    "Scores taken at the token itself and not at the one before it.",
)
def prompt_logprobs_are_right(bench: Bench) -> str:
    cases = bench.cast[:3]
    parts = wholes(dict(enumerate(cases)))
    driver = bench.driver()
    output = driver.hooks.prefill(driver.batch(parts, prompt_logprobs=True))
    driver.hooks.release(list(parts))
    if output.prompt_logprobs is None:
        raise NotApplicable("it does not tell them")
    allowed = NATS * bench.tolerance.mean
    worst = 0.0
    for row, case in enumerate(cases):
        length = len(case.prompt)
        got, wanted = output.prompt_logprobs[row, 1:length].float().cpu(), bench.oracle.prompt_logprobs(case.prompt)
        apart = float((got - wanted).abs().nan_to_num(float("inf")).max())
        if apart > allowed:
            raise Failed(f"{case.prompt.name}: a token is {apart:.2g} nats off, and {allowed:.2g} are allowed")
        worst = max(worst, apart)
    return f"at most {worst:.2g} nats of {allowed:.2g}"
