"""Small random checkpoints in the form the hub has them: configs by hand, weights under the names of v1.6-mistral.

The files load with transformers 4.55 and 5. Weights depend only on the seed and the tensor's name, and are scaled so
that greedy replies do not get stuck on one token.
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import runtime.demo
import torch
from safetensors.torch import save_file

DEMO = Path(runtime.demo.__file__).parent / "model"
"""The bundled model."""

VOCABULARY, IMAGE_TOKEN, PAD_TOKEN = 802, 800, 801
"""Of the demo tokenizer, which every checkpoint here uses."""

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What distinguishes one random checkpoint from another."""

    architecture: str = "LlavaNextForConditionalGeneration"
    language: str = "mistral"
    layers: int = 2
    hidden: int = 64
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 16
    tied: bool = False
    tile: int = 28
    patch: int = 7
    pinpoints: tuple[tuple[int, int], ...] = ((28, 56), (56, 28), (56, 56), (84, 28), (28, 84))
    vision_hidden: int = 32
    vision_layers: int = 3
    feature_layer: int = -2
    strategy: str = "default"
    dtype: str = "bfloat16"
    seed: int = 0

    @property
    def vision(self) -> bool:
        return self.architecture == "LlavaNextForConditionalGeneration"


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a whole model folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
        shutil.copyfile(DEMO / name, folder / name)
    write_json(folder / "config.json", config_of(checkpoint))
    write_json(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": PAD_TOKEN})
    if checkpoint.vision:
        write_json(folder / "preprocessor_config.json", preprocessor_of(checkpoint))
        write_json(
            folder / "processor_config.json",
            {
                "processor_class": "LlavaNextProcessor",
                "image_token": "<image>",
                "num_additional_image_tokens": 1,
                "patch_size": checkpoint.patch,
                "vision_feature_select_strategy": checkpoint.strategy,
            },
        )
    save_file(weights_of(checkpoint), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2))


def config_of(checkpoint: Checkpoint) -> dict[str, Any]:
    text = {
        "model_type": checkpoint.language,
        "vocab_size": VOCABULARY,
        "hidden_size": checkpoint.hidden,
        "intermediate_size": 2 * checkpoint.hidden,
        "num_hidden_layers": checkpoint.layers,
        "num_attention_heads": checkpoint.heads,
        "num_key_value_heads": checkpoint.kv_heads,
        "head_dim": checkpoint.head_dim,
        "max_position_embeddings": 1024,
        "rope_theta": 10000.0,
        "rms_norm_eps": 1e-05,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": PAD_TOKEN,
        "tie_word_embeddings": checkpoint.tied,
        "torch_dtype": checkpoint.dtype,
    }
    if checkpoint.language == "mistral":
        text["sliding_window"] = None
    if not checkpoint.vision:
        return {"architectures": [checkpoint.architecture], **text}
    return {
        "architectures": [checkpoint.architecture],
        "model_type": "llava_next",
        "torch_dtype": checkpoint.dtype,
        "image_grid_pinpoints": [list(pinpoint) for pinpoint in checkpoint.pinpoints],
        "image_token_index": IMAGE_TOKEN,
        "tie_word_embeddings": checkpoint.tied,
        "vision_feature_layer": checkpoint.feature_layer,
        "vision_feature_select_strategy": checkpoint.strategy,
        "text_config": text,
        "vision_config": {
            "model_type": "clip_vision_model",
            "hidden_size": checkpoint.vision_hidden,
            "intermediate_size": 2 * checkpoint.vision_hidden,
            "num_hidden_layers": checkpoint.vision_layers,
            "num_attention_heads": 2,
            "image_size": checkpoint.tile,
            "patch_size": checkpoint.patch,
            "projection_dim": checkpoint.vision_hidden,
        },
    }


def preprocessor_of(checkpoint: Checkpoint) -> dict[str, Any]:
    steps = ("do_convert_rgb", "do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_pad")
    return {
        "image_processor_type": "LlavaNextImageProcessor",
        **dict.fromkeys(steps, True),
        "aspect_ratio_setting": "anyres",
        "size": {"shortest_edge": checkpoint.tile},
        "crop_size": {"height": checkpoint.tile, "width": checkpoint.tile},
        "image_grid_pinpoints": [list(pinpoint) for pinpoint in checkpoint.pinpoints],
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "rescale_factor": 1 / 255,
        "resample": 3,
    }


