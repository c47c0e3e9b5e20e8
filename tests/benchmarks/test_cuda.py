"""The benchmark of the backend `cuda`, tried out on the CPU, so that no time on a card is lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from runtime.model.reader import read_configs

from benchmarks.checkpoint.geometry import GEOMETRIES
from benchmarks.cuda.__main__ import main, write_configs
from benchmarks.cuda.card import Card
from benchmarks.cuda.steps import FULL, SMOKE, Bench


@pytest.mark.filterwarnings("ignore::UserWarning")  # transformers has its own
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_everything_runs(tmp_path: Path) -> None:
    """Every figure is in the file, and every line of the table is printed."""
    file = tmp_path / "figures.json"
    done = CliRunner().invoke(main, ["--smoke", "--json", str(file)], catch_exceptions=False)
    assert done.exit_code == 0
    found = json.loads(file.read_text())
    assert set(found["decode"]) == {"1", "2"}
    assert found["decode"]["1"]["seconds"] > 0
    assert found["prefill"]["tokens"] == 2928 + SMOKE.text
    assert set(found["prefill"]["seconds"]) == {
        "first token",
        "vision tower",
        "laying the picture",
        "decoder",
        "host and choice",
    }
    assert found["stats"]["unknown_shapes"] == 0
    assert found["idle"] is None
    assert found["transformers"]["arrivals"] > 0
    for words in ("mean nothing", "decode, 2 rows", "vision tower", "captures after the warm-up: 0", "transformers ("):
        assert words in done.output


def test_without_a_card_it_says_what_can_be_done() -> None:
    """Rather than to measure the CPU."""
    if torch.cuda.is_available():
        pytest.skip("there is a card")
    done = CliRunner().invoke(main, [])
    assert done.exit_code == 1
    assert "--smoke" in done.output


def test_the_bars_are_measured() -> None:
    """Decode steps of 1, 16 and 64 rows at 3,000 tokens, and a picture of 2,928 with 64 more; sixteen that arrive."""
    assert (FULL.rows, FULL.context, FULL.text, FULL.requests) == ((1, 16, 64), 3000, 64, 16)
    assert FULL.waves == (1, 2, 4, 8, 16)


def test_random_weights_are_as_many_as_the_geometry_has(tmp_path: Path) -> None:
    """In the forecast's arithmetic, but for what the toolkit does not read: layers whose features nobody wants."""
    write_configs(GEOMETRIES["tiny"], tmp_path)
    memory = Bench(Card(torch.device("cpu")), read_configs(tmp_path), SMOKE).memory()
    assert memory["weights"] / 2 == pytest.approx(memory["weights_forecast"], rel=0.02)  # float32 on the CPU
