"""The document: it survives every writer of JSON, and nobody changes it unnoticed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime.errors import InvalidRequest
from runtime.receipt import DecodeUse, PrefillUse, PromptFacts, Receipt, ServerFacts, ShapesUsed, VisionUse
from support.receipts import RECEIPT

counts = st.integers(0, 2**31)
texts = st.text(st.characters(codec="utf-8"), max_size=20)
values = st.booleans() | st.integers(-(2**31), 2**31) | st.floats(allow_nan=False, allow_infinity=False) | texts
receipts = st.builds(
    Receipt,
    server=st.from_type(ServerFacts),
    prompt=st.builds(PromptFacts, texts, counts, st.lists(texts, max_size=3).map(tuple)),
    seed=st.none() | st.integers(0, 2**64 - 1),
    parameters=st.dictionaries(texts, values | st.lists(texts, max_size=3), max_size=3),
    shapes=st.builds(
        ShapesUsed,
        prefill=st.lists(st.builds(PrefillUse, counts, counts, counts, counts), max_size=3).map(tuple),
        decode=st.lists(st.builds(DecodeUse, counts, counts, counts, counts), max_size=3).map(tuple),
        vision=st.lists(st.builds(VisionUse, counts, counts), max_size=3).map(tuple),
    ),
    tokens=st.lists(counts, max_size=9).map(tuple),
    finish_reason=texts,
    resumed_tokens=counts,
)


def written_elsewhere(value: Any) -> Any:
    """What a writer makes of JSON that knows one kind of number, and none of integers above 2**53."""
    if isinstance(value, dict):
        return {key: written_elsewhere(value[key]) for key in reversed(value)}
    if isinstance(value, list):
        return [written_elsewhere(each) for each in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


@given(receipts)
def test_round_trip(receipt: Receipt) -> None:
    """What is written is read, and written again as the same."""
    again = Receipt.of_json(receipt.json())
    assert again.facts() == receipt.facts()
    assert again.digest == receipt.digest
    assert replace(again, parameters={}) == replace(receipt, parameters={})


@given(receipts)
def test_other_writers_change_nothing(receipt: Receipt) -> None:
    """Neither the order of keys, nor 2 written as 2.0, nor numbers rounded to 53 bits: a seed is a text."""
    again = Receipt.of_facts(written_elsewhere(receipt.facts()))
    assert (again.tokens, again.seed, again.digest) == (receipt.tokens, receipt.seed, receipt.digest)


def test_digest_by_hand() -> None:
    """SHA-256 of the document without its digest: keys sorted, no spaces."""
    facts = RECEIPT.facts()
    digest = facts.pop("digest")
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    assert digest == hashlib.sha256(text.encode()).hexdigest()
    assert facts["seed"] == "18446744073709551615"


@pytest.mark.parametrize("field", sorted({*RECEIPT.facts()} - {"format", "digest"}))
def test_every_change_is_noticed(field: str) -> None:
    """A field that is changed, or missing."""
    changed = {**RECEIPT.facts(), field: 7}
    missing = {name: value for name, value in RECEIPT.facts().items() if name != field}
    for facts in (changed, missing):
        with pytest.raises(InvalidRequest, match="not as it was written"):
            Receipt.of_facts(facts)


def test_added_field_is_noticed() -> None:
    """Nothing can be written into it."""
    with pytest.raises(InvalidRequest, match="not as it was written"):
        Receipt.of_facts({**RECEIPT.facts(), "note": "mine"})


def test_receipt_that_lacks_a_field() -> None:
    """Its digest is right, and its content is none."""
    facts = {"format": RECEIPT.facts()["format"], "tokens": []}
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    with pytest.raises(InvalidRequest, match="lacks a field"):
        Receipt.of_facts({**facts, "digest": hashlib.sha256(text.encode()).hexdigest()})


def test_another_format() -> None:
    """It is named, and so is the one that is read."""
    with pytest.raises(InvalidRequest, match=r"format 'vlm-runtime receipt 9', and 'vlm-runtime receipt 1' is read"):
        Receipt.of_facts({**RECEIPT.facts(), "format": "vlm-runtime receipt 9"})


@pytest.mark.parametrize("text", ["", "{", "7", "null", '"format"', "[]", "{}", "[" * 100_000, '{"format": []}'])
def test_what_is_no_receipt(text: str) -> None:
    """It is refused in words."""
    with pytest.raises(InvalidRequest):
        Receipt.of_json(text)
