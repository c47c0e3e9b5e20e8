"""The hooks of a backend of static shapes, for whatever device, kernels and way of running graphs it is given."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import ClassVar, Final

import torch

from runtime import hookimpl
from runtime.backend import (
    Capacity,
    DecodeBatch,
    DecodeOutput,
    DecodeShape,
    Limits,
    ModelSpec,
    Placement,
    PrefillBatch,
    PrefillOutput,
    PrefillShape,
    Prefix,
    Shape,
    ShapePlan,
    WarmupProgress,
)
from runtime.errors import BackendRefused, DeviceLost
from runtime.static.device import Device
from runtime.static.graphs import Call, GraphRunner, Graphs, Outputs
from runtime.static.indices import decode_indices, prefill_indices
from runtime.static.kernels import StaticKernels
from runtime.static.kv import CacheGeometry, KvCache
from runtime.static.model import LlavaNext
from runtime.static.picture_buffer import PictureBuffer
from runtime.static.rectangle import DecodeStep, RectangleAttention, ResumedStep, Step, WholeStep, mask_after
from runtime.static.warmup import empty_decode, empty_prefill, fewer_slots, largest_first, planned_slots
from runtime.static.weights import Weights

log = logging.getLogger(__name__)

GIB: Final = 2**30


class StaticBackend:
    """One loaded model; every batch comes padded to its shape.

    Logits are valid until the next batch of the same shape. No step reads anything back from the device, but for
    scores that it does not leave there.
    """

    weights: ClassVar[type[Weights]] = Weights
    """What reads them; a benchmark makes its own."""

    def __init__(
        self,
        model: ModelSpec,
        limits: Limits,
        dtype: torch.dtype,
        device: Device,
        kernels: StaticKernels,
        runner: GraphRunner,
        cache_bytes: int,
        graph_share: float = 0.0,
        strict: bool = False,
    ) -> None:
        """Load the weights in `dtype`, and reserve as many slots as the limits ask for and the memory holds.

        `cache_bytes` is the size of the cache of picture features, `graph_share` the part of the memory free then that
        is left for graphs; with `strict` an unknown shape after the warm-up is an error, for tests. Raises
        BackendRefused.
        """
        self._limits = limits
        self._graph_share = graph_share
        self._dtype = dtype
        self._device = device
        self._graphs = Graphs(runner, strict)
        self._attention = RectangleAttention(kernels)
        with self.weights(model.path, dtype, device.torch_device) as weights:
            self._model: LlavaNext[Step] = LlavaNext(
                model, weights, kernels, self._attention, limits.context, cache_bytes
            )
        self._pictures: PictureBuffer | None = None
        if model.images is not None and model.image_token_id is not None:
            empty = torch.empty(0, model.hidden, dtype=dtype, device=device.torch_device)
            self._pictures = PictureBuffer(self._model, model.images, model.image_token_id, self._graphs, empty)
        self._geometry = CacheGeometry.of(model, limits.context, dtype)
        self._slots = self._affordable()
        self._attention.cache = KvCache(self._geometry, self._slots, device.torch_device)

    @hookimpl
    @torch.inference_mode()
    def warmup(self, plan: ShapePlan, progress: Callable[[WarmupProgress], None]) -> None:
        """Prepare and run every shape, then let no other pass; with fewer slots where the memory does not suffice.

        Progress starts again from the first shape then. Raises BackendRefused when it does not suffice for any, and
        DeviceLost, as every step does.
        """
        self._slots = planned_slots(plan, self._slots)
        with self._relying():
            while self._slots and (what := self._too_large(plan, progress)) is not None:
                self._step_back(what, fewer_slots(plan, self._slots))
        if not self._slots:
            fewest = min((shape.rows for shape in plan.decode), default=1)
            raise BackendRefused(
                f"the memory does not suffice for the model and {fewest} rows of {self._limits.context} tokens; "
                "lower --max-total-tokens or --max-batch-prefill-tokens"
            )
        self._graphs.seal()

    @hookimpl
    @torch.inference_mode()
    def prefill(self, batch: PrefillBatch) -> PrefillOutput:
        """Compute prompts, or their rest; does not tell the log-probabilities of a prompt's own tokens."""
        with self._relying():
            self._lay_pictures(batch)
            (logits,) = self._graphs.run(self._prefill(batch))
            return PrefillOutput(logits=self._device.delivered(logits), prefix=Prefix(None))

    @hookimpl
    def concatenate(self, prefix: Prefix[None], placements: Sequence[Placement]) -> None:
        """Nothing moves: a prefill writes into the slots its rows have leased."""

    @hookimpl
    @torch.inference_mode()
    def decode(self, batch: DecodeBatch) -> DecodeOutput:
        with self._relying():
            (logits,) = self._graphs.run(self._decode(batch))
            return DecodeOutput(logits=self._device.delivered(logits))

    @hookimpl
    def release(self, slots: Sequence[int]) -> None:
        """Nothing is cleared: what a slot holds is masked until it is overwritten."""

    @hookimpl
    @torch.inference_mode()
    def stages(self, batch: PrefillBatch, layers: bool) -> Mapping[str, torch.Tensor]:
        """Compute outside of graphs what a prefill computes within, but for pictures on their way into the prompt."""
        with self._relying():
            self._lay_pictures(batch)
            indices, _ends = prefill_indices(batch, self._attention.cache)
            tokens, positions, places = indices.to(self._device.torch_device).unbind(0)
            embedded, outputs = self._embedded(tokens), list[torch.Tensor]()
            self._model.decoder.forward(
                embedded, positions, self._prefill_step(batch.shape, positions, places), outputs
            )
            is_real = torch.arange(batch.shape.length) < batch.lengths.unsqueeze(1)
            real = is_real.flatten().nonzero().flatten().to(self._device.torch_device)
            found = {"embeddings": embedded, "decoder": outputs[-1]}
            if layers:
                found |= {f"decoder.{index}": output for index, output in enumerate(outputs, start=1)}
            of_tokens = {name: tensor.index_select(0, real) for name, tensor in found.items()}
            return self._model.stages(batch.images, layers) | of_tokens

    @hookimpl
    def capacity(self) -> Capacity:
        return Capacity(rows=self._slots, context=self._limits.context, resumes=True)

    @hookimpl
    def stats(self) -> Mapping[str, float]:
        return {**self._model.stats(), **self._graphs.stats()}

    @contextmanager
    def _relying(self) -> Iterator[None]:
        """Make DeviceLost of an error after which the device cannot be relied on."""
        try:
            yield
        except RuntimeError as error:
            if not self._device.is_lost(error):
                raise
            raise DeviceLost("the device failed, and the worker is started anew; try again") from error

    def clear(self) -> None:
        """Forget every graph, with the memory they hold; each is prepared again when it is met."""
        self._graphs.clear()

    def _prefill(self, batch: PrefillBatch) -> Call:
        indices = prefill_indices(batch, self._attention.cache)
        return Call(batch.shape, partial(self._compute_prefill, batch.shape), indices)

    def _compute_prefill(
        self, shape: PrefillShape, indices: torch.Tensor, ends: torch.Tensor, *window: torch.Tensor
    ) -> Outputs:
        decoder = self._model.decoder
        tokens, positions, places = indices.unbind(0)
        step = self._prefill_step(shape, positions, places, *window)
        hidden = decoder.forward(self._embedded(tokens), positions, step)
        return (decoder.logits(hidden.index_select(0, ends)),)

    def _lay_pictures(self, batch: PrefillBatch) -> None:
        if self._pictures is not None:
            if not self._pictures.tokens:  # no warm-up has told how many are needed
                self._pictures.reserve(self._limits.prefill_rows * self._limits.prefill_tokens)
            self._pictures.fill(batch)

    def _embedded(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the vectors of tokens, int64 [tokens], those of laid pictures in the place of their placeholders."""
        hidden = self._model.decoder.embed(tokens)
        return hidden if self._pictures is None else self._pictures.merged(hidden, tokens)

    def _prefill_step(
        self, shape: PrefillShape, positions: torch.Tensor, places: torch.Tensor, window: torch.Tensor | None = None
    ) -> Step:
        if window is None:
            return WholeStep(shape.rows, places)
        mask = mask_after(positions.view(shape.rows, shape.length), len(window) // shape.rows, self._dtype)
        return ResumedStep(shape.rows, places, window, mask)

    def _decode(self, batch: DecodeBatch) -> Call:
        indices = decode_indices(batch, self._attention.cache)
        return Call(batch.shape, partial(self._compute_decode, batch.shape), (indices,))

    def _compute_decode(self, shape: DecodeShape, indices: torch.Tensor) -> Outputs:
        decoder = self._model.decoder
        tokens, positions, places = indices.unbind(0)
        mask = mask_after(positions.unsqueeze(1), shape.context, self._dtype)
        step = DecodeStep(shape.rows, shape.context, places, mask, (positions + 1).int())
        hidden = decoder.forward(decoder.embed(tokens), positions, step)
        return (decoder.logits(hidden),)

    def _too_large(self, plan: ShapePlan, progress: Callable[[WarmupProgress], None]) -> Shape | str | None:
        """Warm the shapes of a plan; return the first that the memory does not suffice for."""
        pictures = self._pictures
        if pictures is not None:
            tokens = max((shape.rows * shape.length for shape in plan.prefill), default=0)
            if not self._fits(lambda: pictures.reserve(tokens)):
                return f"a buffer for the pictures of {tokens} tokens"
        shapes = largest_first(plan, self._slots)
        for done, shape in enumerate(shapes, start=1):
            started = time.perf_counter()
            if not self._fits(partial(self._warm, shape)):
                return shape
            progress(WarmupProgress(done, len(shapes), shape, time.perf_counter() - started))
        return None

    def _fits(self, work: Callable[[], None]) -> bool:
        """Do something that takes memory; tell whether it sufficed."""
        try:
            work()
            self._device.synchronise()
        except RuntimeError as error:
            if not self._device.ran_out(error):
                raise
            return False
        memory = self._device.memory()
        return memory is None or memory.free > 0

    def _warm(self, shape: Shape) -> None:
        if isinstance(shape, PrefillShape):
            self._graphs.warm(self._prefill(empty_prefill(shape)))
        elif isinstance(shape, DecodeShape):
            self._graphs.warm(self._decode(empty_decode(shape)))
        elif self._pictures is not None:
            self._pictures.warm(shape)

    def _step_back(self, what: Shape | str, slots: int) -> None:
        """Begin again with fewer slots, 0 for none."""
        log.warning(
            "%s does not fit beside %s; going on with %s", what, self._arithmetic(self._slots), self._arithmetic(slots)
        )
        self._slots = slots
        self._graphs.clear()  # they hold the addresses of the cache
        del self._attention.cache
        self._attention.cache = KvCache(self._geometry, slots, self._device.torch_device)

    def _affordable(self) -> int:
        """Return how many slots fit into the memory that the weights have left, no more than the limit."""
        memory = self._device.memory()
        wanted, size = self._limits.rows, self._geometry.row_bytes
        slots = wanted if memory is None else min(wanted, int(memory.free * (1 - self._graph_share)) // size)
        if slots < 1:
            raise BackendRefused(
                f"the memory does not suffice for one row: {self._arithmetic(1)}; lower --max-total-tokens"
            )
        if slots < wanted:
            log.warning("%s do not fit; going on with %s", self._arithmetic(wanted), self._arithmetic(slots))
        return slots

    def _arithmetic(self, slots: int) -> str:
        geometry, memory = self._geometry, self._device.memory()
        kept = f", {self._graph_share:.0%} of it for graphs" if self._graph_share else ""
        left = "" if memory is None else f" ({memory.free / GIB:.2f} of {memory.total / GIB:.2f} GiB are free{kept})"
        size = f"{slots * geometry.row_bytes / GIB:.2f} GiB"
        return f"{slots} rows x {geometry.context} tokens x {geometry.token_bytes} bytes = {size}{left}"
