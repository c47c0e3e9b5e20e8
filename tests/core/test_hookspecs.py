"""The compute hooks, as `Hooks` calls them and checks what they answer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

import pytest
import torch
from runtime.backend import (
    Capacity,
    DecodeBatch,
    DecodeOutput,
    DecodeShape,
    Placement,
    PrefillBatch,
    PrefillOutput,
    PrefillShape,
    Prefix,
    ShapePlan,
    WarmupProgress,
)
from runtime.errors import BackendContractError, BackendError, BackendRefused, NotReady
from runtime.hookspecs import hookimpl
from runtime.plugins import Hooks
from support.arithmetic import ArithmeticBackend
from support.serving import LIMITS, MODEL

ROW = torch.tensor([0])
PREFILL = PrefillBatch(PrefillShape(1, 3), torch.tensor([[1, 500, 600]]), torch.tensor([3]), ROW, ROW, (None,))
DECODE = DecodeBatch(DecodeShape(1, 64), torch.tensor([601]), torch.tensor([3]), torch.tensor([True]))


CALLS: dict[str, Callable[[Hooks], object]] = {
    "warmup": lambda hooks: hooks.warmup(ShapePlan(), print),
    "prefill": lambda hooks: hooks.prefill(PREFILL),
    "concatenate": lambda hooks: hooks.concatenate(Prefix(None), []),
    "decode": lambda hooks: hooks.decode(DECODE),
    "stages": lambda hooks: hooks.stages(PREFILL),
    "capacity": lambda hooks: hooks.capacity(),
    "stats": lambda hooks: hooks.stats(),
}  # every hook but `release`, whose failures are only logged


class OneRow:
    """A backend with the required hooks only, which knows no more than it is told."""

    logits = torch.zeros(1, MODEL.vocabulary)

    @hookimpl
    def prefill(self, batch: PrefillBatch) -> PrefillOutput:
        return PrefillOutput(self.logits, Prefix(None))

    @hookimpl
    def concatenate(self) -> None:
        """Take none of the arguments."""

    @hookimpl
    def decode(self) -> DecodeOutput:
        return DecodeOutput(self.logits)


def hooks_of(backend: Any, wrappers: Iterable[object] = ()) -> Hooks:
    """The facade over a backend that is called `odd`."""
    return Hooks("odd", backend, MODEL, LIMITS, wrappers)


def answering(hook: str, answer: object) -> OneRow:
    """A backend whose hook of that name always answers the same."""
    backend: OneRow = type("Answering", (OneRow,), {hook: hookimpl(lambda self: answer)})()
    return backend


def test_walk_through_the_hooks() -> None:
    """Prefill, concatenate and decode; the tokens are those of the arithmetic backend's docstring."""
    hooks = hooks_of(ArithmeticBackend(MODEL.vocabulary, LIMITS))
    prefilled = hooks.prefill(PREFILL)
    assert prefilled.logits.argmax(-1).tolist() == [601]
    hooks.concatenate(prefilled.prefix, [Placement(0, 0)])
    assert hooks.decode(DECODE).logits.argmax(-1).tolist() == [602]
    hooks.release([0])


def test_optional_hooks_have_defaults() -> None:
    """And hooks may take fewer arguments than they are given."""
    hooks = hooks_of(OneRow())
    hooks.warmup(ShapePlan(), print)
    hooks.concatenate(hooks.prefill(PREFILL).prefix, [])
    hooks.decode(DECODE)
    hooks.release([0])
    assert hooks.capacity() == Capacity(LIMITS.rows, LIMITS.context)
    assert hooks.stats() == {}
    assert hooks.stages(PREFILL) == {}


def test_optional_hooks_are_asked() -> None:
    """What they answer is handed on."""

    class Whole(OneRow):
        @hookimpl
        def warmup(self, plan: ShapePlan, progress: Any) -> None:
            progress(WarmupProgress(1, 1, plan.prefill[0], 0.5))

        @hookimpl
        def capacity(self) -> Capacity:
            return Capacity(rows=2, context=32, details={"beads": 70})  # type: ignore[dict-item]

        @hookimpl
        def stats(self) -> dict[str, float]:
            return {"graphs": 3.0}

        @hookimpl
        def stages(self, batch: PrefillBatch) -> dict[str, torch.Tensor]:
            return {"tokens": batch.tokens}

    hooks = hooks_of(Whole())
    told: list[WarmupProgress] = []
    hooks.warmup(ShapePlan(prefill=(PREFILL.shape,)), told.append)
    assert told == [WarmupProgress(1, 1, PREFILL.shape, 0.5)]
    assert hooks.capacity() == Capacity(2, 32, details={"beads": "70"})
    assert hooks.stats() == {"graphs": 3.0}
    assert hooks.stages(PREFILL)["tokens"] is PREFILL.tokens


