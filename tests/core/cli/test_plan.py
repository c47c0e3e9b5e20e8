"""`runtime plan`; what is planned is in tests/core/shapes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from click.testing import CliRunner, Result
from runtime import demo
from runtime.cli import main
from runtime.compatibility import known_variables
from support.geometries import LLAVA_IMAGES
from support.plugin import install_plugin, static_plugin

GUIDE = [
    *("--max-input-tokens", "4096", "--max-batch-prefill-tokens", "16384"),
    *("--max-total-tokens", "8192", "--max-batch-total-tokens", "32768"),
]
TEXT = {
    "vocab_size": 32064,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 32768,
}
VISION = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
}
GUIDE_VARIABLES = {"PREFILL_BATCH_BUCKET_SIZE": "1", "BATCH_BUCKET_SIZE": "1"}


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The configs of llava-v1.6-mistral-7b, and no weights."""
    config = json.loads((demo.MODEL / "config.json").read_text())
    processor = json.loads((demo.MODEL / "preprocessor_config.json").read_text())
    pinpoints = [list(pinpoint) for pinpoint in LLAVA_IMAGES.pinpoints]
    config |= {"image_grid_pinpoints": pinpoints, "image_token_index": 32000}
    config["text_config"] |= TEXT
    config["vision_config"] |= VISION
    processor |= {"size": 336, "crop_size": 336, "image_grid_pinpoints": pinpoints}
    folder = tmp_path_factory.mktemp("llava")
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return str(folder)


def run(*arguments: str, environment: Mapping[str, str] = MappingProxyType({})) -> Result:
    """The command, with no variable we know in the environment but those given."""
    cleared: dict[str, str | None] = dict.fromkeys(known_variables())
    words = ["plan", "--backend", "cpu_reference", *arguments]
    return CliRunner(env={**cleared, **environment}).invoke(main, words)


