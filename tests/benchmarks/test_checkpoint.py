"""The checkpoints of the benchmarks: a tokenizer whose texts have known lengths, and a folder that can be served."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from runtime.geometry import feature_count
from runtime.model import read_model
from runtime.prompt.tokenizer import Tokenizer
from safetensors.torch import load_file

from benchmarks.checkpoint.tokenizer import IMAGE_TOKEN, INVISIBLE, PAD_TOKEN, words
from benchmarks.checkpoint.weights import HEAD
from benchmarks.checkpoint.writer import checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest checkpoint."""
    return checkpoint("tiny", tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.load(folder, IMAGE_TOKEN)


@pytest.mark.parametrize("count", [1, 8, 511])
def test_a_text_has_a_token_for_each_word(tokenizer: Tokenizer, count: int) -> None:
    """And a beginning-of-sequence token before them."""
    text = words(count, seed=count)
    ids = tokenizer.encode(text, add_special_tokens=True)
    assert len(ids) == 1 + count
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_any_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    """What has no character in the vocabulary is spelt in bytes."""
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(ids, skip_special_tokens=False) == text.replace("▁", " ")


def test_every_token_that_can_be_sampled_is_seen(tokenizer: Tokenizer) -> None:
    """Each adds text of its own to a reply."""
    before = tokenizer.encode("babe", add_special_tokens=False)
    for id in range(INVISIBLE, IMAGE_TOKEN):
        text = tokenizer.decode([*before, id], skip_special_tokens=True)
        assert text.startswith("babe")
        assert len(text) > len("babe")


def test_control_and_padding_tokens_are_never_the_most_probable(folder: Path) -> None:
    """Their rows of the head are zero, so a reply does not end by itself."""
    (shard,) = folder.glob("*.safetensors")
    head = load_file(shard)[HEAD]
    assert not head[:INVISIBLE].any()
    assert not head[IMAGE_TOKEN:].any()
    assert torch.all(head[INVISIBLE:IMAGE_TOKEN].any(-1))


def test_the_folder_is_one_the_runtime_serves(folder: Path) -> None:
    """Its configs and the index of its weights pass the checks of a model folder."""
    model = read_model(folder)
    assert model.image_token_id == IMAGE_TOKEN
    assert model.vocabulary > PAD_TOKEN
    assert model.images is not None
    assert feature_count((336, 336), model.images) == 1176


def test_a_whole_checkpoint_is_not_written_again(folder: Path) -> None:
    (shard,) = folder.glob("*.safetensors")
    written = shard.stat().st_mtime_ns
    assert checkpoint("tiny", folder.parent) == folder
    assert shard.stat().st_mtime_ns == written
