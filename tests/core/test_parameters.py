"""Ranges of parameters, at their edges."""

from __future__ import annotations

import math
from typing import Any

import pytest
from runtime.errors import InvalidRequest
from runtime.parameters import LARGEST, LONGEST_STOP, MOST_CANDIDATES, SMALLEST, check_parameters, check_ranges
from runtime.runtime import GenerateRequest, SamplingParameters, StoppingParameters


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"temperature": SMALLEST},
        {"temperature": LARGEST},
        {"top_p": SMALLEST},
        {"top_p": 1.0},
        {"top_k": 0},
        {"top_k": 2**31 - 1},
        {"seed": 0},
        {"seed": 2**64 - 1},
        {"typical_p": SMALLEST},
        {"repetition_penalty": 1e-3},
        {"repetition_penalty": 1e3},
        {"presence_penalty": -2},
        {"presence_penalty": 2},
        {"frequency_penalty": -2},
        {"frequency_share": 2},
    ],
)
def test_sampling_in_range(given: dict[str, Any]) -> None:
    """The edges belong to the range."""
    check_parameters(GenerateRequest(sampling=SamplingParameters(**given)), max_stop_sequences=4)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 0),
        ("temperature", -1),
        ("temperature", 1e-50),
        ("temperature", 1e50),
        ("temperature", math.inf),
        ("temperature", math.nan),
        ("top_p", 0),
        ("top_p", 1e-50),
        ("top_p", 1.001),
        ("top_p", math.nan),
        ("top_k", -1),
        ("top_k", 2**31),
        ("seed", -1),
        ("seed", 2**64),
        ("typical_p", 0),
        ("typical_p", 1.001),
        ("repetition_penalty", 0),
        ("repetition_penalty", 1001),
        ("repetition_penalty", math.nan),
        ("presence_penalty", -2.1),
        ("presence_penalty", math.nan),
        ("frequency_penalty", 2.1),
    ],
)
def test_sampling_out_of_range(name: str, value: float) -> None:
    """The text names the parameter and the value."""
    request = GenerateRequest(sampling=SamplingParameters(**{name: value}))  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match=f"^`{name}` must be .*, got ") as caught:
        check_parameters(request, max_stop_sequences=4)
    assert caught.value.message.endswith(str(value))


def test_share_has_the_name_it_is_sent_under() -> None:
    """TGI calls it `frequency_penalty`, as OpenAI calls another one."""
    with pytest.raises(InvalidRequest, match=r"^`frequency_penalty` must be from -2 to 2, got 3$"):
        check_ranges(GenerateRequest(sampling=SamplingParameters(frequency_share=3)))


@pytest.mark.parametrize("count", [0, MOST_CANDIDATES])
def test_candidates_in_range(count: int) -> None:
    """The edges belong to the range."""
    check_ranges(GenerateRequest(top_n_tokens=count))


@pytest.mark.parametrize("count", [-1, MOST_CANDIDATES + 1])
def test_candidates_out_of_range(count: int) -> None:
    """The text tells the limit."""
    with pytest.raises(InvalidRequest, match=f"^`top_n_tokens` must be from 0 to 20, got {count}$"):
        check_ranges(GenerateRequest(top_n_tokens=count))


@pytest.mark.parametrize("count", [None, 1, 2**31 - 1])
def test_tokens_in_range(count: int | None) -> None:
    """None fills the context."""
    check_parameters(GenerateRequest(stopping=StoppingParameters(count)), max_stop_sequences=4)


@pytest.mark.parametrize("count", [0, -1, 2**31])
def test_tokens_out_of_range(count: int) -> None:
    """0 in particular does not mean no limit."""
    with pytest.raises(InvalidRequest, match=rf"^`max_new_tokens` must be .*, got {count}$"):
        check_parameters(GenerateRequest(stopping=StoppingParameters(count)), max_stop_sequences=4)


def test_stop_texts_in_range() -> None:
    """As many, and as long, as allowed."""
    request = GenerateRequest(stopping=StoppingParameters(stop=("x", "y" * LONGEST_STOP)))
    check_parameters(request, max_stop_sequences=2)


def test_one_stop_text_more() -> None:
    """The operator's limit, which only the worker knows."""
    request = GenerateRequest(stopping=StoppingParameters(stop=("x", "y", "z")))
    with pytest.raises(InvalidRequest, match="`stop` supports up to 2 texts, got 3"):
        check_parameters(request, max_stop_sequences=2)
    check_ranges(request)


@pytest.mark.parametrize("stop", ["", "y" * (LONGEST_STOP + 1)])
def test_stop_text_of_no_use(stop: str) -> None:
    """Empty it would stop at once; long it costs time with every token."""
    with pytest.raises(InvalidRequest, match="`stop` must have 1 to 256 characters"):
        check_ranges(GenerateRequest(stopping=StoppingParameters(stop=("x", stop))))