def planned(*arguments: str, environment: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
    """What the command printed as JSON."""
    result = run("--json", *arguments, environment=environment)
    assert result.exit_code == 0, result.output
    told: dict[str, Any] = json.loads(result.stdout)
    return told


def sizes(told: dict[str, Any], kind: str, field: str) -> list[int]:
    """The sizes of one dimension, each once."""
    return sorted({shape[field] for shape in told["shapes"][kind]})


def test_command_of_the_guide(llava: str) -> None:
    """A screen of 100 columns: 4 x 4096 and 4 x 8192, 155 graphs, 14.1 GiB of weights and 4 GiB of cache."""
    words = ("--model-id", llava, *GUIDE, "--no-prefix-reuse", "--seconds-per-shape", "2")
    text = run(*words, environment=GUIDE_VARIABLES).stdout
    lines = text.splitlines()
    assert lines[0].endswith(" on cpu_reference, which takes any shape: it gets no plan, and nothing is padded.")
    assert lines[1] == "A backend of static shapes gets this:"
    shown = {line.split("  ")[0].strip() or line.split()[0]: " ".join(line.split()) for line in lines[2:] if line}
    assert shown["Shapes"] == "Shapes 155, a graph each"
    assert "prefill 128 rows 1 2 3 4 x tokens 128 256 ... 3968 4096" in shown.values()
    assert "decode 24 rows 1 2 3 4 x context 256 512 1024 2048 4096 8192" in shown.values()
    assert "vision 3 tiles 3 4 5" in shown.values()
    assert "weights 14.1 GiB 7,566,747,648 numbers of bfloat16" in shown.values()
    assert "KV cache 4.0 GiB 4 rows of 8192 tokens, 128 KiB a token" in shown.values()
    assert "30% photo 1024 x 768 40 2380 2432 52" in shown.values()
    assert shown["Warm-up"] == "Warm-up 5 min 10 s for all shapes, at the measured rate"
    assert all(len(line) <= 100 for line in lines[1:])
    assert len(lines) < 35


def test_json(llava: str) -> None:
    """The same, for programs."""
    told = planned("--model-id", llava, *GUIDE, "--no-prefix-reuse", environment=GUIDE_VARIABLES)
    assert told["static_shapes"] is False
    assert told["limits"] == {"rows": 4, "context": 8192, "prefill_rows": 4, "prefill_tokens": 4096}
    assert told["budgets"] == {"prefill_tokens": 16384, "total_tokens": 32768}
    assert {kind: len(shapes) for kind, shapes in told["shapes"].items()} == {"prefill": 128, "decode": 24, "vision": 3}
    assert told["shapes"]["prefill"][-1] == {"rows": 4, "length": 4096, "cached": 0}
    assert (told["forecast"]["graphs"], told["forecast"]["kv"]) == (155, 4 * 2**30)
    assert told["forecast"]["warmup_seconds"] is None
    assert 0 < told["padding"]["share"] < 0.05


@pytest.mark.parametrize("words", [(), ("--no-prefix-reuse", "--prefill-chunk", "512")], ids=["reuse", "parts"])
def test_prompts_that_continue_have_shapes_too(llava: str, words: tuple[str, ...]) -> None:
    """Where a prompt may be continued; the shapes of whole prompts stay."""
    told = planned("--model-id", llava, *GUIDE, *words, environment=GUIDE_VARIABLES)
    prefill = told["shapes"]["prefill"]
    assert sum(shape["cached"] == 0 for shape in prefill) == 128
    assert told["forecast"]["graphs"] == 155 + sum(shape["cached"] > 0 for shape in prefill) == 316


def test_a_backend_of_static_shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gets the plan, so nothing is said of others."""
    monkeypatch.syspath_prepend(install_plugin(tmp_path, "boxes", "boxes", source=static_plugin("boxes", True)))
    first, second, *_ = run("--model-id", "demo", "--backend", "boxes").stdout.splitlines()
    assert (first, second) == ("demo on boxes", "")
    assert planned("--model-id", "demo", "--backend", "boxes")["static_shapes"] is True


@pytest.mark.proves("--pad-sequence-to-multiple-of")
def test_lengths() -> None:
    """By flag or variable; the limit is the last."""
    told = planned("--model-id", "demo", "--pad-sequence-to-multiple-of", "500", "--max-input-tokens", "1900")
    assert sizes(told, "prefill", "length") == [500, 1000, 1500, 1900]
    told = planned("--model-id", "demo", environment={"PAD_SEQUENCE_TO_MULTIPLE_OF": "1024"})
    assert sizes(told, "prefill", "length") == [1024, 2047]


@pytest.mark.proves("--prefill-batch-bucket-size")
def test_prefill_rows() -> None:
    """Of four at most, by default."""
    for size, rows in (("1", [1, 2, 3, 4]), ("2", [2, 4]), ("3", [3, 4]), ("8", [4])):
        told = planned("--model-id", "demo", "--prefill-batch-bucket-size", size)
        assert sizes(told, "prefill", "rows") == rows


@pytest.mark.proves("--batch-bucket-size")
def test_decode_rows() -> None:
    """Of twelve."""
    for size, rows in (("4", [4, 8, 12]), ("5", [5, 10, 12]), ("8", [8, 12])):
        told = planned("--model-id", "demo", "--max-batch-size", "12", "--batch-bucket-size", size)
        assert sizes(told, "decode", "rows") == rows


@pytest.mark.proves("--bucket-strategy")
def test_exponential() -> None:
    """Fewer shapes of the same limits."""
    told = planned("--model-id", "demo", "--bucket-strategy", "exponential")
    assert sizes(told, "prefill", "length") == [128, 256, 384, 512, 640, 896, 1152, 1536, 1920, 2047]


def test_deterministic() -> None:
    """One shape for all decode steps, and prompts alone; none of them continues."""
    told = planned("--model-id", "demo", "--bucket-strategy", "exponential", "--deterministic")
    assert sizes(told, "decode", "rows") == [8]
    assert sizes(told, "decode", "context") == [2048]
    assert sizes(told, "prefill", "rows") == [1]
    assert sizes(told, "prefill", "cached") == [0]
    assert sizes(told, "prefill", "length") == [128, 256, 384, 512, 640, 896, 1152, 1536, 1920, 2047]


@pytest.mark.proves("--bucket-file")
def test_file(tmp_path: Path) -> None:
    """The lists it holds; a wrong one is one line."""
    lists = {"prefill_lengths": [300], "prefill_rows": [1], "decode_rows": [2], "decode_contexts": [512]}
    file = tmp_path / "buckets.json"
    file.write_text(json.dumps(lists))
    told = planned("--model-id", "demo", "--bucket-strategy", "file", "--bucket-file", str(file))
    assert sizes(told, "prefill", "length") == [300, 2047]
    assert sizes(told, "prefill", "rows") == [1, 4]
    assert sizes(told, "decode", "rows") == [2, 8]
    assert sizes(told, "decode", "context") == [512, 2048]
    file.write_text("[]")
    result = run("--model-id", "demo", "--bucket-strategy", "file", "--bucket-file", str(file))
    assert result.exit_code == 1
    assert result.stderr.startswith("runtime plan: --bucket-file must hold an object with exactly these lists: ")


def test_many_kinds_of_rows_are_one_line(llava: str) -> None:
    """Where every length has its own number of rows."""
    arguments = ["--max-batch-prefill-tokens", "9000", "--max-total-tokens", "5000", "--max-batch-size", "40"]
    (line,) = [line for line in run("--model-id", llava, *arguments).stdout.splitlines() if "prefill  " in line]
    assert " ".join(line.split()) == "prefill 80 rows 4 8 ... 36 40, fewer the longer x tokens 128 256 ... 4992 4999"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--model-id", "demo", "--backend", "abacus"], "there is no backend 'abacus'; installed: "),
        (["--model-id", "./nothing"], "Model nothing is not a folder; "),
        (["--model-id", "demo", "--max-input-tokens", "9", "--max-total-tokens", "9"], "--max-input-tokens 9 must be "),
    ],
)
def test_errors_are_one_line(arguments: list[str], told: str) -> None:
    """As of `runtime serve`."""
    result = run(*arguments)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"runtime plan: {told}")
