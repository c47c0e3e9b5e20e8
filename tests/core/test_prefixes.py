"""Which slot a prompt gets, and how much of it the slot holds already."""

from __future__ import annotations

from itertools import takewhile

from hypothesis import given
from hypothesis import strategies as st
from runtime.prefixes import LEAST, Choice, Prefixes

SYMBOLS = tuple(range(100, 200))


def test_an_empty_server_gives_the_lowest_slot() -> None:
    """Low slots keep the decode batch small."""
    assert Prefixes(enabled=True).choose(SYMBOLS, [1, 2, 5]) == Choice(1, 0)


def test_a_common_beginning_is_found() -> None:
    """The slot with the longest one wins."""
    prefixes = Prefixes(enabled=True)
    prefixes.keep(3, (*SYMBOLS[:40], 7, 8))
    prefixes.keep(5, SYMBOLS[:60])
    assert prefixes.choose(SYMBOLS, [0, 3, 5]) == Choice(5, 60)
    assert prefixes.choose(SYMBOLS, [0, 3]) == Choice(3, 40)


def test_of_equal_beginnings_the_oldest_is_used() -> None:
    """So that prompts which share no more than a greeting do not overwrite what was used last."""
    prefixes = Prefixes(enabled=True)
    for slot in (1, 0, 2):
        prefixes.keep(slot, (*SYMBOLS[:40], slot))
    assert [prefixes.choose(SYMBOLS, [0, 1, 2]).slot for _ in range(3)] == [1, 0, 2]


def test_the_last_token_is_computed_again() -> None:
    """Its logits choose the first token of the reply."""
    prefixes = Prefixes(enabled=True)
    prefixes.keep(0, SYMBOLS)
    assert prefixes.choose(SYMBOLS, [0]) == Choice(0, 99)


def test_a_slot_that_was_chosen_is_forgotten() -> None:
    """Its next row overwrites what it held."""
    prefixes = Prefixes(enabled=True)
    prefixes.keep(0, SYMBOLS)
    prefixes.choose((1, 2, 3), [0])
    assert prefixes.choose(SYMBOLS, [0]) == Choice(0, 0)


def test_a_busy_slot_is_no_match() -> None:
    """Only free slots can be leased."""
    prefixes = Prefixes(enabled=True)
    prefixes.keep(0, SYMBOLS)
    assert prefixes.choose(SYMBOLS, [1]) == Choice(1, 0)


def test_a_short_beginning_is_not_worth_it() -> None:
    """A BOS that all prompts share must not tie them to a slot."""
    prefixes = Prefixes(enabled=True)
    prefixes.keep(0, SYMBOLS[: LEAST - 1])
    assert prefixes.choose(SYMBOLS, [0, 1]) == Choice(1, 0)


def test_what_was_given_back_first_is_overwritten_first() -> None:
    """When no slot is empty."""
    prefixes = Prefixes(enabled=True)
    for slot in (2, 0, 1):
        prefixes.keep(slot, tuple(range(slot, 90)))
    assert prefixes.choose((5, 5), [0, 1, 2]) == Choice(2, 0)
    assert prefixes.choose((5, 5), [0, 1]) == Choice(0, 0)


def test_a_row_that_wants_its_whole_prompt_computed_reuses_nothing() -> None:
    """Log-probabilities of the prompt need every position."""
    prefixes = Prefixes(enabled=True)
    prefixes.keep(0, SYMBOLS)
    assert prefixes.choose(SYMBOLS, [0, 1], whole=True) == Choice(1, 0)


def test_a_picture_is_reused_whole_or_not_at_all() -> None:
    """Its features are computed at once, so a prompt is never cut within one."""
    question = tuple(range(10))
    prefixes = Prefixes(enabled=True)
    prefixes.keep(0, (*SYMBOLS[:40], *[-7] * 50, *question))
    assert prefixes.choose((*SYMBOLS[:40], *[-7] * 50, 99, 98), [0]) == Choice(0, 90)
    prefixes.keep(0, (*SYMBOLS[:40], *[-7] * 20))
    assert prefixes.choose((*SYMBOLS[:40], *[-7] * 50, 99, 98), [0]) == Choice(0, 40)
    prefixes.keep(0, (*[-7] * 20,))
    assert prefixes.choose((*[-7] * 50, 99, 98), [0]) == Choice(0, 0)


def test_another_picture_is_no_match() -> None:
    """However alike the placeholders are."""
    prefixes = Prefixes(enabled=True)
    prefixes.keep(0, (*SYMBOLS[:40], *[-7] * 50, 1))
    assert prefixes.choose((*SYMBOLS[:40], *[-8] * 50, 1), [0]) == Choice(0, 40)


def test_switched_off_nothing_is_remembered() -> None:
    """The lowest slot is taken whatever it held."""
    prefixes = Prefixes(enabled=False)
    prefixes.keep(0, SYMBOLS)
    assert prefixes.choose(SYMBOLS, [0, 1]) == Choice(0, 0)


@given(
    st.lists(st.lists(st.integers(0, 2), max_size=80).map(tuple), min_size=1, max_size=4),
    st.lists(st.integers(0, 2), min_size=1, max_size=80).map(tuple),
)
def test_the_offset_is_a_common_beginning(held: list[tuple[int, ...]], wanted: tuple[int, ...]) -> None:
    """Never more than both have, never all of the prompt, and the longest there is."""
    prefixes = Prefixes(enabled=True)
    for slot, symbols in enumerate(held):
        prefixes.keep(slot, symbols)
    choice = prefixes.choose(wanted, range(len(held)))
    assert held[choice.slot][: choice.offset] == wanted[: choice.offset]
    assert choice.offset < len(wanted)
    common = [len(list(takewhile(lambda pair: pair[0] == pair[1], zip(one, wanted, strict=False)))) for one in held]
    longest = min(max(common), len(wanted) - 1)
    assert choice.offset == (longest if longest >= LEAST else 0)


def test_what_is_forgotten_is_not_found() -> None:
    """A slot of a failed step holds nobody knows what; one that held nothing is no error."""
    prefixes = Prefixes(enabled=True)
    prefixes.keep(0, SYMBOLS)
    prefixes.forget(0)
    prefixes.forget(1)
    assert prefixes.choose(SYMBOLS, [0, 1]) == Choice(0, 0)
