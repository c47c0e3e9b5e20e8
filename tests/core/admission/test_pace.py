"""Rates that are learned from steps and replies."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime.admission.pace import REPLIES, Pace

REPLY = st.tuples(st.integers(1, 10_000), st.integers(1, 10_000), st.booleans())


def test_nothing_is_known_at_first() -> None:
    """A reply is taken to be as long as it may be."""
    pace = Pace()
    assert (pace.prefill_token_seconds, pace.decode_step_seconds) == (None, None)
    assert pace.usual_tokens == (0.0, 0.0)
    assert pace.reply_tokens(40) == 40


def test_rates_of_a_steady_server() -> None:
    """Are what it does, however often it was seen; a prefill counts by its tokens."""
    pace = Pace()
    for tokens in (10, 1000, 30):
        pace.prefilled(tokens, tokens * 0.002)
        pace.decoded(0.03)
        pace.ended(tokens, 50, by_itself=False)
    assert pace.prefill_token_seconds == pytest.approx(0.002)
    assert pace.decode_step_seconds == pytest.approx(0.03)
    assert pace.usual_tokens[1] == pytest.approx(50)


def test_newer_samples_weigh_more() -> None:
    """A server that has become twice as slow is known to be so after some steps."""
    pace = Pace()
    for seconds in (0.03, 0.06):
        for _ in range(500):
            pace.decoded(seconds)
    assert pace.decode_step_seconds == pytest.approx(0.06, rel=0.001)


def test_a_prefill_of_no_token_tells_nothing() -> None:
    """There is nothing to divide by."""
    pace = Pace()
    pace.prefilled(0, 1.0)
    assert pace.prefill_token_seconds is None


def test_replies_that_end_by_themselves() -> None:
    """By hand: one end in 4 tokens, so that a reply of at most 2 has 1 token with 1/4, 2 with 3/4: 1.75."""
    pace = Pace()
    pace.ended(5, 4, by_itself=True)
    assert pace.reply_tokens(2) == pytest.approx(1.75)
    assert pace.reply_tokens(10_000) == pytest.approx(4)
    assert pace.reply_tokens(1) == pytest.approx(1)
    assert pace.reply_tokens(0) == 0


def test_replies_of_one_token() -> None:
    """Every token was the last of its reply."""
    pace = Pace()
    pace.ended(5, 1, by_itself=True)
    assert pace.reply_tokens(100) == 1


def test_replies_that_were_cut_off_tell_as_well() -> None:
    """Of replies with 60 tokens on average, cut off at 20, the mean of the rest is found again."""
    draw, pace = random.Random(7), Pace()
    for _ in range(4000):
        reply = 1 + int(draw.expovariate(1 / 59.5))
        pace.ended(5, min(reply, 20), by_itself=reply <= 20)
    assert pace.reply_tokens(10**6) == pytest.approx(60, rel=0.6)  # of the newest 50 replies, 14 had an end


def test_an_end_long_ago_is_forgotten() -> None:
    """Without a loss of precision on the way."""
    pace = Pace()
    pace.ended(5, 4, by_itself=True)
    for _ in range(100 * REPLIES):
        pace.ended(5, 400, by_itself=False)
    assert pace.reply_tokens(1000) == pytest.approx(1000)


@given(st.lists(REPLY), st.integers(-5, 10**6))
def test_expected_tokens_are_possible(replies: list[tuple[int, int, bool]], longest: int) -> None:
    """Never fewer than one, never more than there may be, and more for a longer reply."""
    pace = Pace()
    for reply in replies:
        pace.ended(*reply)
    expected = pace.reply_tokens(longest)
    assert min(1, max(longest, 0)) <= expected + 1e-9
    assert expected <= max(longest, 0)
    assert expected <= pace.reply_tokens(longest + 1) + 1e-6
