"""transformers' `generate` on the same card: static cache, compiled where that works, scaled-dot-product attention."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.cuda.card import Card
from benchmarks.cuda.steps import Sizes

log = logging.getLogger(__name__)


class Generate:
    """The same geometry with random weights made on the device."""

    def __init__(self, card: Card, folder: Path, sizes: Sizes) -> None:
        self.card, self.sizes = card, sizes
        self.is_compiled = card.is_card
        config: Any = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        kind: Any = transformers.LlavaNextForConditionalGeneration
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16)
        try:
            with torch.device(card.torch_device):
                self.network = kind._from_config(config, attn_implementation="sdpa").eval()
        finally:
            torch.set_default_dtype(before)
        self.network.generation_config.eos_token_id = None  # every reply has its full length

    def decode(self, rows: int) -> float:
        """Seconds of a step: the difference of two replies, so that the prompt does not count."""
        few, many = max(2, self.sizes.steps // 4), self.sizes.steps
        taken = [min(self._reply(rows, self.sizes.context, tokens) for _ in range(2)) for tokens in (few, many)]
        return (taken[1] - taken[0]) / (many - few)

    def arrivals(self) -> float:
        """Tokens per second of requests that arrive one after the other; all that are there go as one full batch."""
        sizes = self.sizes
        self._reply(sizes.requests, sizes.prompt, sizes.reply)  # compiles
        started = time.perf_counter()
        done = 0
        while done < sizes.requests:
            now = time.perf_counter() - started
            arrived = sizes.requests if not sizes.gap else min(sizes.requests, 1 + int(now / sizes.gap))
            if arrived == done:
                time.sleep(done * sizes.gap - now)
                continue
            self._reply(sizes.requests, sizes.prompt, sizes.reply)  # another number of rows would be compiled anew
            done = arrived
        return sizes.requests * sizes.reply / (time.perf_counter() - started)

    def _reply(self, rows: int, prompt: int, tokens: int) -> float:
        ids = torch.ones(rows, prompt, dtype=torch.int64, device=self.card.torch_device)
        self.card.synchronise()
        started = time.perf_counter()
        try:
            self._generate(ids, tokens)
        except Exception as error:  # a compiler may raise anything
            if not self.is_compiled:
                raise
            log.warning("transformers goes on without compiling: %s", " ".join(str(error).split())[:300])
            self.is_compiled = False
            started = time.perf_counter()
            self._generate(ids, tokens)
        self.card.synchronise()
        return time.perf_counter() - started

    @torch.inference_mode()
    def _generate(self, ids: torch.Tensor, tokens: int) -> None:
        self.network.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            min_new_tokens=tokens,
            max_new_tokens=tokens,
            cache_implementation="static",
            disable_compile=not self.is_compiled,
        )