def weights_of(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    shapes = dict(_language_shapes(checkpoint, "language_model." if checkpoint.vision else ""))
    if checkpoint.vision:
        shapes |= _vision_shapes(checkpoint)
    return {name: _tensor(name, shape, checkpoint) for name, shape in shapes.items()}


def _language_shapes(checkpoint: Checkpoint, prefix: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, inner = checkpoint.hidden, 2 * checkpoint.hidden
    queries, keys = checkpoint.heads * checkpoint.head_dim, checkpoint.kv_heads * checkpoint.head_dim
    yield f"{prefix}model.embed_tokens.weight", (VOCABULARY, hidden)
    for layer in range(checkpoint.layers):
        block = f"{prefix}model.layers.{layer}."
        yield f"{block}input_layernorm.weight", (hidden,)
        yield f"{block}self_attn.q_proj.weight", (queries, hidden)
        yield f"{block}self_attn.k_proj.weight", (keys, hidden)
        yield f"{block}self_attn.v_proj.weight", (keys, hidden)
        yield f"{block}self_attn.o_proj.weight", (hidden, queries)
        yield f"{block}post_attention_layernorm.weight", (hidden,)
        yield f"{block}mlp.gate_proj.weight", (inner, hidden)
        yield f"{block}mlp.up_proj.weight", (inner, hidden)
        yield f"{block}mlp.down_proj.weight", (hidden, inner)
    yield f"{prefix}model.norm.weight", (hidden,)
    if not checkpoint.tied:
        yield f"{prefix}lm_head.weight", (VOCABULARY, hidden)


def _vision_shapes(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    width, inner, tower = checkpoint.vision_hidden, 2 * checkpoint.vision_hidden, "vision_tower.vision_model."
    patches = (checkpoint.tile // checkpoint.patch) ** 2
    shapes: dict[str, tuple[int, ...]] = {
        f"{tower}embeddings.class_embedding": (width,),
        f"{tower}embeddings.patch_embedding.weight": (width, 3, checkpoint.patch, checkpoint.patch),
        f"{tower}embeddings.position_embedding.weight": (patches + 1, width),
        "image_newline": (checkpoint.hidden,),
    }
    linears = {"multi_modal_projector.linear_1": (checkpoint.hidden, width)}
    linears["multi_modal_projector.linear_2"] = (checkpoint.hidden, checkpoint.hidden)
    norms = [f"{tower}pre_layrnorm", f"{tower}post_layernorm"]
    for layer in range(checkpoint.vision_layers):
        block = f"{tower}encoder.layers.{layer}."
        norms += [f"{block}layer_norm1", f"{block}layer_norm2"]
        linears |= {f"{block}self_attn.{part}_proj": (width, width) for part in ("q", "k", "v", "out")}
        linears |= {f"{block}mlp.fc1": (inner, width), f"{block}mlp.fc2": (width, inner)}
    for name in norms:
        shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    for name, shape in linears.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return shapes


def _tensor(name: str, shape: tuple[int, ...], checkpoint: Checkpoint) -> torch.Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(f"{checkpoint.seed}:{name}".encode()))
    noise = torch.randn(shape, generator=generator)
    if name.endswith("norm.weight") or "layer_norm" in name or "layrnorm" in name:
        values = 0.02 * noise + (1.0 if name.endswith("weight") else 0.0)
    elif len(shape) == 1:
        values = 0.1 * noise
    elif "embed_tokens" in name:
        values = noise
    else:
        # Strong layers, so that the next token depends on more than the last one.
        values = 2.0 * noise / noise[0].numel() ** 0.5
    if name.endswith(("embed_tokens.weight", "lm_head.weight")):
        values[IMAGE_TOKEN] = 0  # a placeholder must never win: it has no meaning in a reply
    return values.to(getattr(torch, checkpoint.dtype))
