"""What a backend is tried on: prompts, and the order in which they join, decode and leave. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from runtime.backend import Limits, ModelSpec
from runtime.errors import StartupError
from runtime.verify.prompts import DoesNotFit, Prompt, PromptMaker


@dataclass(frozen=True, slots=True)
class Join:
    """Prompts computed together, and put into slots."""

    prompts: tuple[int, ...]
    """Numbers of the case's prompts."""
    slots: tuple[int, ...]
    longest_part: int | None = None
    """Tokens computed at once by a backend that resumes; None for whole prompts."""


@dataclass(frozen=True, slots=True)
class Decode:
    """Steps of these slots together, while the others hold still."""

    slots: tuple[int, ...]
    steps: int


@dataclass(frozen=True, slots=True)
class Leave:
    """Rows that end."""

    slots: tuple[int, ...]


Step = Join | Decode | Leave


@dataclass(frozen=True, slots=True)
class Case:
    """One situation."""

    name: str
    prompts: tuple[Prompt, ...]
    steps: tuple[Step, ...]
    resumes: bool = False
    """Whether it takes a backend that resumes prompts."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A case that these limits or this backend do not allow."""

    name: str
    reason: str


DECODED: Final = 4
"""Steps after a prompt, where nothing else says how many."""
LONG: Final = 48
"""Steps of a long reply."""
REPLY: Final = 12
"""Tokens of context that every prompt but the longest leaves for its reply."""
WORDS: Final = 24
"""Tokens of text in a prompt, where nothing else says how many."""

MEANINGS: Final = {
    "text": "a prompt without pictures",
    "one-picture": "a prompt with a picture",
    "two-pictures": "a prompt with two pictures of different sizes",
    "aspect-ratios": "pictures that are tall, wide, thin and tiny",
    "longest": "the longest prompt there may be",
    "full-batch": "every slot in use, prompts of different lengths, slots in another order than rows",
    "chunked": "prompts computed in parts",
    "late-joins": "prompts that join while others decode, and rows that leave",
    "reused-slots": "a short prompt in a slot that held a longer one",
    "long-decode": f"a reply of {LONG} tokens",
}
"""Every case, in the order they are run."""


def names_of(given: Collection[str]) -> tuple[str, ...]:
    """Return the names of the wanted cases in their order, all of them when none is given; raises StartupError."""
    unknown = sorted(set(given) - MEANINGS.keys())
    if unknown:
        raise StartupError(f"there is no case {unknown[0]!r}; there are {', '.join(MEANINGS)}")
    return tuple(name for name in MEANINGS if not given or name in given)


def cases_of(model: ModelSpec, limits: Limits, longest: int, seed: int, names: Sequence[str]) -> list[Case | LeftOut]:
    """Return the cases of these names; the same for the same arguments. `longest` is the most tokens of a prompt."""
    return [_case(name, model, limits, longest, seed) for name in names]


def _case(name: str, model: ModelSpec, limits: Limits, longest: int, seed: int) -> Case | LeftOut:
    longest = longest if name == "longest" else max(1, min(longest, limits.context - REPLY))
    maker = PromptMaker(model, longest, f"{seed}:{name}")
    try:
        return BUILDERS[name](name, maker, limits)
    except DoesNotFit as misfit:
        return LeftOut(name, str(misfit))


def _alone(name: str, prompts: Sequence[Prompt], limits: Limits, steps: int = DECODED) -> Case:
    """Return a case of prompts that are computed one after the other, each in the slot after that of the one before."""
    made: list[Step] = []
    for index, prompt in enumerate(prompts):
        slot = (index % limits.rows,)
        made += [Join((index,), slot), Decode(slot, _room(prompt, limits, steps)), Leave(slot)]
    return Case(name, tuple(prompts), tuple(made))


def _room(prompt: Prompt, limits: Limits, steps: int) -> int:
    """Return how many of these steps the context has room for; one always, as no prompt fills it."""
    return max(1, min(steps, limits.context - len(prompt.tokens)))


def _text(name: str, maker: PromptMaker, limits: Limits) -> Case:
    return _alone(name, [maker.text(WORDS)], limits)


