"""The geometry of the demo model, and the parts of its forward that training calls apart.

Written against transformers 5.23; serving the trained checkpoint needs none of this.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from runtime.demo.anyres import PATCH, PINPOINTS, TILE
from tiles import GRID, Pixels
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    MistralConfig,
    PreTrainedTokenizerBase,
)

HIDDEN = 128
"""Width of the tower, of the projector and of the language model."""

LAST_LAYER_NOISE = 1.0
"""Size of the weights of the tower's last layer, which is never trained.

The last layer of a real tower is far from the identity, and a server that takes it instead of the one before is far
off. An untrained layer as CLIP starts it would change nearly nothing.
"""

# Of CLIP, as every LLaVA processor has them.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def vision_config() -> CLIPVisionConfig:
    """Return the tower's configuration: seven layers of which LLaVA's feature layer -2 leaves the last unused.

    Attention is eager because the backward of SDPA took two to three times as long on the CPU it was trained on.
    """
    config = CLIPVisionConfig(
        hidden_size=HIDDEN,
        intermediate_size=512,
        num_hidden_layers=7,
        num_attention_heads=4,
        image_size=TILE,
        patch_size=PATCH,
        projection_dim=HIDDEN,
        hidden_act="quick_gelu",
        layer_norm_eps=1e-5,
        attention_dropout=0.0,
    )
    config._attn_implementation = "eager"
    return config


def model_config(tokenizer: PreTrainedTokenizerBase) -> LlavaNextConfig:
    """Return the whole model's configuration for a tokenizer that has `<image>`."""
    text = MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        intermediate_size=384,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        sliding_window=None,
        max_position_embeddings=2048,
        rms_norm_eps=1e-5,
        hidden_act="silu",
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    text.rope_theta = 10000.0
    image_token = tokenizer.convert_tokens_to_ids("<image>")
    assert isinstance(image_token, int)
    return LlavaNextConfig(
        vision_config=vision_config(),
        text_config=text,
        image_token_index=image_token,
        projector_hidden_act="gelu",
        vision_feature_select_strategy="default",
        vision_feature_layer=-2,
        image_grid_pinpoints=[list(pinpoint) for pinpoint in PINPOINTS],
        image_seq_length=GRID * GRID,
        tie_word_embeddings=False,
    )


def new_model(tokenizer: PreTrainedTokenizerBase) -> LlavaNextForConditionalGeneration:
    """Return an untrained model in float32."""
    return LlavaNextForConditionalGeneration(model_config(tokenizer))


def new_tower() -> CLIPVisionModel:
    """Return an untrained tower, started so that it learns shapes fast.

    CLIP's own start makes positions a hundredth as strong as patches. Here positions are two-dimensional sines and
    cosines of size one, and the patch filter sees little flat colour and more edges.
    """
    tower = CLIPVisionModel(vision_config())
    embeddings = inner_tower(tower).embeddings
    with torch.no_grad():
        embeddings.position_embedding.weight[1:] = _positions(HIDDEN)
        filters = torch.empty_like(embeddings.patch_embedding.weight).normal_(0, 0.05)
        filters -= 0.8 * filters.mean((2, 3), keepdim=True)
        embeddings.patch_embedding.weight.copy_(filters)
        *used, unused = inner_tower(tower).encoder.layers
        for layer in used:  # begins as nothing, so that a shallower tower can be gone on from
            for last in (layer.self_attn.out_proj, layer.mlp.fc2):
                last.weight.zero_()
        for last in (unused.self_attn.out_proj, unused.mlp.fc2):
            last.weight.normal_(0, LAST_LAYER_NOISE)
    return tower


def inner_tower(tower: torch.nn.Module) -> Any:
    """Return the module with the tower's layers, wherever this release of transformers keeps it."""
    return getattr(tower, "vision_model", tower)


def trained_parameters(tower: torch.nn.Module) -> list[torch.nn.Parameter]:
    """Return the tower's parameters that feature layer -2 depends on."""
    unused = f"layers.{len(inner_tower(tower).encoder.layers) - 1}."
    return [
        parameter for name, parameter in tower.named_parameters() if "post_layernorm" not in name and unused not in name
    ]


def normalised(tiles: Pixels) -> torch.Tensor:
    """Return tiles as the tower takes them: float32 [tiles, 3, TILE, TILE]."""
    pixels = torch.from_numpy(tiles.copy()).to(torch.get_default_device()).permute(0, 3, 1, 2).float().div_(255)
    return (pixels - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)


def vision_states(tower: torch.nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Return hidden_states[-2], [tiles, 1 + patches, HIDDEN]; the last layer is not computed."""
    inner = inner_tower(tower)
    hidden = inner.pre_layrnorm(inner.embeddings(pixels))  # transformers spells it so
    for layer in list(inner.encoder.layers)[:-1]:
        hidden = layer(hidden, None)
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
    states: torch.Tensor = hidden
    return states


def _positions(width: int) -> torch.Tensor:
    """Return sine and cosine positions of a tile's patches: float32 [patches, width], cpu."""
    frequencies = torch.exp(torch.linspace(math.log(math.pi / GRID), math.log(math.pi), width // 4))
    phases = torch.arange(GRID).float()[:, None] * frequencies
    axis = torch.cat([phases.sin(), phases.cos()], 1)
    down, across = axis[:, None].expand(GRID, GRID, -1), axis[None].expand(GRID, GRID, -1)
    return torch.cat([down, across], -1).reshape(GRID * GRID, width)
