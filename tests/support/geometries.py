"""How real models cut pictures, and the numbers of the guide's model."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from runtime.backend import DecoderGeometry, ImageGeometry, ModelSpec, VisionGeometry

CLIP_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Final = (0.26862954, 0.26130258, 0.27577711)


def make_geometry(tile: int, patch: int) -> ImageGeometry:
    """The five pinpoints of llava-v1.6, in units of tiles."""
    grids = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))
    pinpoints = tuple((tile * rows, tile * columns) for rows, columns in grids)
    return ImageGeometry(tile, patch, pinpoints, CLIP_MEAN, CLIP_STD, 0.00392156862745098, 3)


LLAVA_IMAGES: Final = make_geometry(336, 14)
"""Of llava-v1.6-mistral-7b."""
DEMO_IMAGES: Final = make_geometry(84, 12)
"""Of the demo model."""

LLAVA: Final = ModelSpec(
    path=Path("llava-v1.6-mistral-7b-hf"),
    architecture="LlavaNextForConditionalGeneration",
    dtype="bfloat16",
    layers=32,
    hidden=4096,
    heads=32,
    kv_heads=8,
    vocabulary=32064,
    max_positions=32768,
    eos_ids=frozenset({2}),
    image_token_id=32000,
    images=LLAVA_IMAGES,
    decoder=DecoderGeometry(128, 14336, 1e-5, 1e6, None, "silu", False, False, False),
    vision=VisionGeometry(24, 1024, 16, 4096, 1e-5, "quick_gelu", (23,), "gelu", True),
    digest="",
)
"""llava-hf/llava-v1.6-mistral-7b-hf, as its config.json has it; there is nothing at the path."""
