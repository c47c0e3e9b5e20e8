"""`runtime demo picture`."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image
from runtime.cli.demo import demo


def test_it_draws_the_picture_of_a_seed_and_says_what_to_ask(tmp_path: Path) -> None:
    """Seed 3 is a blue ring with a 4, a pink triangle and a pink cross."""
    out = tmp_path / "shapes.png"
    result = CliRunner().invoke(demo, ["picture", "--seed", "3", str(out)])
    assert result.exit_code == 0
    with Image.open(out) as image:
        assert (image.format, image.size) == ("PNG", (185, 193))
    assert "seed 3" in result.output
    assert "This is a picture of a blue ring, a pink triangle and a pink cross." in result.output
    assert "The ring is blue." in result.output
    command = f'runtime ask --image {out} "What is this a picture of?"'
    assert command in result.output


def test_without_a_seed_it_names_the_one_it_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the same picture can be drawn again; the file is picture.png."""
    monkeypatch.chdir(tmp_path)
    first = CliRunner().invoke(demo, ["picture"]).output
    pixels = (tmp_path / "picture.png").read_bytes()
    seed = first.splitlines()[0].rsplit(" ", 1)[1]
    assert CliRunner().invoke(demo, ["picture", "--seed", seed]).output == first
    assert (tmp_path / "picture.png").read_bytes() == pixels


@pytest.mark.parametrize(
    ("name", "reason"), [("nowhere/p.png", "No such file or directory"), ("p.jpg", "give a name that ends in .png")]
)
def test_a_file_that_cannot_be_written_is_one_clear_line(tmp_path: Path, name: str, reason: str) -> None:
    """No traceback, exit status 1."""
    result = CliRunner().invoke(demo, ["picture", str(tmp_path / name)])
    assert result.exit_code == 1
    assert result.output.count("\n") == 1
    assert reason in result.output


def test_a_seed_out_of_range_is_refused() -> None:
    """Click's usage error."""
    assert CliRunner().invoke(demo, ["picture", "--seed", "-1"]).exit_code == 2
