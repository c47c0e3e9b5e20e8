"""How large a checkpoint is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

VOCABULARY: Final = 32064
"""Rows of the embedding table; the tokenizer has fewer ids, and the rest is padding, as in llava-v1.6-mistral-7b."""
TILE: Final = 336
PATCH: Final = 14
PINPOINTS: Final = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))


@dataclass(frozen=True, slots=True)
class Geometry:
    """The numbers in which checkpoints differ."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    mlp: int
    vision_hidden: int
    vision_layers: int
    vision_heads: int
    vision_mlp: int

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads


GEOMETRIES: Final[Mapping[str, Geometry]] = {
    "tiny": Geometry(64, 2, 4, 2, 128, 32, 3, 2, 64),
    "small": Geometry(1024, 6, 8, 2, 3584, 384, 8, 6, 1536),
    "full": Geometry(4096, 32, 32, 8, 14336, 1024, 24, 16, 4096),
}
"""`tiny` is for trying the benchmarks out; `small` has 147 million weights in its decoder and 15 million in its vision
tower; `full` is llava-v1.6-mistral-7b."""
