"""The backend of static shapes against the oracle, recorded and replayed."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import pytest
import torch
from runtime.backend import DecodeShape, ModelSpec, PrefillShape, ShapePlan
from runtime.errors import BackendError, DeviceLost, UnplannedShape
from runtime.static.backend import StaticBackend
from runtime.static.device import Host
from runtime.static.graphs import Inputs, Outputs, PlainRunner
from runtime.static.kernels import TorchStaticKernels
from runtime.static.warmup import empty_decode, empty_prefill
from support.agreement import NOISE
from support.apart import Apart, Away
from support.static import CACHE, LADDERS, LIMITS, agreement, ignore, loaded, plan_of


@pytest.mark.parametrize("ladders", LADDERS)
def test_greedy_tokens_are_the_oracle_s(model: ModelSpec, ladders: str) -> None:
    """In fp32, whatever joins, leaves, waits, is padded or computed in parts; and no shape is met unprepared."""
    plan = plan_of(model, ladders)
    backend = loaded(model)
    backend.warmup(plan, ignore)
    for seed in range(2):
        traffic = agreement(backend, model, seed, plan)
        traffic.run(steps=50)
        assert max(traffic.differences) < NOISE
    assert backend.stats()["unknown_shapes"] == 0


def test_a_thousand_requests_meet_no_unknown_shape(small: ModelSpec) -> None:
    """After the warm-up nothing is recorded any more; the oracle agrees to the end."""
    plan = plan_of(small)
    backend = loaded(small)
    backend.warmup(plan, ignore)
    graphs = backend.stats()["graphs"]
    traffic = agreement(backend, small, 0, plan)
    traffic.leaving = 0.7
    while traffic.requests < 1000:
        traffic.run(steps=50)
    stats = backend.stats()
    assert max(traffic.differences) < NOISE
    assert stats["unknown_shapes"] == 0
    assert stats["graphs"] == graphs == len(plan.prefill) + len(plan.decode) + 2 * len(plan.vision)
    assert stats["image_cache_hits"] > 0


@pytest.mark.parametrize("cache_bytes", [0, 50_000])
def test_pictures_are_right_without_room_to_keep_them(small: ModelSpec, cache_bytes: int) -> None:
    """With no cache of features, and one that holds a few."""
    plan = plan_of(small)
    backend = loaded(small, cache_bytes=cache_bytes)
    backend.warmup(plan, ignore)
    traffic = agreement(backend, small, 1, plan)
    traffic.run(steps=150)
    assert max(traffic.differences) < NOISE
    assert backend.stats()["image_cache_bytes"] <= cache_bytes


def test_without_a_warmup_shapes_are_prepared_when_they_are_met(small: ModelSpec) -> None:
    """None is called unknown, for none was promised."""
    plan = plan_of(small)
    backend = loaded(small)
    traffic = agreement(backend, small, 0, plan)
    traffic.run(steps=60)
    assert max(traffic.differences) < NOISE
    assert backend.stats()["unknown_shapes"] == 0
    assert 0 < backend.stats()["graphs"] < len(plan.prefill) + len(plan.decode) + 2 * len(plan.vision)


def test_a_step_copies_its_batch_and_nothing_else(small: ModelSpec) -> None:
    """Once: a decode step in one piece, a prefill in two or three, a picture in three; and nothing comes back."""
    plan = plan_of(small)
    backend = StaticBackend(small, LIMITS, torch.float32, Away(), TorchStaticKernels(), PlainRunner(Away()), CACHE)
    backend.warmup(plan, ignore)

    def copies(step: Callable[[], object]) -> int:
        with Apart() as apart:
            step()
        return apart.copies

    assert copies(lambda: backend.decode(empty_decode(plan.decode[0]))) == 1
    assert copies(lambda: backend.prefill(empty_prefill(PrefillShape(2, 128)))) == 2
    assert copies(lambda: backend.prefill(empty_prefill(PrefillShape(2, 128, 128)))) == 3
    traffic = agreement(backend, small, 3, plan)
    prompt = next(prompt for prompt in iter(traffic.prompt, None) if prompt.images and len(prompt.images.counts) == 1)
    assert copies(lambda: traffic.prefill([prompt], [0], [0], [len(prompt.tokens)])) == 2 + 3
    assert copies(lambda: traffic.prefill([prompt], [1], [0], [len(prompt.tokens)])) == 2 + 1


def test_a_second_question_about_a_picture_skips_the_tower(small: ModelSpec) -> None:
    """The features come from the cache, and the scores are the same."""
    plan = plan_of(small)
    backend = loaded(small)
    backend.warmup(plan, ignore)
    traffic = agreement(backend, small, 3, plan)
    prompt = next(prompt for prompt in iter(traffic.prompt, None) if prompt.images is not None)
    first = traffic.prefill([prompt], [0], [0], [len(prompt.tokens)])
    tiles = backend.stats()["encoded_tiles"]
    again = traffic.prefill([prompt], [1], [0], [len(prompt.tokens)])
    assert torch.equal(first, again)
    assert backend.stats()["encoded_tiles"] == tiles > 0


def test_placeholders_without_pictures_are_refused(small: ModelSpec) -> None:
    """Else they would show the picture of somebody else."""
    backend = loaded(small)
    batch = empty_prefill(PrefillShape(1, 8))
    batch.tokens[0, 2] = small.image_token_id or 0
    batch.lengths[0], batch.slots[0] = 8, 0
    with pytest.raises(BackendError, match="1 placeholders for 0 vectors"):
        backend.prefill(batch)


def test_after_the_warmup_an_unknown_shape_is_an_error(small: ModelSpec) -> None:
    """In tests; in service it is logged, and computed."""
    plan = ShapePlan(prefill=(PrefillShape(1, 16),), decode=(DecodeShape(1, 64),))
    batch = empty_prefill(PrefillShape(2, 16))
    strict, lenient = loaded(small), loaded(small, strict=False)
    for backend in (strict, lenient):
        backend.warmup(plan, ignore)
    with pytest.raises(UnplannedShape):
        strict.prefill(batch)
    assert lenient.decode(empty_decode(DecodeShape(2, 64))).logits.shape == (2, small.vocabulary)
    assert strict.stats()["unknown_shapes"] == lenient.stats()["unknown_shapes"] == 1


class Fragile(Host):
    """A device that may be lost, and hands its scores over as copies."""

    def is_lost(self, error: RuntimeError) -> bool:
        return "sparks" in str(error)

    def delivered(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.clone()


@pytest.mark.parametrize(("words", "error"), [("sparks", DeviceLost), ("smoke", RuntimeError)])
def test_a_device_may_be_lost_in_any_step(words: str, error: type[Exception], small: ModelSpec) -> None:
    """What the device says of an error decides; the text for the client is not the library's."""

    class Burning(PlainRunner):
        def run(self, key: Hashable, inputs: Inputs) -> Outputs:
            raise RuntimeError(words)

    backend = loaded(small, device=Fragile(), runner=Burning(Fragile()))
    plan = ShapePlan(prefill=(PrefillShape(1, 16),), decode=(DecodeShape(1, 64),))
    steps: list[Callable[[], object]] = [
        lambda: backend.prefill(empty_prefill(plan.prefill[0])),
        lambda: backend.decode(empty_decode(plan.decode[0])),
        lambda: backend.warmup(plan, ignore),
    ]
    for step in steps:
        with pytest.raises(error) as raised:
            step()
        assert (words in str(raised.value)) == (error is RuntimeError)


def test_a_device_delivers_its_scores(small: ModelSpec) -> None:
    """Where it likes: here as copies, which the next step leaves alone."""
    backend = loaded(small, device=Fragile())
    batch = empty_decode(DecodeShape(1, 64))
    first = backend.decode(batch).logits
    kept = first.clone()
    batch.tokens[0] = 7
    assert not torch.equal(backend.decode(batch).logits, kept)
    assert torch.equal(first, kept)


def test_the_log_probabilities_of_a_prompt_are_not_told(small: ModelSpec) -> None:
    """They would need the head at every position."""
    assert loaded(small).prefill(empty_prefill(PrefillShape(1, 16))).prompt_logprobs is None
