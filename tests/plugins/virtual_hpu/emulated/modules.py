"""Ordinary modules and functions on the virtual device give what they give on the CPU. Run by test_emulated.py."""

from __future__ import annotations

import copy
from collections.abc import Callable

import habana_frameworks.torch
import pytest
import torch
from support.tiny_decoder import Decoder, generate
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from virtual_device import counters

assert habana_frameworks.torch.__emulated__
DTYPES = [torch.float32, torch.bfloat16]
MODES = [torch.no_grad, torch.inference_mode]


def plain() -> nn.Sequential:
    """A module with parameters, buffers and an embedding."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.LayerNorm(4), nn.BatchNorm1d(4)).eval()


def test_modules_move_and_keep_their_parameters() -> None:
    """The objects stay the same, also when two names share one."""
    module = plain()
    module.add_module("tied", nn.Linear(4, 4))
    module.tied.weight = module[1].weight  # type: ignore[union-attr]
    weight = module[1].weight
    module.to("hpu")
    assert module[1].weight is weight
    assert module.tied.weight is weight  # type: ignore[union-attr]
    assert isinstance(weight, nn.Parameter)
    assert all(tensor.device.type == "hpu" for tensor in (*module.parameters(), *module.buffers()))


@pytest.mark.parametrize("mode", MODES)
def test_modules_compute_the_same(mode: Callable[[], torch.no_grad]) -> None:
    """In float32, cast on the device, copied there, and loaded from the host."""
    reference, ids = plain(), torch.tensor([[1, 2, 3, 4]])
    module = copy.deepcopy(reference).to("hpu")
    with mode():
        assert torch.equal(module(ids.to("hpu")).cpu(), reference(ids))
        module.to(torch.bfloat16), reference.to(torch.bfloat16)
        assert torch.equal(copy.deepcopy(module)(ids.to("hpu")).cpu(), reference(ids))
    module.load_state_dict(reference.state_dict())
    assert type(module.cpu()[1].weight) is nn.Parameter


def test_modules_are_made_there() -> None:
    """Under the device as context, and from meta."""
    with torch.device("meta"):
        assert nn.Linear(2, 2).to_empty(device="hpu").weight.device.type == "hpu"
    with torch.device("hpu"):
        assert nn.Linear(2, 2).weight.device.type == "hpu"


FUNCTIONS: list[Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = [
    lambda q, k, v, m: functional.scaled_dot_product_attention(q, k, v, attn_mask=m, enable_gqa=True),
    lambda q, k, v, m: functional.scaled_dot_product_attention(q, q, q, is_causal=True),
    lambda q, k, v, m: functional.layer_norm(q, (8,)),
    lambda q, k, v, m: functional.rms_norm(q, (8,)),
    lambda q, k, v, m: q.softmax(-1),
    lambda q, k, v, m: q @ q.transpose(-1, -2),
    lambda q, k, v, m: functional.silu(q).argmax(-1),
    lambda q, k, v, m: torch.cat(q.chunk(2, -1)),
    lambda q, k, v, m: functional.gelu(q).topk(2).values,
    lambda q, k, v, m: functional.conv2d(q, q[:, :, :3, :3].contiguous()),
    lambda q, k, v, m: torch.einsum("bhqd,bhkd->bhqk", q, q),
    lambda q, k, v, m: q.cumsum(-1).sort(-1).values,
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions_are_bit_identical(
    function: Callable[..., Tensor], mode: Callable[[], torch.no_grad], dtype: torch.dtype
) -> None:
    """With the math back end of attention, which is the device's."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, heads, 5, 8, dtype=dtype) for heads in (4, 2, 2))
    mask = torch.zeros(5, 5, dtype=dtype).masked_fill(torch.ones(5, 5).triu(1) > 0, -1e4)
    with mode(), sdpa_kernel(SDPBackend.MATH):
        expected = function(q, k, v, mask)
        assert torch.equal(function(*(tensor.to("hpu") for tensor in (q, k, v, mask))).cpu(), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
def test_a_decoder_is_bit_identical(mode: Callable[[], torch.no_grad], dtype: torch.dtype) -> None:
    """Ids and logits of nine steps; nothing falls back to the CPU, and the host reads at the end only."""
    torch.manual_seed(0)
    reference, prompt = Decoder().to(dtype).eval(), torch.randint(0, 64, (2, 5))
    model = copy.deepcopy(reference).to("hpu")
    with mode(), sdpa_kernel(SDPBackend.MATH):
        ids, logits = generate(reference, prompt, 8, "cpu")
        before = counters.snapshot()
        found_ids, found_logits = generate(model, prompt, 8, "hpu")
        found = counters.snapshot() - before
    assert torch.equal(found_ids, ids)
    assert torch.equal(found_logits, logits)
    assert not found.cpu_fallbacks
    assert found.host_reads == 2
