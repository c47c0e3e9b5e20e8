"""What a plan will take."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from runtime import demo
from runtime.backend import ShapePlan
from runtime.model.reader import read_configs
from runtime.shapes.forecast import forecast
from runtime.shapes.weights import parameters_of
from safetensors import safe_open
from support.geometries import LLAVA
from support.plans import GUIDE_LIMITS, GUIDE_PLAN

GIB = 2**30


def numbers_in(folder: Path) -> int:
    """What a checkpoint holds."""
    with safe_open(folder / "model.safetensors", "pt") as weights:
        return sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118


def test_parameters_of_the_demo_model() -> None:
    """Those of its checkpoint."""
    assert parameters_of(read_configs(demo.MODEL)) == numbers_in(demo.MODEL)


def test_parameters_of_llava() -> None:
    """As transformers counts them: 7.57 billion."""
    from transformers import CLIPVisionConfig, LlavaNextConfig, LlavaNextForConditionalGeneration, MistralConfig

    text = MistralConfig(vocab_size=32064, num_hidden_layers=32, tie_word_embeddings=False)
    vision = CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=336,
        patch_size=14,
    )
    with torch.device("meta"):
        net = LlavaNextForConditionalGeneration(
            LlavaNextConfig(vision_config=vision, text_config=text, tie_word_embeddings=False)
        )
    assert parameters_of(LLAVA) == sum(parameter.numel() for parameter in net.parameters()) == 7_566_747_648


@pytest.mark.parametrize(
    ("kind", "tied", "biased"),
    [("Mistral", False, False), ("Mistral", True, False), ("Llama", False, True), ("Llama", True, True)],
)
def test_parameters_of_text_models(kind: str, tied: bool, biased: bool) -> None:
    """As transformers counts them, with heads that do not add up to the width."""
    import transformers

    biases = {"attention_bias": True, "mlp_bias": True} if biased else {}
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=50,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=3,
        head_dim=8,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
        **biases,
    )
    net = getattr(transformers, f"{kind}ForCausalLM")(config)
    decoder = replace(LLAVA.decoder, head_dim=8, mlp=40, tied=tied, attention_bias=biased, mlp_bias=biased)
    model = replace(
        LLAVA, layers=3, hidden=24, heads=4, kv_heads=2, vocabulary=50, decoder=decoder, vision=None, images=None
    )
    assert parameters_of(model) == sum(parameter.numel() for parameter in net.parameters())


def test_memory_of_the_guide() -> None:
    """By hand: 128 KiB a token, exactly 1 GiB a row of 8192, 4 rows; the MLP of 4 x 4096 tokens is the widest.

    16384 tokens x (2 x 4096 + 3 x 14336) values x 2 bytes = 1.5625 GiB, and 4 x 32064 logits of 4 bytes.
    """
    told = forecast(LLAVA, GUIDE_LIMITS, GUIDE_PLAN)
    assert told.kv_per_token == 128 * 2**10
    assert told.kv_per_row == GIB
    assert told.kv == 4 * GIB
    assert told.weights == 2 * 7_566_747_648
    assert told.activations == 1.5625 * GIB + 4 * 32064 * 4
    assert told.total == told.weights + told.kv + told.activations
    assert told.graphs == 128 + 24 + 3


def test_memory_follows_the_dtype() -> None:
    """Twice as much in float32."""
    half, full = (forecast(replace(LLAVA, dtype=dtype), GUIDE_LIMITS, GUIDE_PLAN) for dtype in ("float16", "float32"))
    assert (full.weights, full.kv) == (2 * half.weights, 2 * half.kv)


def test_time_needs_a_rate() -> None:
    """155 shapes of 2 seconds."""
    assert forecast(LLAVA, GUIDE_LIMITS, GUIDE_PLAN).warmup_seconds is None
    assert forecast(LLAVA, GUIDE_LIMITS, GUIDE_PLAN, 2.0).warmup_seconds == 310


def test_an_empty_plan_takes_weights_and_cache() -> None:
    """And nothing else is known."""
    told = forecast(LLAVA, GUIDE_LIMITS, ShapePlan())
    assert (told.activations, told.graphs) == (0, 0)
