"""What a device makes of a model, held against the host: one prompt with a picture, and one token after it.

No test without the device shows how exactly its kernels compute, so each start does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch

from runtime import demo
from runtime.backend import DecodeBatch, DecodeShape, Images, Limits, ModelSpec, PrefillBatch, PrefillShape
from runtime.errors import BackendRefused, DeviceLost
from runtime.geometry import feature_count, tile_count
from runtime.model import read_model
from runtime.static.backend import StaticBackend
from runtime.static.device import Host
from runtime.static.graphs import PlainRunner
from runtime.static.kernels import TorchStaticKernels
from runtime.static.weights import Weights

SMALL: Final = 2**27
"""Bytes in fp32 of a model that the host computes in a few seconds; in place of a larger one the bundled one is run."""
TEXT: Final = 12
"""Tokens before the picture, and again after it."""
DOUBTFUL: Final = 0.5
"""Deviations of the scores that rounding to bfloat16 does not explain."""
MOST_TEXT: Final = 1000
"""Characters of the vendor's words that the operator is told."""

log = logging.getLogger(__name__)

Build = Callable[[ModelSpec, Limits], StaticBackend]
"""Loads a model on the device; what it takes there is given back with it."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """How far a device's scores are from the host's in fp32, at most, in standard deviations of the latter."""

    model: str
    prefill: float
    decode: float
    same_tokens: bool
    """Whether the best token was the same both times."""

    def __str__(self) -> str:
        tokens = "the same tokens" if self.same_tokens else "other tokens"
        return f"{self.model}: prefill {self.prefill:.4f}, decode {self.decode:.4f} deviations off, {tokens}"


def tried(model: ModelSpec, build: Build) -> Deviation:
    """Run the self-test before a model is loaded, and log what it came to; BackendRefused when the device fails."""
    try:
        deviation = self_test(model, build)
    except DeviceLost as error:
        cause = " ".join(str(error.__cause__).split())[:MOST_TEXT]
        raise BackendRefused(f"the device failed when it was tried: {cause}") from error
    is_doubtful = max(deviation.prefill, deviation.decode) > DOUBTFUL
    log.log(logging.WARNING if is_doubtful else logging.INFO, "the device was tried on %s", deviation)
    return deviation


def self_test(model: ModelSpec, build: Build) -> Deviation:
    """Compute the same on the device and on the host. Raises what the device raises."""
    with Weights(model.path, torch.float32) as weights:
        is_small = weights.bytes <= SMALL
    tested = model if is_small else read_model(demo.MODEL)
    prompt = _prompt(tested)
    length = int(prompt.lengths[0])
    limits = Limits(rows=1, context=length + 1, prefill_rows=1, prefill_tokens=length)
    host = Host()
    oracle = StaticBackend(tested, limits, torch.float32, host, TorchStaticKernels(), PlainRunner(host), 0)
    device = build(tested, limits)
    wanted, got = oracle.prefill(prompt).logits.clone(), device.prefill(prompt).logits.float().cpu()
    step = _step(int(wanted.argmax()), length)
    wanted_next, got_next = oracle.decode(step).logits, device.decode(step).logits.float().cpu()
    same = torch.equal(wanted.argmax(-1), got.argmax(-1)) and torch.equal(wanted_next.argmax(-1), got_next.argmax(-1))
    device.clear()
    name = "this model" if is_small else "bundled model"
    return Deviation(name, _deviation(wanted, got), _deviation(wanted_next, got_next), same)


def _deviation(wanted: torch.Tensor, got: torch.Tensor) -> float:
    return float((got - wanted).abs().max() / wanted.std())


def _prompt(model: ModelSpec) -> PrefillBatch:
    """Return text around a picture of noise, for a model that takes pictures."""
    generator = torch.Generator().manual_seed(0)
    text = torch.randint(3, min(256, model.vocabulary), (2 * TEXT,), generator=generator)
    tokens, images, geometry = text, None, model.images
    if geometry is not None and model.image_token_id is not None:
        size = geometry.pinpoints[0]
        tiles = torch.randn(tile_count(size, geometry), 3, geometry.tile, geometry.tile, generator=generator)
        images = Images(tiles, (len(tiles),), (size,), (bytes(32),))
        picture = torch.full((feature_count(size, geometry),), model.image_token_id)
        tokens = torch.cat([text[:TEXT], picture, text[TEXT:]])
    shape, zero = PrefillShape(1, len(tokens)), torch.zeros(1, dtype=torch.int64)
    return PrefillBatch(shape, tokens.unsqueeze(0), torch.tensor([len(tokens)]), zero, zero, (images,))


def _step(token: int, position: int) -> DecodeBatch:
    shape = DecodeShape(1, position + 1)
    return DecodeBatch(shape, torch.tensor([token]), torch.tensor([position]), torch.tensor([True]))
