"""The `cpu` backend against the oracle."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch
from runtime.backend import Images, Limits, Placement, PrefillBatch
from runtime.model import read_model
from runtime_cpu_reference.backend import CpuReference
from runtime_torch.cpu import Cpu
from support.agreement import GEOMETRIES, NOISE, Agreement, Prompt
from support.checkpoints import DEMO, write_checkpoint
from torch.utils._python_dispatch import TorchDispatchMode

LIMITS = Limits(rows=4, context=384, prefill_rows=3, prefill_tokens=360)
CACHE = 2**20
AS_THE_ORACLE = 1.25
"""How many times the oracle's own rounding to bf16 ours may be: it rounds in other places, but no oftener."""

Pair = tuple[Cpu, CpuReference]


@pytest.fixture(scope="module", params=[*GEOMETRIES, "demo"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """The backend in fp32 and the oracle, loaded from the same folder."""
    folder = DEMO
    if request.param in GEOMETRIES:
        folder = write_checkpoint(tmp_path_factory.mktemp("model"), GEOMETRIES[request.param])
    model = read_model(folder)
    return Cpu(model, LIMITS, torch.float32, CACHE), CpuReference(model, LIMITS)


def prompts_of(traffic: Agreement, count: int) -> list[Prompt]:
    """So many random prompts, with pictures where the model takes them."""
    return [traffic.prompt() for _ in range(count)]


def whole(traffic: Agreement, prompt: Prompt, slot: int = 0) -> PrefillBatch:
    """A prompt alone."""
    return traffic.batch([prompt], [slot], [0], [len(prompt.tokens)])


@pytest.mark.parametrize("seed", range(3))
def test_greedy_tokens_are_the_oracle_s(pair: Pair, seed: int) -> None:
    """In fp32, whatever joins, leaves, waits or is computed in parts."""
    cpu, oracle = pair
    agreement = Agreement(oracle.model, LIMITS, cpu, oracle, seed, resumes=True)
    agreement.run(steps=40)
    assert max(agreement.differences) < NOISE


def test_bf16_is_as_exact_as_the_oracle_in_bf16(pair: Pair) -> None:
    """Over the same prompts, the mean error of the logits against fp32 is that of rounding, as transformers rounds."""
    _, oracle = pair
    cpu, rounded = Cpu(oracle.model, LIMITS, torch.bfloat16, CACHE), copy.copy(oracle)
    rounded.net = copy.deepcopy(oracle.net).bfloat16()
    traffic = Agreement(oracle.model, LIMITS, cpu, oracle, seed=0)
    squares = torch.zeros(2, dtype=torch.float64)
    for prompt in prompts_of(traffic, 24):
        batch = whole(traffic, prompt)
        exact = oracle.prefill(batch).logits
        errors = [other.prefill(batch).logits.float() - exact for other in (cpu, rounded)]
        squares += torch.stack([error.double().square().mean() / exact.double().var() for error in errors])
    ours, its = squares.sqrt().tolist()
    assert 0 < ours <= AS_THE_ORACLE * its


def test_log_probabilities_of_a_prompt(pair: Pair) -> None:
    """Of each token given those before it, padding or not."""
    cpu, oracle = pair
    traffic = Agreement(oracle.model, LIMITS, cpu, oracle, seed=1)
    prompts = prompts_of(traffic, 3)
    batch = traffic.batch(prompts, [2, 0, 3], [0] * 3, [len(prompt.tokens) for prompt in prompts])
    batch = replace(batch, prompt_logprobs=True)
    ours, its = cpu.prefill(batch).prompt_logprobs, oracle.prefill(batch).prompt_logprobs
    assert ours is not None
    assert its is not None
    for row, prompt in enumerate(prompts):
        told = slice(1, len(prompt.tokens))
        assert torch.allclose(ours[row, told], its[row, told], atol=1e-2)


@pytest.mark.parametrize(("cache", "encoded"), [(CACHE, 1), (0, 3)])
def test_picture_that_was_seen_before(cache: int, encoded: int) -> None:
    """Goes through the vision tower once, when it is kept, and its prompt has the same logits each time."""
    model = read_model(DEMO)
    cpu = Cpu(model, LIMITS, torch.float32, cache)
    traffic = Agreement(model, LIMITS, cpu, None, seed=3)
    seen = next(prompt for prompt in prompts_of(traffic, 50) if prompt.images is not None and len(prompt.starts) == 1)
    assert seen.images is not None
    logits = [cpu.prefill(whole(traffic, seen, slot)).logits for slot in range(3)]
    assert torch.equal(logits[0], logits[1])
    assert torch.equal(logits[0], logits[2])
    stats = cpu.stats()
    assert stats["encoded_tiles"] == encoded * seen.images.counts[0]
    assert (stats["image_cache_hits"], stats["image_cache_misses"]) == (3 - encoded, encoded)
    assert (stats["image_cache_bytes"] > 0) is (cache > 0)
    assert stats["image_encode_seconds"] > 0


def test_numbers_that_are_none_stay_in_their_row(pair: Pair) -> None:
    """Neither the neighbours of a row that overflows nor the next row in its slot see anything of it."""
    cpu, oracle = pair
    if oracle.model.images is None:
        pytest.skip("text alone does not overflow")
    traffic = Agreement(oracle.model, LIMITS, cpu, oracle, seed=2)
    bad = next(prompt for prompt in prompts_of(traffic, 50) if prompt.images is not None)
    assert isinstance(bad.images, Images)
    nothing = torch.full_like(bad.images.tiles, float("nan"))
    bad = replace(bad, images=replace(bad.images, tiles=nothing, digests=tuple(b"n" * 32 for _ in bad.images.digests)))
    traffic.join([1])
    output = cpu.prefill(whole(traffic, bad, slot=0))
    cpu.concatenate(output.prefix, [Placement(0, 0)])
    assert output.logits.isnan().all()
    traffic.decode([1])
    traffic.join([0])
    for _ in range(3):
        traffic.decode([0, 1])


class Products(TorchDispatchMode):
    """Notes the sizes of every matrix product."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: set[tuple[torch.Size, ...]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in {"mm", "addmm", "bmm", "_linear_pointwise"}:
            self.sizes.add(tuple(each.shape for each in args if isinstance(each, torch.Tensor)))
        return func(*args, **(kwargs or {}))


def test_products_have_few_sizes(pair: Pair) -> None:
    """Whatever the lengths of prompts: oneDNN makes code for each size of a product it meets, and keeps it."""
    cpu, oracle = pair
    traffic = Agreement(oracle.model, LIMITS, cpu, oracle, seed=0)

    def sizes(lengths: Iterable[int]) -> set[tuple[torch.Size, ...]]:
        with Products() as products:
            for length in lengths:
                cpu.prefill(whole(traffic, Prompt((5,) * length, None, ())))
        return products.sizes

    few = sizes((32, 64, 96))
    assert len(few) > 3
    assert sizes(range(1, 97)) == few
