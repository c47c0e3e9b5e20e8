"""Inputs that are kept, because something went wrong with them or might."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.fuzzing import CORPUS, TARGETS, kept

KEPT = [path for target in TARGETS for path in kept(target)]


def test_each_folder_has_its_target() -> None:
    """So that no input is forgotten."""
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_kept_inputs(path: Path) -> None:
    """Every target holds what it promises."""
    TARGETS[path.parent.name](path.read_bytes())