@pytest.mark.parametrize("answer", [[1.0], {"graphs": "three"}])
def test_stats_that_are_no_numbers(answer: object) -> None:
    """They would end up in the metrics."""

    class Odd(OneRow):
        @hookimpl
        def stats(self) -> object:
            return answer

    with pytest.raises(BackendContractError, match=r"backend odd: stats answered a .*, not a mapping of names to num"):
        hooks_of(Odd()).stats()


def test_misspelt_hook_is_told() -> None:
    """Before the missing one, because it is the reason."""

    class Misspelt(OneRow):
        prefill = None  # type: ignore[assignment]

        @hookimpl
        def prefil(self, batch: PrefillBatch) -> None:
            """One letter short."""

    with pytest.raises(BackendContractError, match="backend odd: unknown hook 'prefil'"):
        hooks_of(Misspelt())


def test_unknown_argument_is_told() -> None:
    """A hook can take fewer arguments, but none that the contract does not have."""

    class Greedy(OneRow):
        @hookimpl
        def stats(self, since: float) -> dict[str, float]:
            return {"since": since}

    with pytest.raises(BackendContractError, match=r"backend odd: Plugin 'odd' for hook 'stats' .*'since'"):
        hooks_of(Greedy())


@pytest.mark.parametrize("hook", ["prefill", "concatenate", "decode"])
def test_missing_hook_is_told(hook: str) -> None:
    """A method without its mark is no hook."""
    backend = type("Unmarked", (OneRow,), {hook: lambda self: None})()
    with pytest.raises(BackendContractError) as error:
        hooks_of(backend)
    assert error.value.message == f"backend odd has no hook `{hook}`; did you forget @hookimpl?"


WIDE = torch.zeros(1, MODEL.vocabulary + 1)
BAD_LOGITS: list[tuple[Any, str]] = [
    (None, "answered logits of nothing, not a tensor"),
    ([[0.0]], "answered logits of a list, not a tensor"),
    (WIDE.long(), "answered logits of torch.int64, not of a floating-point type"),
    (WIDE, f"answered logits of shape [1, {MODEL.vocabulary + 1}], wanted [1, {MODEL.vocabulary}]"),
    (OneRow.logits[0], f"answered logits of shape [{MODEL.vocabulary}], wanted [1, {MODEL.vocabulary}]"),
]
BREACHES = [
    ("prefill", None, "answered nothing, not a PrefillOutput"),
    ("prefill", DecodeOutput(OneRow.logits), "answered a DecodeOutput, not a PrefillOutput"),
    *(("prefill", PrefillOutput(logits, Prefix(None)), breach) for logits, breach in BAD_LOGITS),
    ("decode", None, "answered nothing, not a DecodeOutput"),
    ("decode", OneRow.logits, "answered a Tensor, not a DecodeOutput"),
    *(("decode", DecodeOutput(logits), breach) for logits, breach in BAD_LOGITS),
]


@pytest.mark.parametrize(("hook", "answer", "breach"), BREACHES)
def test_wrong_answer_is_a_breach(hook: str, answer: object, breach: str) -> None:
    """The error names backend, hook, what came and what was wanted."""
    with pytest.raises(BackendContractError) as error:
        CALLS[hook](hooks_of(answering(hook, answer)))
    assert error.value.message == f"backend odd: {hook} {breach}"


