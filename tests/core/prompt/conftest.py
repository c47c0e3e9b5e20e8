"""The demo model, and geometries to measure with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import runtime.demo
import torch
from runtime.backend import DecoderGeometry, ImageGeometry, ModelSpec
from runtime.prompt.tokenizer import Tokenizer

torch.set_num_threads(1)

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def make_geometry(tile: int, patch: int) -> ImageGeometry:
    """The five pinpoints of llava-v1.6, in units of tiles."""
    grids = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))
    pinpoints = tuple((tile * rows, tile * columns) for rows, columns in grids)
    return ImageGeometry(tile, patch, pinpoints, CLIP_MEAN, CLIP_STD, 0.00392156862745098, 3)


@pytest.fixture(scope="session")
def folder() -> Path:
    """The folder of the demo model."""
    return Path(runtime.demo.__file__).parent / "model"


@pytest.fixture(scope="session")
def llava() -> ImageGeometry:
    """The geometry of llava-v1.6-mistral-7b."""
    return make_geometry(336, 14)


@pytest.fixture(scope="session")
def demo() -> ImageGeometry:
    """The geometry of the demo model."""
    return make_geometry(56, 8)


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
