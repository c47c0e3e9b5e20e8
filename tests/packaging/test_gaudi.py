"""What docs/gaudi.md and the Dockerfile of the plugin say is so."""

from __future__ import annotations

import ast
import json
import re
from configparser import ConfigParser
from pathlib import Path

import pytest
from runtime.cli.serve import serve

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "gaudi.md").read_text()
DOCKERFILE = (ROOT / "plugins" / "hpu" / "Dockerfile").read_text()

GUIDE = {
    *("--max-input-tokens", "--max-total-tokens", "--max-batch-prefill-tokens", "--max-batch-total-tokens"),
    *("ENABLE_HPU_GRAPH", "LIMIT_HPU_GRAPH", "BATCH_BUCKET_SIZE", "PREFILL_BATCH_BUCKET_SIZE"),
    *("PAD_SEQUENCE_TO_MULTIPLE_OF", "SKIP_TOKENIZER_IN_TGI", "WARMUP_ENABLED", "QUEUE_THRESHOLD_MS"),
    *("USE_FLASH_ATTENTION", "FLASH_ATTENTION_RECOMPUTE", "PT_HPU_ENABLE_LAZY_COLLECTIVES"),
    *("TEXT_GENERATION_SERVER_IGNORE_EOS_TOKEN", "HABANA_VISIBLE_DEVICES", "HF_HUB_ENABLE_HF_TRANSFER"),
    "OMPI_MCA_btl_vader_single_copy_mechanism",
}
"""What the guide of TGI-Gaudi names: its command, its text and its table."""


def test_every_line_of_the_guide_is_covered() -> None:
    """The table has all of its flags and variables."""
    assert set(re.findall(r"^\| `([\w-]+)` \|", PAGE, re.MULTILINE)) >= GUIDE


@pytest.mark.parametrize(("path", "name"), re.findall(r"`(tests/[\w/]+\.py)` `(\w+)`", PAGE))
def test_named_tests_exist(path: str, name: str) -> None:
    """Each test of the table is in its file."""
    tree = ast.parse((ROOT / path).read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def instructions() -> list[tuple[str, str]]:
    """(instruction, arguments) of the Dockerfile, continued lines joined."""
    joined = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE))
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def test_dockerfile_has_only_instructions() -> None:
    """Docker knows each, and a base image comes first."""
    found = [word for word, _ in instructions()]
    assert found[:2] == ["ARG", "FROM"]
    assert set(found) <= {"ARG", "FROM", "WORKDIR", "COPY", "RUN", "ENV", "VOLUME", "EXPOSE", "ENTRYPOINT"}


def test_dockerfile_copies_what_a_build_needs() -> None:
    """Every source is in the repository, and every folder of packages is copied."""
    sources = [source for word, rest in instructions() if word == "COPY" for source in rest.split()[:-1]]
    assert all((ROOT / source).exists() for source in sources)
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    folders = {value.split("/")[0] for value in re.findall(r"= ?(\S+)", setup["options"]["package_dir"])}
    assert folders <= set(sources)


def test_dockerfile_serves() -> None:
    """Its entry point is a command line that `runtime serve` takes, and flags may follow."""
    (line,) = (rest for word, rest in instructions() if word == "ENTRYPOINT")
    command, subcommand, *words = json.loads(line)
    assert (command, subcommand) == ("runtime", "serve")
    known = {flag for option in serve.params for flag in option.opts}
    assert set(words[::2]) <= known
