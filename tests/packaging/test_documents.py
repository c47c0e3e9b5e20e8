"""What the documents say of files and commands stays true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "tools" / "demo_model" / "README.md"]
CORE = ROOT / "core" / "runtime"
FOLDERS = (
    *(ROOT, CORE, CORE / "demo", CORE / "demo" / "pictures"),
    *(ROOT / "tools" / "demo_model", ROOT / "benchmarks", ROOT / "plugins" / "torch"),
)
FILE = re.compile(r"`((?:[\w.-]+/)*[\w-]+\.(?:py|proto|json|sh)|(?:[\w.-]+/)+)`")
WRITTEN_BY_USERS = {"config.json", "tokenizer.json", "kernels.py", "runtime-mychip/runtime_mychip/kernels.py"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_named_files_exist(document: Path) -> None:
    """Every file or folder in backticks is there, below the root, core, the recipe, the benchmarks or a plugin."""
    named = set(FILE.findall(document.read_text())) - WRITTEN_BY_USERS
    missing = {
        name for name in named if not name.startswith("work/") and not any((each / name).exists() for each in FOLDERS)
    }
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    """Every relative link names a file."""
    links = re.findall(r"\]\((?!http|data:|#)([^)#]+)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []
