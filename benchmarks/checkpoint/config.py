"""The configs of a checkpoint, as llava-v1.6-mistral-7b has them."""

from __future__ import annotations

from typing import Any

from benchmarks.checkpoint.geometry import PATCH, PINPOINTS, TILE, VOCABULARY, Geometry
from benchmarks.checkpoint.tokenizer import BOS_TOKEN, EOS_TOKEN, IMAGE_TOKEN, PAD_TOKEN


def config_json(geometry: Geometry) -> dict[str, Any]:
    """Return the content of a config.json."""
    return {
        "architectures": ["LlavaNextForConditionalGeneration"],
        "model_type": "llava_next",
        "image_grid_pinpoints": [list(pinpoint) for pinpoint in PINPOINTS],
        "image_seq_length": (TILE // PATCH) ** 2,
        "image_token_index": IMAGE_TOKEN,
        "projector_hidden_act": "gelu",
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_image_newline_parameter": True,
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
        "vocab_size": VOCABULARY,
        "text_config": _text(geometry),
        "vision_config": _vision(geometry),
    }


def generation_config_json() -> dict[str, Any]:
    """Return the content of a generation_config.json."""
    return {"bos_token_id": BOS_TOKEN, "eos_token_id": EOS_TOKEN, "pad_token_id": PAD_TOKEN}


def preprocessor_config_json() -> dict[str, Any]:
    """Return the content of a preprocessor_config.json: CLIP's numbers."""
    steps = ("do_convert_rgb", "do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_pad")
    return {
        "image_processor_type": "LlavaNextImageProcessor",
        **dict.fromkeys(steps, True),
        "size": {"shortest_edge": TILE},
        "crop_size": {"height": TILE, "width": TILE},
        "image_grid_pinpoints": [list(pinpoint) for pinpoint in PINPOINTS],
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "rescale_factor": 1 / 255,
        "resample": 3,
    }


def _text(geometry: Geometry) -> dict[str, Any]:
    return {
        "architectures": ["MistralForCausalLM"],
        "model_type": "mistral",
        "bos_token_id": BOS_TOKEN,
        "eos_token_id": EOS_TOKEN,
        "head_dim": geometry.head_dim,
        "hidden_act": "silu",
        "hidden_size": geometry.hidden,
        "intermediate_size": geometry.mlp,
        "max_position_embeddings": 32768,
        "num_attention_heads": geometry.heads,
        "num_hidden_layers": geometry.layers,
        "num_key_value_heads": geometry.kv_heads,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1000000.0,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "vocab_size": VOCABULARY,
    }


def _vision(geometry: Geometry) -> dict[str, Any]:
    return {
        "model_type": "clip_vision_model",
        "hidden_act": "quick_gelu",
        "hidden_size": geometry.vision_hidden,
        "image_size": TILE,
        "intermediate_size": geometry.vision_mlp,
        "layer_norm_eps": 1e-5,
        "num_attention_heads": geometry.vision_heads,
        "num_hidden_layers": geometry.vision_layers,
        "patch_size": PATCH,
        "projection_dim": 768,
    }
