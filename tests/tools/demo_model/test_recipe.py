"""Every step of the recipe runs, a few steps of each; the whole training is not repeated here."""

from __future__ import annotations

import filecmp
import math
from pathlib import Path

import pytest
import torch
import transformers
from architecture import new_tower
from export import export
from label_head import new_label_head
from packaging.version import Version
from pool import Pool, draw_pool, load_pool, save_pool
from runtime.demo import MODEL
from safetensors.torch import load_file
from state import PATCH_HEAD, TOWER, load_states, save_state
from train import Losses, Plan, Training
from train_tower import TowerTraining
from transformers import AutoTokenizer, LlavaNextForConditionalGeneration

pytestmark = pytest.mark.skipif(
    Version(transformers.__version__).major < 5, reason="the recipe is written for transformers 5"
)


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """The same weights and noise every time."""
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def pool() -> Pool:
    """A few pictures, some of two shapes among them."""
    return draw_pool(24, seed=2)


def test_a_pool_survives_its_files(tmp_path: Path, pool: Pool) -> None:
    """Scenes as JSON, arrays as they were."""
    save_pool(pool, tmp_path / "pool")
    again = load_pool(tmp_path / "pool")
    assert (again.scenes, again.offsets) == (pool.scenes, pool.offsets)
    assert (again.tiles == pool.tiles).all()
    assert (again.labels == pool.labels).all()


def test_a_pool_is_drawn_again_from_its_seed(pool: Pool) -> None:
    """Pixel by pixel, JPEG and noise included."""
    assert (draw_pool(24, seed=2).tiles == pool.tiles).all()


def test_a_tower_that_is_stopped_and_goes_on_is_the_tower_that_was_not(tmp_path: Path) -> None:
    """Four steps at a stretch, and two and two from the state between; crowded pictures."""
    crowded = draw_pool(6, seed=1, kind="crowded")

    def training() -> TowerTraining:
        torch.manual_seed(0)
        return TowerTraining([crowded], steps=4, rate=1e-3, pictures_a_step=2, kept_out=2)

    whole = training()
    before = {name: tensor.clone() for name, tensor in whole.tower.state_dict().items()}
    losses = [whole.step() for _ in range(4)]
    after = whole.tower.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert all(0 <= share <= 1 for share in whole.accuracy().values())

    first = training()
    assert [first.step(), first.step()] == losses[:2]
    first.save(tmp_path / "tower.safetensors")
    second = training()
    second.resume(load_states([tmp_path / "tower.safetensors"]))
    assert second.done == 2
    assert [second.step(), second.step()] == losses[2:]
    assert all(torch.equal(tensor, after[name]) for name, tensor in second.tower.state_dict().items())


def test_questions_that_are_stopped_and_go_on_are_those_that_were_not(tmp_path: Path, pool: Pool) -> None:
    """From the delivered weights; the tower is frozen in the first half. Then a checkpoint that loads."""
    tokenizer = AutoTokenizer.from_pretrained(MODEL)

    def training() -> Training:
        torch.manual_seed(0)
        plan = Plan(steps=4, rate=1e-4, tower_rate=1e-4, frozen=0.5, pictures=1)
        made = Training([pool], tokenizer, plan)
        made.start_from(load_states([MODEL]))
        return made

    whole = training()
    losses = [whole.step() for _ in range(4)]
    assert [each.patches > 0 for each in losses] == [False, False, True, True]
    assert all(math.isfinite(each.answers + each.text + each.tokens) for each in losses)

    first = training()
    assert [first.step(), first.step()] == losses[:2]
    first.save(tmp_path / "state.safetensors")
    second = training()
    second.resume(load_states([tmp_path / "state.safetensors"]))
    assert [second.step(), second.step()] == losses[2:]

    export(load_states([tmp_path / "state.safetensors"]), tmp_path / "model")
    model, problems = LlavaNextForConditionalGeneration.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(problems.values())
    assert model.dtype == torch.bfloat16


def test_a_tower_alone_starts_a_run(tmp_path: Path, pool: Pool) -> None:
    """The language model then starts untrained."""
    tower = new_tower()
    save_state(tmp_path / "tower.safetensors", {TOWER: tower, PATCH_HEAD: new_label_head()})
    plan = Plan(steps=1, rate=1e-3, tower_rate=1e-4, frozen=1, pictures=1)
    training = Training([pool], AutoTokenizer.from_pretrained(MODEL), plan)
    training.start_from(load_states([tmp_path / "tower.safetensors"]))
    losses = training.step()
    assert isinstance(losses, Losses)
    assert 5 < losses.answers < 9  # ln 802 is 6.7
    learnt = training.model.model.vision_tower.state_dict()
    assert all(torch.equal(tensor, learnt[name]) for name, tensor in tower.state_dict().items())


def test_exporting_the_delivered_weights_gives_the_delivered_files(tmp_path: Path) -> None:
    """Every configuration file byte for byte, every tensor bit for bit."""
    export(load_states([MODEL]), tmp_path)
    names = sorted(path.name for path in MODEL.iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    small = [name for name in names if name != "model.safetensors"]
    assert filecmp.cmpfiles(tmp_path, MODEL, small, shallow=False) == (small, [], [])
    ours, delivered = load_file(tmp_path / "model.safetensors"), load_file(MODEL / "model.safetensors")
    assert ours.keys() == delivered.keys()
    assert all(torch.equal(ours[name], delivered[name]) for name in ours)
