"""The decoder against transformers' Mistral and Llama, in fp32."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from runtime.errors import BackendRefused
from runtime.model import read_model
from runtime.static.decoder import Decoder
from runtime.static.kernels import TorchKernels
from runtime.static.weights import Weights
from runtime_cpu_reference.net import load_net
from support.agreement import GEOMETRIES
from support.checkpoints import DEMO, Checkpoint, write_checkpoint

Rows = tuple[int, ...]
CONTEXT = 256


def attend(layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rows: Rows) -> torch.Tensor:
    """Causal attention of rows of these lengths, one behind the other, without a cache."""
    shared = query.shape[1] // key.shape[1]
    seen = []
    for q, k, v in zip(query.split(rows), key.split(rows), value.split(rows), strict=True):
        scores = torch.einsum("qhd,khd->hqk", q, k.repeat_interleave(shared, 1)) / q.shape[-1] ** 0.5
        scores += torch.full(scores.shape[1:], float("-inf")).triu(1)
        seen.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1), v.repeat_interleave(shared, 1)).flatten(1))
    return torch.cat(seen)


@torch.inference_mode()
def check(folder: Path) -> None:
    """Two rows of different lengths in one step: the scores of every token."""
    model = read_model(folder)
    with Weights(folder, torch.float32) as weights:
        decoder = Decoder(model, weights, TorchKernels(), attend, CONTEXT)
    lengths = (37, 120)
    tokens = torch.randint(3, 790, (sum(lengths),), generator=torch.Generator().manual_seed(0))
    positions = torch.cat([torch.arange(length) for length in lengths])
    found = decoder.logits(decoder.forward(decoder.embed(tokens), positions, lengths))
    net = load_net(model)
    wanted = torch.cat([net(input_ids=row.unsqueeze(0)).logits[0] for row in tokens.split(lengths)])
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=2e-4 * float(wanted.std()))


@pytest.mark.parametrize("name", GEOMETRIES)
def test_scores_are_transformers_(name: str, tmp_path: Path) -> None:
    """Grouped and single heads, wide ones, tied tables, Mistral and Llama, alone and in a vision model."""
    check(write_checkpoint(tmp_path, GEOMETRIES[name]))


def test_scores_of_the_bundled_model_are_transformers_() -> None:
    """Trained weights have other sizes than random ones."""
    check(DEMO)


def test_biases_are_transformers_(tmp_path: Path) -> None:
    """Of attention and MLP, which some models of Llama's shape have."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=802,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        attention_bias=True,
        mlp_bias=True,
        architectures=["LlamaForCausalLM"],
    )
    net: Any = transformers.LlamaForCausalLM(config)
    for parameter in net.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)
    net.save_pretrained(write_checkpoint(tmp_path, Checkpoint("LlamaForCausalLM", "llama")))
    check(tmp_path)


def test_what_would_be_computed_wrongly_is_refused(tmp_path: Path) -> None:
    """Positions that are scaled, and another activation."""
    model = read_model(write_checkpoint(tmp_path, Checkpoint("MistralForCausalLM")))
    for changes, told in (({"rope_scaling": "yarn"}, "'yarn'"), ({"activation": "relu"}, "'relu'")):
        other = replace(model, decoder=replace(model.decoder, **changes))
        with (
            Weights(tmp_path, torch.float32) as weights,
            pytest.raises(BackendRefused, match=f"{told}.*use cpu_reference"),
        ):
            Decoder(other, weights, TorchKernels(), attend, CONTEXT)
