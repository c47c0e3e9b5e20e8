"""A router of TGI, as far as its worker sees it: how it boots, what it sends, and how its batching task goes.

After the behaviour of backends/v3 (lib.rs, client/, backend.rs, queue.rs) of text-generation-inference 2.3 to 3.3 with
a worker that pads: a queue in order of arrival, a batch charged with rows x longest prompt + all new tokens.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from runtime.v3 import generate_pb2, generate_pb2_grpc

LIVENESS = 2**64 - 1
"""The id of the batch, and of its request, that asks whether the model answers."""
NEUTRAL = {"temperature": 1.0, "top_p": 1.0, "typical_p": 1.0, "repetition_penalty": 1.0}
"""What is sent when the client says nothing."""


@dataclass
class Entry:
    """A request in the router, and what came back for it."""

    request: generate_pb2.Request
    input_length: int
    generations: list[generate_pb2.Generation] = field(default_factory=list)
    hangs_up_after: float = math.inf
    """Tokens after which the client is gone."""

    @property
    def ids(self) -> list[int]:
        return [id for generation in self.generations for id in generation.tokens.ids]

    @property
    def text(self) -> str:
        assert self.generations[-1].HasField("generated_text")
        return self.generations[-1].generated_text.text

    @property
    def stopped(self) -> bool:
        return self.generations[-1].HasField("generated_text") or len(self.generations) >= self.hangs_up_after


class Router:
    """One batching task, which is run by hand: `run` returns when nothing is queued or running."""

    def __init__(
        self, max_input_tokens: int, max_total_tokens: int, max_batch_prefill_tokens: int, max_batch_size: int
    ) -> None:
        self.max_input_tokens = max_input_tokens
        self.max_total_tokens = max_total_tokens
        self.max_batch_prefill_tokens = max_batch_prefill_tokens
        self.max_batch_size = max_batch_size
        self.queue: deque[Entry] = deque()
        self.calls: list[tuple[str, int]] = []
        """Every step: (prefill, requests), (decode, batches), (filter, requests kept), (clear, id)."""
        self._requests, self._batches = 0, 0

    async def boot(self, socket: str) -> None:
        """Discover the shards behind a socket, and make the only one ready."""
        async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
            stub = generate_pb2_grpc.TextGenerationServiceStub(channel)
            urls = (await stub.ServiceDiscovery(generate_pb2.ServiceDiscoveryRequest())).urls
        (url,) = urls
        await self.take(grpc.aio.insecure_channel(f"unix:{url.removeprefix('unix://')}"))

    async def take(self, channel: grpc.aio.Channel) -> None:
        """Make the shard behind a channel ready."""
        self._channel = channel
        self.stub = generate_pb2_grpc.TextGenerationServiceStub(channel)
        await self.stub.ClearCache(generate_pb2.ClearCacheRequest())
        self.info = await self.stub.Info(generate_pb2.InfoRequest())
        assert self.info.requires_padding
        assert not self.info.HasField("window_size")
        self.capacity = await self.stub.Warmup(self._warmup())
        assert self.capacity.max_input_tokens == self.max_input_tokens
        assert self.capacity.max_total_tokens == self.max_total_tokens
        assert self.capacity.max_supported_total_tokens >= self.max_total_tokens

    async def close(self) -> None:
        await self._channel.close()

    async def is_alive(self) -> bool:
        """Ask for one token, as while no request has shown that the model works; then only ask for health."""
        request = generate_pb2.Request(
            id=LIVENESS,
            inputs="liveness",
            input_chunks=generate_pb2.Input(chunks=[generate_pb2.InputChunk(text="liveness")]),
            truncate=10,
            parameters=generate_pb2.NextTokenChooserParameters(**NEUTRAL),
            stopping_parameters=generate_pb2.StoppingCriteriaParameters(max_new_tokens=1),
            blocks=[0],
            slots=range(16),
        )
        batch = generate_pb2.Batch(id=LIVENESS, requests=[request], size=1, max_tokens=2, max_blocks=1)
        answer = await self.stub.Prefill(generate_pb2.PrefillRequest(batch=batch))
        await self.stub.Health(generate_pb2.HealthRequest())
        return len(answer.generations) == 1 and not answer.HasField("batch")

    def submit(
        self,
        *parts: str | bytes,
        max_new_tokens: int,
        input_length: int,
        hangs_up_after: float = math.inf,
        **fields: Any,
    ) -> Entry:
        """Queue a prompt of texts and pictures; `fields` are those of a Request."""
        chunks = [
            generate_pb2.InputChunk(text=part)
            if isinstance(part, str)
            else generate_pb2.InputChunk(image=generate_pb2.Image(data=part, mimetype="image/png"))
            for part in parts
        ]
        request = generate_pb2.Request(
            **{
                "id": self._requests,
                "inputs": "".join(part if isinstance(part, str) else "![](data:,)" for part in parts),
                "input_chunks": generate_pb2.Input(chunks=chunks),
                "truncate": self.max_input_tokens,
                "parameters": generate_pb2.NextTokenChooserParameters(seed=17, **NEUTRAL),
                "stopping_parameters": generate_pb2.StoppingCriteriaParameters(max_new_tokens=max_new_tokens),
                "add_special_tokens": True,
                **fields,
            }
        )
        self._requests += 1
        self.queue.append(Entry(request, input_length, hangs_up_after=hangs_up_after))
        return self.queue[-1]

    async def run(self, after_step: Callable[[int], None] = lambda _step: None) -> None:
        """Serve the queue; `after_step` hears the number of each decode and may submit more."""
        steps = 0
        budget = self.capacity.max_supported_total_tokens
        while taken := self._next_batch(self.max_batch_size, budget):
            entries, cached = await self._prefill(taken)
            while cached is not None:
                batches = [cached]
                room = max(0, budget - cached.max_tokens)
                if taken := self._next_batch(max(0, self.max_batch_size - cached.size), room):
                    newcomers, joining = await self._prefill(taken)
                    if joining is not None:
                        entries |= newcomers
                        batches.append(joining)
                self.calls.append(("decode", len(batches)))
                answer = await self.stub.Decode(generate_pb2.DecodeRequest(batches=batches))
                cached = await self._delivered(answer, entries)
                steps += 1
                after_step(steps)

    def _next_batch(self, max_size: int, budget: int) -> list[Entry]:
        taken: list[Entry] = []
        while self.queue and len(taken) < max_size:
            batch = [*taken, self.queue[0]]
            padded = len(batch) * max(entry.input_length for entry in batch)
            new = sum(entry.request.stopping_parameters.max_new_tokens for entry in batch)
            if padded > self.max_batch_prefill_tokens or padded + new > budget:
                break
            taken.append(self.queue.popleft())
        return taken

    async def _prefill(self, taken: list[Entry]) -> tuple[dict[int, Entry], generate_pb2.CachedBatch | None]:
        self.calls.append(("prefill", len(taken)))
        entries = {entry.request.id: entry for entry in taken}
        batch = generate_pb2.Batch(
            id=self._batches, requests=[entry.request for entry in taken], size=len(taken), max_tokens=1
        )
        self._batches += 1
        answer = await self.stub.Prefill(generate_pb2.PrefillRequest(batch=batch))
        return entries, await self._delivered(answer, entries)

    async def _delivered(
        self, answer: generate_pb2.PrefillResponse | generate_pb2.DecodeResponse, entries: dict[int, Entry]
    ) -> generate_pb2.CachedBatch | None:
        """Take in the tokens; then keep what still has a client, of which the worker may know more."""
        for generation in answer.generations:
            entry = entries[generation.request_id]
            entry.generations.append(generation)
            if entry.stopped:
                del entries[generation.request_id]
        if not answer.HasField("batch"):
            return None
        batch = answer.batch
        if batch.size == len(entries):
            return batch
        kept = [id for id in batch.request_ids if id in entries]
        if not kept:
            self.calls.append(("clear", batch.id))
            await self.stub.ClearCache(generate_pb2.ClearCacheRequest(id=batch.id))
            return None
        self.calls.append(("filter", len(kept)))
        message = generate_pb2.FilterBatchRequest(batch_id=batch.id, request_ids=kept)
        return (await self.stub.FilterBatch(message)).batch

    def _warmup(self) -> generate_pb2.WarmupRequest:
        """Prompts that fill a prefill; all have the id 0, and none has to be computed."""
        request = generate_pb2.Request(
            inputs="_test " * self.max_input_tokens,
            truncate=self.max_input_tokens,
            parameters=generate_pb2.NextTokenChooserParameters(
                temperature=0.9, top_k=10, top_p=0.9, typical_p=0.9, repetition_penalty=1.2, watermark=True
            ),
            stopping_parameters=generate_pb2.StoppingCriteriaParameters(
                max_new_tokens=self.max_total_tokens - self.max_input_tokens, ignore_eos_token=True
            ),
            prefill_logprobs=True,
            top_n_tokens=20,
            add_special_tokens=True,
        )
        count = min(self.max_batch_size, math.ceil(self.max_batch_prefill_tokens / self.max_input_tokens))
        return generate_pb2.WarmupRequest(
            batch=generate_pb2.Batch(requests=[request] * count, size=count, max_tokens=self.max_input_tokens),
            max_input_tokens=self.max_input_tokens,
            max_prefill_tokens=self.max_batch_prefill_tokens,
            max_total_tokens=self.max_total_tokens,
        )
