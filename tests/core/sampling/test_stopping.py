"""When a reply ends."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from runtime.runtime import FinishReason, StoppingParameters
from runtime.sampling.stopping import StopRule

EOS = frozenset({2, 7})


def rule(room: int = 10, **stopping: object) -> StopRule:
    return StopRule.of(StoppingParameters(**stopping), room, EOS)  # type: ignore[arg-type]


def test_length_counts_tokens() -> None:
    """The third of three tokens is the last."""
    stop = rule(max_new_tokens=3)
    assert [stop.push(5, "a") for _ in range(3)] == [None, None, FinishReason.LENGTH]


def test_without_a_wish_the_context_is_filled() -> None:
    """No max_new_tokens means as many as fit."""
    stop = rule(room=2)
    assert [stop.push(5, "a"), stop.push(5, "a")] == [None, FinishReason.LENGTH]


def test_every_id_of_the_eos_set_ends() -> None:
    """Models may have several; ignoring them is a choice of the request."""
    assert [rule().push(token, "") for token in (2, 7, 8)] == [FinishReason.EOS_TOKEN, FinishReason.EOS_TOKEN, None]
    assert rule(ignore_eos=True).push(2, "") is None


def test_last_allowed_eos_is_length() -> None:
    """TGI's order: length is asked first."""
    assert rule(max_new_tokens=1).push(2, "") is FinishReason.LENGTH


def test_stop_text_over_several_tokens() -> None:
    """The text is found wherever the tokens cut it."""
    stop = rule(stop=("###",))
    assert [stop.push(5, text) for text in ("a#", "#", "b", "##")] == [None, None, None, None]
    assert stop.push(5, "#c") is FinishReason.STOP_SEQUENCE


def test_stop_text_that_ends_inside_a_token() -> None:
    """Letters after the stop text in the same token do not hide it."""
    assert rule(stop=("END",)).push(5, "the END of") is FinishReason.STOP_SEQUENCE


@given(st.lists(st.text("ab", max_size=3), max_size=9), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_stops_exactly_when_the_text_holds_a_stop_text(pieces: list[str], stops: list[str]) -> None:
    """The first piece that completes any stop text ends the reply, no earlier and no later."""
    stop = rule(room=100, stop=tuple(stops))
    text = ""
    for piece in pieces:
        text += piece
        reason = stop.push(5, piece)
        assert (reason is FinishReason.STOP_SEQUENCE) == any(wanted in text for wanted in stops)
        if reason is not None:
            return