@pytest.mark.parametrize("cause", [RuntimeError, SystemExit])
@pytest.mark.parametrize("hook", CALLS)
def test_failure_names_backend_and_hook_only(
    hook: str, cause: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """The cause, which is the vendor's text, is for the log; a backend that wants to exit may not end the thread."""

    def fail(self: object) -> None:
        raise cause("secret /dev/chip7")

    backend = type("Failing", (OneRow,), {hook: hookimpl(fail)})()
    with pytest.raises(BackendError) as error:
        CALLS[hook](hooks_of(backend))
    assert error.value.message == f"backend odd failed in {hook}; the server's log has the cause"
    assert not isinstance(error.value, BackendContractError)
    assert "secret /dev/chip7" in caplog.text


@pytest.mark.parametrize("error", [BackendRefused("no room"), NotReady("stopping")])
def test_warm_up_may_be_refused_or_ended(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """By the backend in its own words, or by who hears of its progress: neither is a failure of the hook."""

    class Warm(OneRow):
        @hookimpl
        def warmup(self, plan: ShapePlan, progress: Any) -> None:
            progress(error)

    def hear(progress: Any) -> None:
        raise progress

    with pytest.raises(type(error), match=str(error)):
        hooks_of(Warm()).warmup(ShapePlan(), hear)
    assert caplog.messages == []


def test_failing_release_is_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The slots are overwritten anyway."""

    class Failing(OneRow):
        @hookimpl
        def release(self, slots: Sequence[int]) -> None:
            raise RuntimeError(f"cannot free {slots}")

    hooks_of(Failing()).release([3])
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "backend odd failed in release" in caplog.text
    assert "cannot free [3]" in caplog.text


@pytest.mark.parametrize(
    ("answer", "breach"),
    [
        (Capacity(LIMITS.rows + 1, 8), "outside the limits it was given"),
        (Capacity(1, LIMITS.context + 1), "outside the limits it was given"),
        (Capacity(0, 8), "outside the limits it was given"),
        (Capacity(1, -8), "outside the limits it was given"),
        ((1, 8), "capacity answered a tuple, not a Capacity"),
    ],
)
def test_impossible_capacity_is_a_breach(answer: object, breach: str) -> None:
    """A backend affords at least one token and never more than it was asked for."""
    with pytest.raises(BackendContractError, match=breach):
        hooks_of(answering("capacity", answer)).capacity()


class Recorder:
    """A wrapper that writes down what passes through it."""

    def __init__(self, name: str, seen: list[str]) -> None:
        self.name = name
        self.seen = seen

    @hookimpl(wrapper=True)
    def prefill(self) -> Generator[None, PrefillOutput, PrefillOutput]:
        self.seen.append(f"{self.name} before prefill")
        output = yield
        self.seen.append(f"{self.name} after prefill")
        return output

    @hookimpl(wrapper=True)
    def decode(self, batch: DecodeBatch) -> Generator[None, DecodeOutput, DecodeOutput]:
        self.seen.append(f"{self.name} before decode of {batch.tokens.tolist()}")
        output = yield
        return DecodeOutput(output.logits + 1)


def test_wrappers_see_calls_in_order() -> None:
    """The last one is outermost, and may change the answer."""
    seen: list[str] = []
    hooks = hooks_of(OneRow(), [Recorder("inner", seen), Recorder("outer", seen)])
    hooks.prefill(PREFILL)
    output = hooks.decode(DECODE)
    assert seen == [
        "outer before prefill",
        "inner before prefill",
        "inner after prefill",
        "outer after prefill",
        "outer before decode of [601]",
        "inner before decode of [601]",
    ]
    assert torch.equal(output.logits, OneRow.logits + 2)


def test_wrapper_sees_a_failure() -> None:
    """As the backend's own error, and it may put another in its place."""
    seen: list[BaseException] = []

    class Failing(OneRow):
        @hookimpl
        def decode(self) -> DecodeOutput:
            raise OSError("the device is gone")

    class Watcher:
        @hookimpl(wrapper=True)
        def decode(self) -> Generator[None, DecodeOutput, DecodeOutput]:
            try:
                return (yield)
            except OSError as error:
                seen.append(error)
                raise

    with pytest.raises(BackendError, match="backend odd failed in decode"):
        hooks_of(Failing(), [Watcher()]).decode(DECODE)
    assert [str(error) for error in seen] == ["the device is gone"]


def test_wrapper_is_no_backend() -> None:
    """A required hook that only a wrapper has answers nothing."""
    backend = type("Headless", (OneRow,), {"decode": None})()
    with pytest.raises(BackendContractError, match="backend odd has no hook `decode`"):
        hooks_of(backend, [Recorder("only", [])])
