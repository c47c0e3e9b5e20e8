"""The demo model, and geometries to measure with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import runtime.demo
import torch
from runtime.backend import DecoderGeometry, ImageGeometry, ModelSpec
from runtime.prompt.tokenizer import Tokenizer
from support.geometries import DEMO_IMAGES, LLAVA_IMAGES

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def folder() -> Path:
    """The folder of the demo model."""
    return Path(runtime.demo.__file__).parent / "model"


@pytest.fixture(scope="session")
def llava() -> ImageGeometry:
    """The geometry of llava-v1.6-mistral-7b."""
    return LLAVA_IMAGES


@pytest.fixture(scope="session")
def demo() -> ImageGeometry:
    """The geometry of the demo model."""
    return DEMO_IMAGES


@pytest.fixture(scope="session")
def spec(folder: Path, demo: ImageGeometry) -> ModelSpec:
    """The demo model, written by hand."""
    return ModelSpec(
        path=folder,
        architecture="LlavaNextForConditionalGeneration",
        dtype="bfloat16",
        layers=6,
        hidden=128,
        heads=4,
        kv_heads=2,
        vocabulary=802,
        max_positions=2048,
        eos_ids=frozenset({2}),
        image_token_id=800,
        images=demo,
        decoder=DecoderGeometry(32, 352, 1e-5, 10000.0, None, "silu", False, False, False),
        vision=None,  # no prompt depends on it
        digest="0",
    )


@pytest.fixture(scope="session")
def tokenizer(folder: Path) -> Tokenizer:
    """The demo model's, for pictures."""
    return Tokenizer.load(folder, 800)


@pytest.fixture(scope="session")
def processor(folder: Path) -> Any:
    """transformers' own preprocessing of the demo model: the oracle."""
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(folder)
