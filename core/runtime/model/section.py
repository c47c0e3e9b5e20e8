"""Typed reading of a model folder's JSON files: every value is checked for kind and range where it is read.

A refusal names the model folder, the file, the key and what would be accepted; never a path of the server.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeGuard, TypeVar

from runtime.errors import ModelRefused

MAX_JSON_BYTES: Final = 16 * 2**20
"""Size of a JSON file (or a safetensors header) that is still parsed."""

MAX_LIST: Final = 64
"""Entries of a list in a config: end tokens, canvas sizes, feature layers."""

MAX_LAYERS: Final = 1024

CACHED_MODEL: Final = "models--"
"""How the folder of a model begins in the hub's cache; its id follows, with `--` for the slash."""

Value = TypeVar("Value", str, int, bool)

DEFAULTS: Final[Mapping[str, Mapping[str, object]]] = MappingProxyType(
    {
        "llava_next": {
            "image_token_index": 32000,
            "image_grid_pinpoints": [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]],
            "vision_feature_layer": -2,
            "vision_feature_select_strategy": "default",
            "projector_hidden_act": "gelu",
            "multimodal_projector_bias": True,
        },
        "mistral": {
            "vocab_size": 32000,
            "hidden_size": 4096,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "intermediate_size": 14336,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-6,
            "max_position_embeddings": 131072,
            "sliding_window": 4096,
            "eos_token_id": 2,
        },
        "llama": {
            "vocab_size": 32000,
            "hidden_size": 4096,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "intermediate_size": 11008,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-6,
            "max_position_embeddings": 2048,
            "eos_token_id": 2,
        },
        "clip_vision_model": {
            "num_hidden_layers": 12,
            "hidden_size": 768,
            "num_attention_heads": 12,
            "intermediate_size": 3072,
            "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-5,
            "num_channels": 3,
            "image_size": 224,
            "patch_size": 32,
        },
        "llava_next_image_processor": {
            "do_resize": True,
            "do_center_crop": True,
            "do_rescale": True,
            "do_normalize": True,
            "do_pad": True,
            "size": {"shortest_edge": 224},
            "crop_size": {"height": 224, "width": 224},
            "image_grid_pinpoints": [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]],
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711],
            "rescale_factor": 1 / 255,
            "resample": 3,
        },
    }
)
"""Hugging Face writes only what differs from the class defaults, so these are part of the file format.

Source: the configuration classes of transformers; a test compares them with the installed version.
"""


@dataclass(frozen=True, slots=True)
class Section:
    """A JSON object of a config file. Getters raise ModelRefused; a key that is null counts as missing."""

    values: Mapping[str, object]
    model: str
    """Name of the model folder."""
    file: str
    """Name of the file, and the keys that lead here."""

    def with_defaults(self, kind: str) -> Section:
        """Fill in absent keys as the transformers class of this model type does; a null stays."""
        return Section({**DEFAULTS[kind], **self.values}, self.model, self.file)

    def has(self, key: str) -> bool:
        return self.values.get(key) is not None

    def refusal(self, key: str, accepted: str) -> ModelRefused:
        """Return the error to raise for this key."""
        if not self.has(key):
            return ModelRefused(f"Model {self.model}: {self.file}: {key} is missing; it must be {accepted}.")
        return ModelRefused(
            f"Model {self.model}: {self.file}: {key} is {_shown(self.values[key])}; it must be {accepted}."
        )

    def integer(self, key: str, low: int, high: int) -> int:
        value = self.values.get(key)
        if not is_integer(value) or not low <= value <= high:
            raise self.refusal(key, f"a whole number from {low} to {high}")
        return value

    def integer_or_none(self, key: str, low: int, high: int) -> int | None:
        return self.integer(key, low, high) if self.has(key) else None

    def integers(self, key: str, low: int, high: int) -> tuple[int, ...]:
        """Return one number or a list of them as a tuple."""
        value = self.values.get(key)
        entries = value if isinstance(value, list) else [value]
        if not 1 <= len(entries) <= MAX_LIST or not all(is_integer(e) and low <= e <= high for e in entries):
            raise self.refusal(key, f"a whole number from {low} to {high}, or a list of up to {MAX_LIST} of them")
        return tuple(entries)

    def number(self, key: str, high: float) -> float:
        """Return a number above 0, up to `high`."""
        value = self.values.get(key)
        if not _is_number(value) or not 0 < value <= high:
            raise self.refusal(key, f"a number above 0, up to {high:g}")
        return float(value)

    def triple(self, key: str, low: float, high: float) -> tuple[float, float, float]:
        """Return one number per colour."""
        value = self.values.get(key)
        if not isinstance(value, list) or len(value) != 3 or not all(_is_number(v) and low <= v <= high for v in value):
            raise self.refusal(key, f"a list of three numbers from {low:g} to {high:g}")
        red, green, blue = (float(entry) for entry in value)
        return red, green, blue

    def choice(self, key: str, allowed: tuple[Value, ...]) -> Value:
        value = self.values.get(key)
        for option in allowed:
            if type(value) is type(option) and value == option:  # to Python, but not to JSON, True equals 1
                return option
        raise self.refusal(key, " or ".join(json.dumps(option) for option in allowed))

    def flag(self, key: str) -> bool:
        """Return true or false; a missing key is false."""
        return self.has(key) and self.choice(key, (True, False))

    def name(self, key: str, longest: int) -> str:
        """Return a word of at most `longest` letters, digits and underscores."""
        value = self.values.get(key)
        if not isinstance(value, str) or not value.isidentifier() or len(value) > longest:
            raise self.refusal(key, f"a name of at most {longest} characters")
        return value

    def section(self, key: str) -> Section:
        value = self.values.get(key)
        if not isinstance(value, dict):
            raise self.refusal(key, "an object")
        return Section(value, self.model, f"{self.file}: {key}")


def folder_name(folder: Path) -> str:
    """Return what a model is called in errors: the last part of its path, also when the path is a dot.

    A folder of the hub's cache, models--ORG--NAME/snapshots/COMMIT, is called ORG/NAME.
    """
    folder = folder.absolute()
    cached = folder.parent.parent.name
    if folder.parent.name == "snapshots" and cached.startswith(CACHED_MODEL):
        return cached.removeprefix(CACHED_MODEL).replace("--", "/")
    return folder.name


def read_section(folder: Path, name: str) -> Section | None:
    """Read one JSON file of a model folder; None when it does not exist."""
    path, model = folder / name, folder_name(folder)
    if not path.is_file():
        return None
    size = path.stat().st_size
    if size > MAX_JSON_BYTES:
        raise ModelRefused(f"Model {model}: {name} has {size} bytes; the limit is {MAX_JSON_BYTES}.")
    return parse_section(path.read_bytes(), model, name)


def parse_section(text: bytes, model: str, file: str) -> Section:
    """Parse a JSON object."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise ModelRefused(f"Model {model}: {file} is not valid JSON; download the file again.") from None
    if not isinstance(values, dict):
        raise ModelRefused(f"Model {model}: {file} must hold a JSON object.")
    return Section(values, model, file)


def is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> TypeGuard[float]:
    """Tell whether it is a finite number; Python's JSON also reads NaN and Infinity."""
    return is_integer(value) or (isinstance(value, float) and math.isfinite(value))


def _shown(value: object) -> str:
    if isinstance(value, list | dict):
        return f"a list of {len(value)}" if isinstance(value, list) else "an object"
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:60] + "..."
