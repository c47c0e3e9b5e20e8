"""The warm-up meets every shape, so that none is met for the first time in service, and disturbs no row."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from runtime.backend import PrefillShape, WarmupProgress
from runtime.conformance.bench import Bench
from runtime.conformance.check import Failed, NotApplicable, check
from runtime.conformance.driver import Driver, Part
from runtime.conformance.loading import Loaded
from runtime.conformance.prompts import Prompt, shown, text
from runtime.conformance.readings import go_on, paired, wholes
from runtime.errors import NotReady
from runtime.shapes.pictures import cuts_of

UNKNOWN = "unknown_shapes"
"""The counter of `stats` for shapes that were met without being warmed."""


class Stopping(NotReady):
    """What core raises in `progress` when the server is told to stop."""


@check(
    "warmup-covers-plan",
    "The warm-up runs every shape of its plan and tells of each.",
    "A kind of shape that is left out because it never came in a test, such as the last bucket.",
)
def warmup_covers_the_plan(bench: Bench) -> str:
    loaded = _static(bench)
    told = set(loaded.warmed)
    planned = [*loaded.plan.prefill, *loaded.plan.decode, *loaded.plan.vision]
    left = [shape for shape in planned if shape not in told]
    if left:
        raise Failed(f"{len(left)} of {len(planned)} shapes were never told of, the first is {left[0]}")
    return f"{len(planned)} shapes"


@check(
    "no-unknown-shape",
    "After the warm-up a batch of every shape of the plan runs, and none of them is new to the backend.",
    "A graph whose key holds more than the shape, so that service asks for keys that the warm-up never made.",
)
def no_shape_is_unknown(bench: Bench) -> str:
    loaded = _static(bench)
    before = loaded.hooks.stats().get(UNKNOWN)
    count = 0
    for slots in _every_shape(bench, loaded):
        loaded.driver.release(slots)
        count += 1
    after = loaded.hooks.stats().get(UNKNOWN)
    if before is None or after is None:
        return f"{count} batches; `stats` has no {UNKNOWN}"
    if after > before:
        raise Failed(f"{after - before:g} shapes were new in {count} batches")
    return f"{count} batches"


@check(
    "warmup-keeps-rows",
    "A warm-up changes nothing that a slot holds.",
    "Batches of the warm-up that write to slot 0 in place of a scratch row.",
)
def warmup_keeps_rows(bench: Bench) -> str:
    cases, driver = dict(enumerate(bench.cast)), bench.driver()
    first = driver.prefill(wholes(cases))
    driver.hooks.warmup(bench.backend.plan, lambda _progress: None)
    readings = go_on(driver, cases, first)
    return bench.same(paired(cases, readings))


@check(
    "warmup-stops",
    "What `progress` raises comes through, so that a server that is told to stop does.",
    "A warm-up that catches every exception of a shape and goes on with the next.",
)
def warmup_stops(bench: Bench) -> str:
    loaded = _static(bench)

    def stop(progress: WarmupProgress) -> None:
        raise Stopping(f"at {progress.shape}")

    try:
        loaded.hooks.warmup(loaded.plan, stop)
    except Stopping:
        return "it stops at the first shape"
    raise Failed("it went on")


def _static(bench: Bench) -> Loaded:
    if not bench.backend.is_static:
        raise NotApplicable("it takes any shape and is given no plan")
    return bench.backend


def _every_shape(bench: Bench, loaded: Loaded) -> Iterator[Collection[int]]:
    """Run a batch of each shape; yield the slots it used."""
    limits, driver = loaded.limits, bench.driver()
    longest = text("longest text", limits.prefill_tokens, seed=50)
    for shape in loaded.plan.prefill:
        parts = _resumed(shape, longest, driver) if shape.cached else _whole(shape, longest, loaded)
        driver.prefill(parts)
        yield parts
    for step in loaded.plan.decode:
        slot = step.rows - 1
        driver.prefill({slot: Part(longest, 0, min(step.context - 1, len(longest)))})
        driver.decode({slot: longest.tokens[0]})
        yield (slot,)
    assert bench.model.images is not None
    for size in {cut.tiles: cut.witness for cut in cuts_of(bench.model.images)}.values():
        driver.prefill({0: Part.whole(shown("picture", [size], bench.model, seed=51))})
        yield (0,)


def _whole(shape: PrefillShape, longest: Prompt, loaded: Loaded) -> Mapping[int, Part]:
    rows = min(shape.rows, loaded.limits.prefill_rows)
    return {slot: Part(longest, 0, min(shape.length, len(longest))) for slot in range(rows)}


def _resumed(shape: PrefillShape, longest: Prompt, driver: Driver) -> Mapping[int, Part]:
    """Return parts of this shape: of one row, or a row that holds much beside one that lacks much."""
    held, lacking = min(shape.cached, len(longest) - 1), min(shape.length, len(longest) - 1)
    if shape.rows > 1:
        driver.prefill({0: Part(longest, 0, held), 1: Part(longest, 0, 1)})
        return {0: Part(longest, held, held + 1), 1: Part(longest, 1, 1 + lacking)}
    lacking = min(lacking, len(longest) - held)
    driver.prefill({0: Part(longest, 0, held)})
    return {0: Part(longest, held, held + lacking)}
