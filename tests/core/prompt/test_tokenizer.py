"""Text to ids and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from runtime.errors import InvalidRequest, ModelRefused
from runtime.prompt.tokenizer import Tokenizer

IMAGE = 800
WORDS = ["[INST]", "<s>", "</s>", "What", " color", " is", "\n", "the  circle?", "<pad>", "é", "🙂", " "]
TEXTS = st.text(max_size=60).filter(lambda text: "<image>" not in text) | st.lists(
    st.sampled_from(WORDS), max_size=20
).map("".join)


@pytest.fixture(scope="module")
def oracle(folder: Path) -> Any:
    """transformers' tokenizer of the demo model."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


@given(TEXTS, st.booleans())
@settings(max_examples=300, deadline=None)
def test_ids_equal_transformers(tokenizer: Tokenizer, oracle: Any, text: str, add_special_tokens: bool) -> None:
    """For any text without a placeholder, special tokens typed in it included."""
    ids = tokenizer.encode(text, add_special_tokens)
    assert ids == oracle(text, add_special_tokens=add_special_tokens)["input_ids"]


@given(st.lists(st.integers(0, 801), max_size=30), st.booleans())
@settings(max_examples=200, deadline=None)
def test_text_equals_transformers(tokenizer: Tokenizer, oracle: Any, ids: list[int], skip: bool) -> None:
    """For any ids, without cleaning up spaces."""
    theirs = oracle.decode(ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False)
    assert tokenizer.decode(ids, skip) == theirs


@given(st.text(max_size=60).filter(lambda text: "<" not in text))
@settings(max_examples=300, deadline=None)
def test_text_survives_the_round_trip(tokenizer: Tokenizer, text: str) -> None:
    """Byte fallback spells any character; `▁` is a space, and one at the start is taken for the tokenizer's own."""
    decoded = tokenizer.decode(tokenizer.encode(text, add_special_tokens=True), skip_special_tokens=True)
    assert decoded == text.replace("▁", " ").removeprefix(" ")


@given(TEXTS, TEXTS)
@example("", "")
@settings(deadline=None)
def test_a_typed_placeholder_is_text(tokenizer: Tokenizer, before: str, after: str) -> None:
    """It never becomes the image token, wherever it stands, and is read back as it was typed."""
    ids = tokenizer.encode(f"{before}<image>{after}", add_special_tokens=True)
    assert IMAGE not in ids
    assert "<image>" in tokenizer.decode(ids, skip_special_tokens=False)


def test_the_placeholder_of_pictures(tokenizer: Tokenizer, folder: Path) -> None:
    """It is one token, decodes to the model's own, keeps the ids of later tokens and differs each time."""
    ids = tokenizer.encode(f"{tokenizer.image_placeholder}<pad>{tokenizer.image_placeholder}", False)
    assert ids == [IMAGE, 801, IMAGE]
    assert tokenizer.decode(ids, skip_special_tokens=False) == "<image><pad><image>"
    assert tokenizer.image_token == "<image>"
    assert Tokenizer.load(folder, IMAGE).image_placeholder != tokenizer.image_placeholder


def test_facts(tokenizer: Tokenizer) -> None:
    """What the two files say."""
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.vocabulary) == ("<s>", "</s>", 802)
    assert [id for id in range(802) if tokenizer.is_special(id)] == [0, 1, 2, 800, 801]
    assert not tokenizer.is_special(9999)
    assert tokenizer.longest_token == 11


def test_half_characters_are_refused(tokenizer: Tokenizer) -> None:
    """JSON can carry them, UTF-8 cannot."""
    with pytest.raises(InvalidRequest, match="surrogate"):
        tokenizer.encode("a\ud800b", add_special_tokens=True)


@pytest.fixture
def content(folder: Path) -> dict[str, Any]:
    """The parsed tokenizer.json of the demo model."""
    parsed: dict[str, Any] = json.loads((folder / "tokenizer.json").read_text())
    return parsed


def test_truncation_and_padding_of_the_file_are_off(content: dict[str, Any]) -> None:
    """They belong to training; a server must not shorten a prompt silently."""
    content["truncation"] = {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    content["padding"] = {
        "strategy": {"Fixed": 50},
        "direction": "Left",
        "pad_to_multiple_of": None,
        "pad_id": 801,
        "pad_type_id": 0,
        "pad_token": "<pad>",
    }
    ids = Tokenizer(content, "", "", IMAGE).encode("one two three four five six seven", add_special_tokens=True)
    assert len(ids) > 4
    assert 801 not in ids


def test_an_image_token_of_the_vocabulary_is_hidden_too(content: dict[str, Any]) -> None:
    """Some models list it both as a word and as an added token."""
    content["model"]["vocab"]["<image>"] = IMAGE
    tokenizer = Tokenizer(content, "", "", IMAGE)
    assert IMAGE not in tokenizer.encode("<image>", False)
    assert tokenizer.encode(tokenizer.image_placeholder, False) == [IMAGE]


def test_a_text_model_has_no_placeholder(folder: Path) -> None:
    """Then nothing is hidden: the token is like any other special one."""
    tokenizer = Tokenizer.load(folder, None)
    assert (tokenizer.image_token, tokenizer.image_placeholder) == (None, "")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"model": 1}', '{"version": "1.0"}', "\xff"])
def test_broken_folders_are_refused(tmp_path: Path, text: str) -> None:
    """One line for the operator, without the path or the library's words."""
    (tmp_path / "tokenizer.json").write_text(text, encoding="latin-1")
    with pytest.raises(ModelRefused, match="tokenizer") as caught:
        Tokenizer.load(tmp_path, None)
    assert str(tmp_path) not in caught.value.message


def test_missing_files_and_tokens_are_refused(tmp_path: Path, content: dict[str, Any]) -> None:
    """The text says which file to look at."""
    with pytest.raises(ModelRefused, match=r"no tokenizer\.json"):
        Tokenizer.load(tmp_path, None)
    with pytest.raises(ModelRefused, match="image token 7 "):
        Tokenizer(content, "", "", 7)
    content["added_tokens"][3]["single_word"] = True
    with pytest.raises(ModelRefused, match="does not treat the image token 800 as one token"):
        Tokenizer(content, "", "", IMAGE)


def test_token_texts_may_be_objects(tmp_path: Path, content: dict[str, Any]) -> None:
    """Older configs write them with their flags, or null."""
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    config = {"bos_token": {"content": "<s>", "lstrip": False}, "eos_token": None}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = Tokenizer.load(tmp_path, IMAGE)
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<s>", "")
