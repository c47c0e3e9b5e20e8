"""The oracle against `generate()` of transformers, which batches nothing here but is otherwise all its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pluggy
import pytest
import torch
import transformers
from runtime.backend import (
    Capacity,
    Images,
    ModelSpec,
    Placement,
)
from runtime.hookspecs import PROJECT, Compute
from runtime.model import read_model
from runtime_cpu_reference.backend import CpuReference
from support.checkpoints import DEMO, IMAGE_TOKEN, Checkpoint, write_checkpoint
from support.driver import LIMITS, Driver, Prompt, prefill_batch
from transformers.models.llava_next.modeling_llava_next import image_size_to_num_patches

STEPS = 20

CHECKPOINTS = {
    "grouped": Checkpoint(),
    "one key head, tied": Checkpoint(kv_heads=1, tied=True, feature_layer=-1, seed=1),
    "ungrouped, wide heads": Checkpoint(kv_heads=4, head_dim=24, layers=3, dtype="float32", seed=2),
    "other tiles": Checkpoint(tile=30, patch=6, pinpoints=((30, 60), (60, 60), (90, 30)), dtype="float16", seed=3),
    "llama inside": Checkpoint(language="llama", vision_layers=2, feature_layer=1, seed=4),
}
PICTURES: dict[str, list[tuple[int, int]]] = {
    "none": [],
    "square": [(50, 50)],
    "wide": [(33, 97)],
    "tall and wide": [(101, 17), (13, 90)],
    "a line and a dot": [(1, 400), (1, 1)],
}


@dataclass(frozen=True)
class Setup:
    """A checkpoint, the oracle with and without its cache, and transformers' network, loaded by itself."""

    model: ModelSpec
    backend: CpuReference
    recompute: CpuReference
    net: Any

    def prompt(self, sizes: list[tuple[int, int]], text: int = 7, seed: int = 0) -> Prompt:
        """Random text around random pictures of these sizes, as many placeholders as transformers packs features."""
        generator = torch.Generator().manual_seed(seed)
        tokens = [1]
        for size in sizes:
            tokens += [IMAGE_TOKEN] * self.features(size) + [9]
        tokens += torch.randint(10, 790, (text,), generator=generator).tolist()
        if not sizes:
            return Prompt(torch.tensor(tokens), None)
        counts = tuple(self.tiles(size) for size in sizes)
        side = self.net.config.vision_config.image_size
        tiles = torch.randn(sum(counts), 3, side, side, generator=generator)
        digests = tuple(bytes(32) for _ in sizes)
        return Prompt(torch.tensor(tokens), Images(tiles, counts, tuple(sizes), digests))

    def tiles(self, size: tuple[int, int]) -> int:
        config = self.net.config
        tiles: int = image_size_to_num_patches(size, config.image_grid_pinpoints, config.vision_config.image_size)
        return tiles

    def features(self, size: tuple[int, int]) -> int:
        vision = self.net.config.vision_config
        blank = torch.zeros(self.tiles(size), (vision.image_size // vision.patch_size) ** 2, 1)
        _, lengths = self.net.model.pack_image_features([blank], torch.tensor([size]), "default", torch.zeros(1))
        return int(lengths[0])

    def generate(self, prompt: Prompt, steps: int = STEPS) -> list[int]:
        """The greedy reply of transformers."""
        tokens = prompt.tokens[None]
        pictures = {}
        if prompt.images is not None:
            padded = torch.nn.utils.rnn.pad_sequence(prompt.images.tiles.split(prompt.images.counts), batch_first=True)
            pictures = {"pixel_values": padded, "image_sizes": torch.tensor(prompt.images.sizes)}
        reply = self.net.generate(
            input_ids=tokens, attention_mask=torch.ones_like(tokens), **pictures, do_sample=False, max_new_tokens=steps
        )
        ids: list[int] = reply[0, len(prompt.tokens) :].tolist()
        return ids


def set_up(folder: Path) -> Setup:
    model = read_model(folder)
    backend = CpuReference(model, LIMITS)
    recompute = CpuReference(model, LIMITS, recompute=True)
    net = getattr(transformers, model.architecture).from_pretrained(folder).float().eval()
    net.generation_config.eos_token_id = None
    return Setup(model, backend, recompute, net)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=CHECKPOINTS.values(), ids=list(CHECKPOINTS))
def each(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Setup:
    """Every vision checkpoint in turn."""
    return set_up(write_checkpoint(tmp_path_factory.mktemp("model"), request.param))


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    """The plainest vision checkpoint."""
    return set_up(write_checkpoint(tmp_path_factory.mktemp("model"), Checkpoint()))


@pytest.fixture
def driver(one: Setup) -> Iterator[Driver]:
    yield Driver(one.backend)
    one.backend.release(range(LIMITS.rows))


@pytest.mark.parametrize("sizes", PICTURES.values(), ids=list(PICTURES))
def test_greedy_reply_is_that_of_generate(each: Setup, sizes: list[tuple[int, int]]) -> None:
    """With 0, 1 and 2 pictures of any aspect ratio, with the cache and without."""
    prompt = each.prompt(sizes)
    expected = each.generate(prompt)
    assert len(set(expected)) > 5, "a degenerate reply would prove little"
    for backend in (each.backend, each.recompute):
        driver = Driver(backend)
        driver.join({0: prompt})
        while len(driver.replies[0]) < STEPS:
            driver.step()
        assert driver.leave(0) == expected


@pytest.mark.parametrize("sizes", PICTURES.values(), ids=list(PICTURES))
def test_cached_logits_are_the_recomputed_ones(each: Setup, sizes: list[tuple[int, int]]) -> None:
    """The cache changes rounding at most."""
    cached, recomputed = Driver(each.backend), Driver(each.recompute)
    prompt = each.prompt(sizes, seed=5)
    torch.testing.assert_close(cached.join({2: prompt}), recomputed.join({2: prompt}), rtol=0, atol=1e-4)
    for _ in range(4):
        torch.testing.assert_close(cached.step()[2], recomputed.step()[2], rtol=0, atol=1e-4)
    cached.leave(2), recomputed.leave(2)


@pytest.mark.parametrize(
    ("architecture", "language"), [("MistralForCausalLM", "mistral"), ("LlamaForCausalLM", "llama")]
)
@pytest.mark.parametrize("tied", [False, True])
def test_text_models_reply_like_generate(tmp_path: Path, architecture: str, language: str, tied: bool) -> None:
    """A plain language model is served by the same few lines."""
    checkpoint = Checkpoint(f"{language.title()}ForCausalLM", language, tied=tied, seed=6)
    setup = set_up(write_checkpoint(tmp_path, checkpoint))
    prompt = setup.prompt([], text=30)
    for backend in (setup.backend, setup.recompute):
        driver = Driver(backend)
        driver.join({1: prompt})
        while len(driver.replies[1]) < STEPS:
            driver.step()
        assert driver.replies[1] == setup.generate(prompt)


def test_rows_come_and_go(one: Setup, driver: Driver) -> None:
    """Rows of different lengths share a batch, one joins late, and a slot is used again."""
    first, second = one.prompt([(40, 90)], seed=1), one.prompt([], text=3, seed=2)
    late, again = one.prompt([(90, 30), (20, 20)], seed=3), one.prompt([], text=20, seed=4)
    driver.join({3: first, 0: second})
    for _ in range(5):
        driver.step()
    driver.join({1: late})
    for _ in range(6):
        driver.step()
    assert driver.leave(0) == one.generate(second, 12)
    driver.step()
    driver.join({0: again})
    for _ in range(8):
        driver.step()
    assert driver.leave(0) == one.generate(again, 9)
    assert driver.leave(3) == one.generate(first, 21)
    assert driver.leave(1) == one.generate(late, 16)


def test_an_inactive_row_changes_nothing(one: Setup, driver: Driver) -> None:
    """A row that sits out some steps goes on as if they had not been."""
    sleeper, busy = one.prompt([(30, 60)], seed=1), one.prompt([], seed=2)
    driver.join({0: sleeper, 1: busy})
    driver.step()
    for _ in range(4):
        driver.step({1})
    for _ in range(4):
        driver.step()
    assert driver.leave(0) == one.generate(sleeper, 6)
    assert driver.leave(1) == one.generate(busy, 10)


def test_rows_of_one_prefill_are_placed_one_by_one(one: Setup, driver: Driver) -> None:
    """A prefix keeps until its last row is placed; padding rows of the batch are ignored."""
    prompts = {2: one.prompt([(50, 20)], seed=1), 1: one.prompt([], seed=2)}
    output = one.backend.prefill(prefill_batch(prompts, padding_rows=2))
    assert output.logits.shape == (4, one.model.vocabulary)
    for row, slot in enumerate(prompts):
        one.backend.concatenate(output.prefix, [Placement(row, slot)])
        driver.replies[slot] = [int(output.logits[row].argmax())]
        driver.positions[slot] = len(prompts[slot].tokens)
        driver.step()
    assert driver.leave(2) == one.generate(prompts[2], 3)
    assert driver.leave(1) == one.generate(prompts[1], 2)


def test_the_demo_model_answers_in_a_batch_as_alone() -> None:
    """Bit for bit: rows are computed one at a time."""
    setup = set_up(DEMO)
    prompts = [setup.prompt([(56, 112)], seed=1), setup.prompt([], seed=2), setup.prompt([(9, 50), (70, 70)], seed=3)]
    together = Driver(setup.backend)
    batched = [together.join(dict(enumerate(prompts))), *(together.step() for _ in range(3))]
    for slot, prompt in enumerate(prompts):
        setup.backend.release(range(LIMITS.rows))
        alone = Driver(setup.backend)
        assert torch.equal(alone.join({slot: prompt})[0], batched[0][slot])
        for step in batched[1:]:
            assert torch.equal(alone.step()[slot], step[slot])


def test_logits_are_fp32_on_the_cpu_and_free_to_change(one: Setup) -> None:
    """Sampling works on them in place."""
    logits = one.backend.prefill(prefill_batch({0: one.prompt([])})).logits
    assert logits.dtype == torch.float32
    assert logits.device.type == "cpu"
    assert not logits.requires_grad
    logits.div_(2)


def test_prompt_logprobs_are_those_of_each_beginning(one: Setup) -> None:
    """What a token of the prompt is worth is what a prompt that ends before it says about it."""
    prompts = {slot: one.prompt([(60, 80)] * slot, text=5, seed=slot) for slot in (0, 1)}
    told = one.backend.prefill(replace(prefill_batch(prompts), prompt_logprobs=True)).prompt_logprobs
    for row, prompt in enumerate(prompts.values()):
        for index in range(len(prompt.tokens) - 4, len(prompt.tokens)):
            beginning = Prompt(prompt.tokens[:index], prompt.images)
            logits = one.backend.prefill(prefill_batch({0: beginning})).logits[0]
            expected = logits.log_softmax(-1)[prompt.tokens[index]]
            assert told[row, index] == pytest.approx(float(expected), abs=1e-4)


def test_a_wrong_position_is_an_error(one: Setup, driver: Driver) -> None:
    """Silently computing at another position would make the oracle agree with a broken scheduler."""
    driver.join({0: one.prompt([])})
    driver.positions[0] += 1
    with pytest.raises(ValueError, match="slot 0 holds 8 tokens but position 9"):
        driver.step()


def test_a_released_slot_is_an_error(one: Setup, driver: Driver) -> None:
    """State is gone after release."""
    driver.join({0: one.prompt([])})
    one.backend.release([0])
    with pytest.raises(ValueError, match="slot 0 is active but holds nothing"):
        driver.step()


def test_a_padding_row_cannot_be_placed(one: Setup) -> None:
    """It has no state."""
    output = one.backend.prefill(prefill_batch({0: one.prompt([])}, padding_rows=1))
    with pytest.raises(ValueError, match="row 1"):
        one.backend.concatenate(output.prefix, [Placement(1, 0)])


def test_chunks_are_refused(one: Setup) -> None:
    """Only whole prompts are computed."""
    batch = prefill_batch({0: one.prompt([])})
    with pytest.raises(ValueError, match="offset"):
        one.backend.prefill(replace(batch, offsets=torch.tensor([4])))


def test_capacity_is_what_was_asked_for(one: Setup) -> None:
    """The CPU affords any limits; memory is the operator's."""
    assert one.backend.capacity() == Capacity(rows=4, context=512)


def test_every_hook_is_in_the_contract(one: Setup) -> None:
    """A misspelt hook would never be called."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(Compute)
    manager.register(one.backend)
    manager.check_pending()
    callers = manager.get_hookcallers(one.backend) or []
    assert {caller.name for caller in callers} == {"prefill", "concatenate", "decode", "stages", "release", "capacity"}
