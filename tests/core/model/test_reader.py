"""Reading a model folder: what is taken over, what is refused, and that refusals are one clear line."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runtime.errors import ModelRefused
from runtime.model import read_model
from runtime.model.section import MAX_JSON_BYTES
from support.checkpoints import DEMO, Checkpoint, write_checkpoint, write_json
from support.geometries import LLAVA
from support.hub import HUB_CONFIG, HUB_PREPROCESSOR, change, refusal, write_hub


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A folder with the hub's configs and a stand-in for the weights."""
    return write_hub(tmp_path / "llava")


def test_the_hub_config_is_read(hub: Path) -> None:
    """Absent keys are the Mistral class's defaults: 4096 wide, 32 layers, 32 heads."""
    spec = read_model(hub)
    assert spec == replace(LLAVA, path=hub, dtype="float16", digest=spec.digest)


def test_the_demo_model_is_read() -> None:
    """The bundled model is an ordinary folder."""
    spec = read_model(DEMO)
    assert (spec.layers, spec.hidden, spec.heads, spec.kv_heads, spec.vocabulary) == (6, 128, 4, 2, 802)
    assert spec.images is not None
    assert (spec.images.tile, spec.images.patch, len(spec.images.pinpoints)) == (84, 12, 5)


@pytest.mark.parametrize("language", ["mistral", "llama"])
def test_text_models_are_read(tmp_path: Path, language: str) -> None:
    """They have no pictures and no placeholder."""
    spec = read_model(write_checkpoint(tmp_path, Checkpoint(f"{language.title()}ForCausalLM", language)))
    assert spec.images is None
    assert spec.image_token_id is None
    assert (spec.layers, spec.max_positions, spec.dtype) == (2, 1024, "bfloat16")


def test_files_written_by_transformers_are_read(tmp_path: Path) -> None:
    """Whatever version is installed, its own `save_pretrained` gives the same facts."""
    original = read_model(write_checkpoint(tmp_path / "original", Checkpoint(kv_heads=1)))
    net: Any = transformers.LlavaNextForConditionalGeneration.from_pretrained(original.path)
    net.save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / "preprocessor_config.json").write_bytes(
        (original.path / "preprocessor_config.json").read_bytes()
    )
    saved = read_model(tmp_path / "saved")
    assert replace(saved, path=original.path, digest=original.digest, dtype=original.dtype) == original


def test_names_of_transformers_5_are_read(hub: Path) -> None:
    """`dtype`, `image_token_id`, and the image processor folded into processor_config.json."""
    before = read_model(hub)
    change(hub, "config.json", "torch_dtype", value=...)
    change(hub, "config.json", "dtype", value="float16")
    change(hub, "config.json", "image_token_index", value=...)
    change(hub, "config.json", "image_token_id", value=31999)
    (hub / "preprocessor_config.json").unlink()
    write_json(hub / "processor_config.json", {"image_processor": HUB_PREPROCESSOR, "patch_size": 14})
    after = read_model(hub)
    assert after.image_token_id == 31999
    assert (after.dtype, after.images) == (before.dtype, before.images)


