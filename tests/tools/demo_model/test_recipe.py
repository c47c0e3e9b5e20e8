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
from packaging.version import Version
from patch_head import new_patch_head
from pool import draw_pool, load_pool, save_pool
from runtime.demo import MODEL
from safetensors.torch import load_file
from state import PATCH_HEAD, TOWER, fill, load_states, save_state
from train import Plan, Training
from train_tokenizer import save_tokenizer, train_tokenizer
from train_tower import TowerTraining
from transformers import AutoTokenizer, LlavaNextForConditionalGeneration

pytestmark = pytest.mark.skipif(
    Version(transformers.__version__).major < 5, reason="the recipe is written for transformers 5"
)


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """The same weights and noise every time."""
    torch.manual_seed(0)


def test_the_tokenizer_is_the_shipped_one_byte_for_byte(tmp_path: Path) -> None:
    """Training it takes two seconds."""
    save_tokenizer(train_tokenizer(), tmp_path)
    names = [path.name for path in tmp_path.iterdir()]
    assert len(names) == 4
    assert filecmp.cmpfiles(tmp_path, MODEL, names, shallow=False) == (names, [], [])


def test_a_pool_survives_its_files(tmp_path: Path) -> None:
    """Scenes as JSON, arrays as they were."""
    pool = draw_pool(4, seed=9)
    save_pool(pool, tmp_path / "pool")
    again = load_pool(tmp_path / "pool")
    assert (again.scenes, again.offsets) == (pool.scenes, pool.offsets)
    assert (again.tiles == pool.tiles).all()
    assert (again.labels == pool.labels).all()


def test_two_steps_of_the_tower_change_it_and_can_be_gone_on_from(tmp_path: Path) -> None:
    """The state file holds tower and head."""
    training = TowerTraining([draw_pool(4, seed=1, crowded=True)], steps=2, rate=1e-3, pictures_a_step=2, kept_out=2)
    before = {name: tensor.clone() for name, tensor in training.tower.state_dict().items()}
    assert all(math.isfinite(training.step()) for _ in range(2))
    after = training.tower.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert all(0 <= share <= 1 for share in training.accuracy().values())

    save_state(tmp_path / "tower.safetensors", {TOWER: training.tower, PATCH_HEAD: training.head})
    tensors = load_states([tmp_path / "tower.safetensors"])
    tower, head = new_tower(), new_patch_head()
    assert fill(tower, tensors, TOWER)
    assert fill(head, tensors, PATCH_HEAD)
    assert all(torch.equal(tensor, after[name]) for name, tensor in tower.state_dict().items())


def test_two_steps_on_the_delivered_weights_and_their_export(tmp_path: Path) -> None:
    """First step thinned with the tower frozen, second whole with the tower learning; then a checkpoint that loads."""
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    plan = Plan(steps=2, rate=1e-3, tower_rate=1e-4, frozen=0.5, thin=0.5, pictures_a_step=1)
    training = Training([draw_pool(8, seed=2)], tokenizer, plan)
    training.restore(load_states([MODEL]))
    first, second = training.step(), training.step()
    # Untrained weights would say 7; these know their answers.
    assert max(first.answers, second.answers) < 2
    assert first.patches == 0 < second.patches

    training.save(tmp_path / "state.safetensors")
    save_tokenizer(train_tokenizer(), tmp_path)
    export(load_states([tmp_path / "state.safetensors"]), tmp_path)
    model, problems = LlavaNextForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(problems.values())
    assert model.dtype == torch.bfloat16


def test_a_tower_alone_starts_a_run(tmp_path: Path) -> None:
    """The language model then starts untrained."""
    tower = new_tower()
    save_state(tmp_path / "tower.safetensors", {TOWER: tower, PATCH_HEAD: new_patch_head()})
    plan = Plan(steps=1, rate=1e-3, tower_rate=1e-4, frozen=1, thin=0, pictures_a_step=1)
    training = Training([draw_pool(8, seed=2)], AutoTokenizer.from_pretrained(MODEL), plan)
    training.restore(load_states([tmp_path / "tower.safetensors"]))
    progress = training.step()
    assert 5 < progress.answers < 9  # ln 802 is 6.7
    learnt = training.model.model.vision_tower.state_dict()
    assert all(torch.equal(tensor, learnt[name]) for name, tensor in tower.state_dict().items())


def test_exporting_the_delivered_weights_gives_the_delivered_files(tmp_path: Path) -> None:
    """Every configuration file byte for byte, every tensor bit for bit."""
    save_tokenizer(train_tokenizer(), tmp_path)
    export(load_states([MODEL]), tmp_path)
    names = sorted(path.name for path in MODEL.iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    small = [name for name in names if name != "model.safetensors"]
    assert filecmp.cmpfiles(tmp_path, MODEL, small, shallow=False) == (small, [], [])
    ours, delivered = load_file(tmp_path / "model.safetensors"), load_file(MODEL / "model.safetensors")
    assert ours.keys() == delivered.keys()
    assert all(torch.equal(ours[name], delivered[name]) for name in ours)
