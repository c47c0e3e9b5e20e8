"""A tiny text decoder in plain torch: root mean square norm, rotary embedding, grouped heads, a cache of fixed size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

VOCABULARY: Final = 64
WIDTH: Final = 32
HEADS: Final = 4
KEY_HEADS: Final = 2
HEAD_WIDTH: Final = WIDTH // HEADS
LAYERS: Final = 2
ROWS: Final = 4
LENGTH: Final = 16


class Norm(nn.Module):
    """Root mean square norm."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-5)
        normed: Tensor = self.weight * (wide * scale).to(x.dtype)
        return normed


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotate the halves of each head."""
    first, second = x.chunk(2, -1)
    return x * cosine + torch.cat((-second, first), -1) * sine


class Layer(nn.Module):
    """Attention over the cache, and an MLP."""

    keys: Tensor
    values: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList((Norm(), Norm()))
        self.query, self.out = nn.Linear(WIDTH, WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.key, self.value = (nn.Linear(WIDTH, KEY_HEADS * HEAD_WIDTH, bias=False) for _ in range(2))
        self.gate, self.up = (nn.Linear(WIDTH, 2 * WIDTH, bias=False) for _ in range(2))
        self.down = nn.Linear(2 * WIDTH, WIDTH, bias=False)
        for name in ("keys", "values"):
            self.register_buffer(name, torch.zeros(ROWS * LENGTH, KEY_HEADS, HEAD_WIDTH))

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor, slots: Tensor, mask: Tensor) -> Tensor:
        batch, length, _ = x.shape
        normed = self.norms[0](x)
        query = rotate(self.query(normed).view(batch, length, HEADS, HEAD_WIDTH), cosine, sine).transpose(1, 2)
        key = rotate(self.key(normed).view(batch, length, KEY_HEADS, HEAD_WIDTH), cosine, sine)
        self.keys.index_copy_(0, slots, key.reshape(batch * length, KEY_HEADS, HEAD_WIDTH))
        self.values.index_copy_(0, slots, self.value(normed).view(batch * length, KEY_HEADS, HEAD_WIDTH))
        keys, values = (
            cache.narrow(0, 0, batch * LENGTH).view(batch, LENGTH, KEY_HEADS, HEAD_WIDTH).transpose(1, 2)
            for cache in (self.keys, self.values)
        )
        found = functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask, enable_gqa=True)
        x = x + self.out(found.transpose(1, 2).reshape(batch, length, -1))
        normed = self.norms[1](x)
        result: Tensor = x + self.down(functional.silu(self.gate(normed)) * self.up(normed))
        return result


class Decoder(nn.Module):
    """Ids and positions (batch, length) and slots (batch * length,) of the cache to last logits and greedy ids."""

    cosine: Tensor
    sine: Tensor
    places: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Embedding(VOCABULARY, WIDTH), Norm()
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        frequencies = 1e4 ** (-torch.arange(0, HEAD_WIDTH, 2).float() / HEAD_WIDTH)
        angles = torch.outer(torch.arange(LENGTH).float(), frequencies).repeat(1, 2)
        self.register_buffer("cosine", angles.cos())
        self.register_buffer("sine", angles.sin())
        self.register_buffer("places", torch.arange(LENGTH))

    def forward(self, ids: Tensor, positions: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        x = self.embed(ids)
        cosine, sine = (
            table.index_select(0, positions.reshape(-1)).view(*positions.shape, 1, -1)
            for table in (self.cosine, self.sine)
        )
        seen = self.places[None, None, None, :] <= positions[:, None, :, None]
        mask = torch.zeros_like(seen, dtype=x.dtype).masked_fill(~seen, -1e4)
        for layer in self.layers:
            x = layer(x, cosine, sine, slots, mask)
        logits = self.head(self.norm(x[:, -1]))
        return logits, logits.argmax(-1)


def generate(model: Callable[..., Any], prompt: Tensor, steps: int, device: str) -> tuple[Tensor, Tensor]:
    """Greedy ids (steps + 1, batch) and logits on the host; on the way ids stay on the device."""
    batch, length = prompt.shape
    first_slots = torch.arange(batch)[:, None] * LENGTH
    positions = torch.arange(length).expand(batch, length).contiguous()
    ids, found = prompt.to(device), []
    for end in range(length, length + steps + 1):
        logits, chosen = model(ids, positions.to(device), (first_slots + positions).reshape(-1).to(device))
        found.append((chosen.clone(), logits.clone()))  # a graph overwrites its outputs, and its first inputs
        ids, positions = chosen.view(batch, 1).clone(), torch.full((batch, 1), end)
    return torch.stack([ids for ids, _ in found]).cpu(), torch.stack([logits for _, logits in found]).cpu()