def _one_picture(name: str, maker: PromptMaker, limits: Limits) -> Case:
    tile = maker.tile
    return _alone(name, [maker.pictured(WORDS, (tile * 19 // 10, tile * 17 // 10))], limits)


def _two_pictures(name: str, maker: PromptMaker, limits: Limits) -> Case:
    tile = maker.tile
    return _alone(name, [maker.pictured(WORDS, (tile * 9 // 10, tile * 18 // 10), (tile * 16 // 10, tile))], limits)


def _aspect_ratios(name: str, maker: PromptMaker, limits: Limits) -> Case:
    tile = maker.tile
    sizes = [(3 * tile, tile * 8 // 10), (tile * 8 // 10, 3 * tile), (max(1, tile // 12), 2 * tile)]
    sizes += [(5, 7), (tile * 21 // 10, tile * 13 // 10)]
    prompts = maker.those_that_fit(sizes, WORDS // 2)
    batches = [slice(at, at + limits.prefill_rows) for at in range(0, len(prompts), limits.prefill_rows)]
    steps: list[Step] = []
    for batch in batches:
        numbers = tuple(range(len(prompts))[batch])
        slots = tuple(range(len(numbers)))
        steps += [Join(numbers, slots), Decode(slots, 2), Leave(slots)]
    return Case(name, tuple(prompts), tuple(steps))


def _longest(name: str, maker: PromptMaker, limits: Limits) -> Case:
    return _alone(name, [maker.text(maker.longest)], limits)


def _full_batch(name: str, maker: PromptMaker, limits: Limits) -> Case:
    """Prompts of 3, 10, 17, ... tokens, some with a picture, in the slots from the last to the first."""
    prompts = [maker.text(3 + 7 * (index % 5)) for index in range(limits.rows)]
    prompts[1::3] = [maker.pictured_or_text(WORDS // 2, (maker.tile, maker.tile))] * len(prompts[1::3])
    slots = tuple(reversed(range(limits.rows)))
    size = limits.prefill_rows
    joins = [
        Join(tuple(range(limits.rows))[at : at + size], slots[at : at + size]) for at in range(0, len(slots), size)
    ]
    return Case(name, tuple(prompts), (*joins, Decode(tuple(sorted(slots)), DECODED), Leave(slots)))


def _chunked(name: str, maker: PromptMaker, limits: Limits) -> Case:
    prompts = [maker.text(2 * WORDS), maker.pictured_or_text(2 * WORDS, (maker.tile, maker.tile * 18 // 10))]
    steps: list[Step] = []
    for index, prompt in enumerate(prompts):
        slot = (index % limits.rows,)
        part = max(1, len(prompt.tokens) // 3)
        steps += [Join((index,), slot, part), Decode(slot, _room(prompt, limits, 3)), Leave(slot)]
    return Case(name, tuple(prompts), tuple(steps), resumes=True)


def _late_joins(name: str, maker: PromptMaker, limits: Limits) -> Case:
    if limits.rows < 2:
        raise DoesNotFit("it takes two rows; raise --max-batch-size")
    prompts = (maker.text(WORDS), maker.text(WORDS // 2), maker.pictured_or_text(WORDS, (maker.tile, maker.tile)))
    return Case(
        name,
        prompts,
        (
            *(Join((0,), (1,)), Decode((1,), 3)),
            *(Join((1,), (0,)), Decode((0, 1), 3), Leave((1,))),
            *(Join((2,), (1,)), Decode((1,), 2), Decode((0, 1), 2), Leave((0,))),
            *(Decode((1,), 2), Leave((1,))),
        ),
    )


def _reused_slots(name: str, maker: PromptMaker, limits: Limits) -> Case:
    prompts = [maker.text(4 * WORDS), maker.text(5), maker.pictured_or_text(5, (maker.tile, maker.tile)), maker.text(3)]
    return _alone(name, prompts, Limits(1, limits.context, 1, limits.prefill_tokens), 6)


def _long_decode(name: str, maker: PromptMaker, limits: Limits) -> Case:
    return _alone(name, [maker.text(WORDS // 2)], limits, LONG)


BUILDERS: Final[dict[str, Callable[[str, PromptMaker, Limits], Case]]] = {
    "text": _text,
    "one-picture": _one_picture,
    "two-pictures": _two_pictures,
    "aspect-ratios": _aspect_ratios,
    "longest": _longest,
    "full-batch": _full_batch,
    "chunked": _chunked,
    "late-joins": _late_joins,
    "reused-slots": _reused_slots,
    "long-decode": _long_decode,
}