@pytest.mark.parametrize(
    ("rope", "theta", "scaling"),
    [
        ({"rope_theta": 5e5}, 5e5, None),
        ({"rope_theta": 5e5, "rope_scaling": None}, 5e5, None),
        ({"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}}, 5e5, "linear"),
        ({"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 5e5, "llama3"),
        ({"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}}, 1e6, None),
        ({"rope_parameters": {"rope_theta": 1e6, "rope_type": "yarn", "factor": 4.0}}, 1e6, "yarn"),
        ({}, 1e4, None),
    ],
)
def test_positions_are_read_as_each_version_writes_them(
    hub: Path, rope: dict[str, Any], theta: float, scaling: str | None
) -> None:
    """transformers 4 keeps the base and the scaling apart, 5 together; old files say `type`."""
    for key in ("rope_theta", "rope_scaling", "rope_parameters"):
        change(hub, "config.json", "text_config", key, value=rope.get(key, ...))
    decoder = read_model(hub).decoder
    assert (decoder.rope_theta, decoder.rope_scaling) == (theta, scaling)


@pytest.mark.parametrize(
    ("generation", "config", "text", "expected"),
    [
        ([2, 7], 3, 4, {2, 7}),
        (5, 3, 4, {5}),
        (None, 3, 4, {3}),
        (None, None, [4, 2], {4, 2}),
        (None, None, None, set()),
        (..., ..., ..., {2}),
    ],
)
def test_end_tokens(hub: Path, generation: Any, config: Any, text: Any, expected: set[int]) -> None:
    """The generation config goes first, then the model's, then the text part's, then the class default."""
    change(hub, "generation_config.json", "eos_token_id", value=generation)
    change(hub, "config.json", "eos_token_id", value=config)
    change(hub, "config.json", "text_config", "eos_token_id", value=text)
    assert read_model(hub).eos_ids == expected


def test_a_sliding_window_caps_the_context(hub: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Up to the window, sliding attention is full attention; the operator is told."""
    change(hub, "config.json", "text_config", "sliding_window", value=4096)
    with caplog.at_level(logging.WARNING):
        assert read_model(hub).max_positions == 4096
    assert "sliding_window 4096 is smaller than max_position_embeddings 32768" in caplog.text


def test_an_absent_window_is_the_class_default(hub: Path) -> None:
    """Mistral's default window is 4096, null means none."""
    change(hub, "config.json", "text_config", "sliding_window", value=...)
    assert read_model(hub).max_positions == 4096


REFUSED = [
    (
        "config.json",
        ("architectures",),
        ["Qwen2VLForConditionalGeneration"],
        "Qwen2VL.*supported are Llava.*Mistral.*Llama",
    ),
    ("config.json", ("architectures",), ["A\n\x1b[31m"], r"architecture 'A\\n\\x1b\[31m' is not supported"),
    ("config.json", ("architectures",), ..., "architectures is missing"),
    ("config.json", ("architectures",), "LlavaNextForConditionalGeneration", "architectures is"),
    ("config.json", ("architectures",), [], "architectures is a list of 0"),
    ("config.json", ("model_type",), "llava", 'model_type is "llava"; it must be "llava_next"'),
    ("config.json", ("quantization_config",), {"bits": 4}, "quantization_config"),
    ("config.json", ("text_config",), ..., "text_config is missing"),
    ("config.json", ("text_config",), [1], "text_config is a list"),
    ("config.json", ("text_config", "model_type"), "qwen2", 'model_type is "qwen2"; it must be "mistral" or "llama"'),
    ("config.json", ("text_config", "vocab_size"), "32064", 'text_config: vocab_size is "32064"'),
    ("config.json", ("text_config", "vocab_size"), 10**400, "vocab_size is 1000"),
    ("config.json", ("text_config", "hidden_size"), 4096.0, "hidden_size is 4096.0"),
    ("config.json", ("text_config", "hidden_size"), 4100, "hidden_size is 4100; it must be a multiple"),
    ("config.json", ("text_config", "num_hidden_layers"), 0, "num_hidden_layers is 0"),
    ("config.json", ("text_config", "num_hidden_layers"), True, "num_hidden_layers is true"),
    ("config.json", ("text_config", "num_attention_heads"), -1, "num_attention_heads is -1"),
    ("config.json", ("text_config", "num_key_value_heads"), 3, "num_key_value_heads is 3; it must be a divisor"),
    ("config.json", ("text_config", "num_key_value_heads"), 64, "num_key_value_heads is 64"),
    ("config.json", ("text_config", "max_position_embeddings"), None, "max_position_embeddings is missing"),
    ("config.json", ("text_config", "sliding_window"), "no", "sliding_window"),
    ("config.json", ("torch_dtype",), "int8", 'torch_dtype is "int8"'),
    (
        "config.json",
        ("image_token_index",),
        32064,
        "is 32064; it must be a whole number from 0 to 32063",
    ),
    ("config.json", ("image_grid_pinpoints",), [], "image_grid_pinpoints is a list of 0"),
    ("config.json", ("image_grid_pinpoints",), [[336, 672, 3]], "image_grid_pinpoints"),
    ("config.json", ("image_grid_pinpoints",), [[336, "672"]], "image_grid_pinpoints"),
    ("config.json", ("image_grid_pinpoints",), [[336, 500]], "image_grid_pinpoints.*multiples of 336"),
    ("config.json", ("image_grid_pinpoints",), [[336, -336]], "image_grid_pinpoints"),
    ("config.json", ("image_grid_pinpoints",), [[336 * 9, 336 * 9]], "image_grid_pinpoints.*at most 64 tiles"),
    ("config.json", ("image_grid_pinpoints",), [[336, 672]], "preprocessor_config.json: image_grid_pinpoints"),
    ("config.json", ("vision_feature_select_strategy",), "cls", 'it must be "default"'),
    ("config.json", ("vision_feature_select_strategy",), "full", 'it must be "default"'),
    ("config.json", ("vision_feature_layer",), -26, "vision_feature_layer is -26; it must be a whole number from -25"),
    ("config.json", ("vision_config", "model_type"), "siglip_vision_model", "siglip_vision_model"),
    ("config.json", ("vision_config", "image_size"), [336, 336], "image_size is a list"),
    ("config.json", ("vision_config", "patch_size"), 400, "patch_size is 400"),
    ("config.json", ("vision_config", "num_channels"), 1, "num_channels is 1"),
    ("generation_config.json", ("eos_token_id",), 99999, "eos_token_id is 99999"),
    ("generation_config.json", ("eos_token_id",), [2, "3"], "eos_token_id is a list of 2"),
    ("preprocessor_config.json", ("crop_size",), {"height": 224, "width": 224}, "crop_size.*336 pixels"),
    ("preprocessor_config.json", ("crop_size",), {"height": 336, "width": 224}, "crop_size.*a square"),
    ("preprocessor_config.json", ("size",), ..., "size"),
    ("preprocessor_config.json", ("size",), 224, "size is 224; it must be 336 pixels"),
    ("preprocessor_config.json", ("do_normalize",), False, "do_normalize is false; it must be true"),
    ("preprocessor_config.json", ("do_pad",), 1, "do_pad is 1; it must be true"),
    ("preprocessor_config.json", ("image_mean",), [0.5], "image_mean"),
    ("preprocessor_config.json", ("image_std",), [0.5, 0.0, 0.5], "image_std"),
    ("preprocessor_config.json", ("image_std",), [0.5, float("nan"), 0.5], "image_std"),
    ("preprocessor_config.json", ("rescale_factor",), 0, "rescale_factor is 0"),
    ("preprocessor_config.json", ("resample",), 9, "resample is 9; it must be a whole number from 0 to 5"),
    (
        "preprocessor_config.json",
        ("aspect_ratio_setting",),
        "pad",
        '"pad"; it must be "anyres"',
    ),
    ("preprocessor_config.json", ("image_processor_type",), "CLIPImageProcessor", "image_processor_type"),
]


@pytest.mark.parametrize(
    ("name", "keys", "value", "complaint"),
    REFUSED,
    ids=[f"{'.'.join(keys)}={str(value)[:20]!a}" for _, keys, value, _ in REFUSED],
)
def test_a_bad_value_is_refused(hub: Path, name: str, keys: tuple[str, ...], value: Any, complaint: str) -> None:
    """The line names the file, the key, the value and what would be accepted."""
    change(hub, name, *keys, value=value)
    message = refusal(hub)
    assert re.search(complaint, message), message


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda f: (f / "config.json").unlink(), "has no config.json"),
        (lambda f: (f / "preprocessor_config.json").unlink(), "has no preprocessor_config.json"),
        (lambda f: (f / "config.json").write_text("{"), "config.json is not valid JSON"),
        (lambda f: (f / "config.json").write_text("[1]"), "config.json must hold a JSON object"),
        (lambda f: (f / "config.json").write_text("[" * 100_000), "config.json is not valid JSON"),
        (lambda f: (f / "config.json").write_bytes(b'{"a": "\xff"}'), "config.json is not valid JSON"),
        (lambda f: (f / "config.json").write_bytes(b" " * (MAX_JSON_BYTES + 1)), "the limit is 16777216"),
        (lambda f: (f / "model.safetensors").unlink(), "has no weights"),
        (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "only safetensors are loaded"),
        (lambda f: (f / "model.safetensors").write_bytes(b""), "not a safetensors file"),
        (lambda f: (f / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "pointer"),
        (lambda f: (f / "model.safetensors").write_bytes((5).to_bytes(8, "little") + b"junk!"), "header is not valid"),
        (lambda f: cut(f / "model.safetensors"), "its header promises"),
    ],
)
def test_a_broken_folder_is_refused(hub: Path, spoil: Callable[[Path], object], complaint: str) -> None:
    """Every file is bounded and checked before it is used."""
    spoil(hub)
    assert complaint in refusal(hub)


def cut(file: Path) -> None:
    """Take the last byte away, as a broken download does."""
    file.write_bytes(file.read_bytes()[:-1])


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    """Also a name of the hub: models are never fetched."""
    assert "is not a folder" in refusal(tmp_path / "llava-hf")
    assert "is not a folder" in refusal(tmp_path / "null\0byte")
    assert "cannot be read" in refusal(tmp_path / ("long" * 80))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PLACES = [
    *(("config.json", (key,)) for key in HUB_CONFIG),
    *(("config.json", (part, key)) for part in ("text_config", "vision_config") for key in HUB_CONFIG[part]),
    *(("preprocessor_config.json", (key,)) for key in HUB_PREPROCESSOR),
    ("generation_config.json", ("eos_token_id",)),
]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(PLACES), value=JSON)
def test_any_value_anywhere_is_taken_or_refused(hub: Path, place: tuple[str, tuple[str, ...]], value: Any) -> None:
    """No config ends in an untyped exception."""
    write_json(hub / "config.json", HUB_CONFIG)
    write_json(hub / "preprocessor_config.json", HUB_PREPROCESSOR)
    write_json(hub / "generation_config.json", {"eos_token_id": 2})
    name, keys = place
    change(hub, name, *keys, value=value)
    with contextlib.suppress(ModelRefused):
        read_model(hub)
