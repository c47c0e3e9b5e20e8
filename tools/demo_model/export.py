"""Step 4: write a training state as a checkpoint folder that transformers loads.

Weights are bfloat16 under the names that llava-hf/llava-v1.6-mistral-7b-hf uses. The small JSON files are written by
hand: those that transformers 5 saves do not load on 4.55 (`TokenizersBackend`, no preprocessor_config.json).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import click
import torch
from architecture import MEAN, STD, model_config
from runtime.demo import MODEL
from runtime.demo.anyres import PATCH, PINPOINTS, TILE
from safetensors.torch import save_file
from state import ASIDE, Tensors, load_states
from transformers import AutoTokenizer

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
"""The tokenizer is never trained again: tests and documents know its ids, and it has a token for every word."""

_TEXT_FACTS = (
    "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim "
    "sliding_window rope_theta max_position_embeddings rms_norm_eps hidden_act attention_dropout initializer_range"
)
_VISION_FACTS = (
    "hidden_size intermediate_size num_hidden_layers num_attention_heads image_size patch_size num_channels "
    "projection_dim hidden_act layer_norm_eps attention_dropout"
)


def export(tensors: Tensors, checkpoint: Path) -> None:
    """Write weights, configuration and the tokenizer of the bundled model; the folder is made if need be."""
    checkpoint.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
        if not (checkpoint / name).exists():
            shutil.copyfile(MODEL / name, checkpoint / name)
    weights = {
        stored_name(name): tensor.to(torch.bfloat16).contiguous()
        for name, tensor in tensors.items()
        if not name.startswith(ASIDE)
    }
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    (checkpoint / "model.safetensors").chmod(0o644)  # safetensors writes 0600
    for name, facts in configuration(checkpoint).items():
        (checkpoint / name).write_text(json.dumps(facts, indent=2) + "\n")


def stored_name(name: str) -> str:
    """Return the name in the checkpoint of a tensor of `LlavaNextForConditionalGeneration`."""
    name = name.removeprefix("model.")
    if name == "lm_head.weight":
        return "language_model.lm_head.weight"
    for part, inner in (("vision_tower.", "vision_model."), ("language_model.", "model.")):
        if name.startswith(part) and not name.startswith(part + inner):
            return part + inner + name.removeprefix(part)
    return name


def configuration(checkpoint: Path) -> dict[str, dict[str, Any]]:
    """Return the contents of the configuration files by name."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    config = model_config(tokenizer)
    special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    pinpoints = [list(pinpoint) for pinpoint in PINPOINTS]
    text = {name: getattr(config.text_config, name, None) for name in _TEXT_FACTS.split()}
    # transformers 5 keeps rope_theta in rope_parameters; 4.55 reads it from here.
    text["rope_theta"] = 10000.0
    return {
        "config.json": {
            "architectures": ["LlavaNextForConditionalGeneration"],
            "model_type": "llava_next",
            "torch_dtype": "bfloat16",
            "image_grid_pinpoints": pinpoints,
            "image_token_index": tokenizer.convert_tokens_to_ids("<image>"),
            "image_seq_length": config.image_seq_length,
            "projector_hidden_act": "gelu",
            "multimodal_projector_bias": True,
            "vision_feature_layer": -2,
            "vision_feature_select_strategy": "default",
            "tie_word_embeddings": False,
            "use_image_newline_parameter": True,
            "ignore_index": -100,
            "text_config": {
                "architectures": ["MistralForCausalLM"],
                "model_type": "mistral",
                **text,
                "tie_word_embeddings": False,
                "use_cache": True,
                "torch_dtype": "bfloat16",
                **special,
            },
            "vision_config": {
                "model_type": "clip_vision_model",
                **{name: getattr(config.vision_config, name) for name in _VISION_FACTS.split()},
                "torch_dtype": "bfloat16",
            },
        },
        "generation_config.json": special,
        "preprocessor_config.json": {
            "image_processor_type": "LlavaNextImageProcessor",
            "processor_class": "LlavaNextProcessor",
            "do_convert_rgb": True,
            "do_resize": True,
            "do_center_crop": True,
            "do_rescale": True,
            "do_normalize": True,
            "do_pad": True,
            "resample": 3,
            "rescale_factor": 1 / 255,
            "image_mean": list(MEAN),
            "image_std": list(STD),
            "size": {"shortest_edge": TILE},
            "crop_size": {"height": TILE, "width": TILE},
            "image_grid_pinpoints": pinpoints,
            "aspect_ratio_setting": "anyres",
        },
        "processor_config.json": {
            "processor_class": "LlavaNextProcessor",
            "image_token": "<image>",
            "patch_size": PATCH,
            "num_additional_image_tokens": 1,
            "vision_feature_select_strategy": "default",
        },
    }


@click.command()
@click.argument("state", type=click.Path(exists=True, path_type=Path))
@click.argument("checkpoint", type=click.Path(path_type=Path))
def main(state: Path, checkpoint: Path) -> None:
    """Write the weights of STATE into the folder CHECKPOINT."""
    export(load_states([state]), checkpoint)


if __name__ == "__main__":
    main()
