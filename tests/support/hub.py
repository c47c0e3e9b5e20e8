"""The configs of llava-hf/llava-v1.6-mistral-7b-hf with a stand-in for its weights, and ways to spoil them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from runtime.errors import ModelRefused
from runtime.model import read_model
from safetensors.torch import save_file
from support.checkpoints import write_json

# What equals a class default is left out, as the hub's files do.
HUB_CONFIG: dict[str, Any] = {
    "architectures": ["LlavaNextForConditionalGeneration"],
    "ignore_index": -100,
    "image_grid_pinpoints": [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]],
    "image_token_index": 32000,
    "model_type": "llava_next",
    "projector_hidden_act": "gelu",
    "text_config": {
        "_name_or_path": "mistralai/Mistral-7B-Instruct-v0.2",
        "architectures": ["MistralForCausalLM"],
        "intermediate_size": 14336,
        "max_position_embeddings": 32768,
        "model_type": "mistral",
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-05,
        "rope_theta": 1000000.0,
        "sliding_window": None,
        "torch_dtype": "bfloat16",
        "vocab_size": 32064,
    },
    "torch_dtype": "float16",
    "use_image_newline_parameter": True,
    "vision_config": {
        "hidden_size": 1024,
        "image_size": 336,
        "intermediate_size": 4096,
        "model_type": "clip_vision_model",
        "num_attention_heads": 16,
        "num_hidden_layers": 24,
        "patch_size": 14,
        "projection_dim": 768,
        "vocab_size": 32000,
    },
    "vision_feature_layer": -2,
    "vision_feature_select_strategy": "default",
    "vocab_size": 32064,
}
HUB_PREPROCESSOR: dict[str, Any] = {
    "aspect_ratio_setting": "anyres",
    "crop_size": {"height": 336, "width": 336},
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_grid_pinpoints": [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]],
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_processor_type": "LlavaNextImageProcessor",
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"shortest_edge": 336},
}


def write_hub(folder: Path) -> Path:
    """Write the folder and return it."""
    folder.mkdir()
    write_json(folder / "config.json", HUB_CONFIG)
    write_json(folder / "preprocessor_config.json", HUB_PREPROCESSOR)
    write_json(folder / "generation_config.json", {"eos_token_id": 2})
    save_file({"weight": torch.zeros(3)}, folder / "model.safetensors")
    return folder


def change(folder: Path, name: str, *keys: str, value: Any) -> None:
    """Set one value of a JSON file: None writes null, `...` removes the key."""
    document = json.loads((folder / name).read_text())
    part = document
    for key in keys[:-1]:
        part = part[key]
    if value is ...:
        part.pop(keys[-1], None)
    else:
        part[keys[-1]] = value
    (folder / name).write_text(json.dumps(document))


def refusal(folder: Path) -> str:
    """Return the refusal's text, checked to be one line without the server's paths."""
    with pytest.raises(ModelRefused) as caught:
        read_model(folder)
    message = caught.value.message
    assert "\n" not in message
    assert str(folder.parent) not in message
    assert folder.name in message
    assert len(message) < 400
    return message
