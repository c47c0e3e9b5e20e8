"""What a plan will take: memory of the device by the arithmetic of the model, and time at a measured rate. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from runtime.backend import Limits, ModelSpec, PrefillShape, ShapePlan, VisionShape
from runtime.geometry import base_count
from runtime.shapes.weights import parameters_of

BYTES: Final = {"bfloat16": 2, "float16": 2, "float32": 4}
LOGIT_BYTES: Final = 4
"""Tokens are chosen in float32."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Bytes on the device, in the dtype of the checkpoint, but for what the vendor's libraries and graphs keep."""

    parameters: int
    """Numbers in the weights."""
    weights: int
    kv_per_token: int
    kv_per_row: int
    """Of one slot, whose whole context is reserved."""
    kv: int
    """Of all slots."""
    activations: int
    """Of the largest shape, with the logits of one position per row; scores of attention are not kept."""
    graphs: int
    warmup_seconds: float | None
    """None without a measured rate."""

    @property
    def total(self) -> int:
        """What the device must have."""
        return self.weights + self.kv + self.activations


def forecast(model: ModelSpec, limits: Limits, plan: ShapePlan, seconds_per_shape: float | None = None) -> Forecast:
    """Add up what a plan takes; `seconds_per_shape` is what the warm-up of one shape took on average."""
    size = BYTES[model.dtype]
    parameters = parameters_of(model)
    kv_per_token = 2 * model.layers * model.kv_heads * model.decoder.head_dim * size
    prefill = max(
        (_prefill_values(shape, model) * size + _logits(shape.rows, model) for shape in plan.prefill), default=0
    )
    vision = max((_vision_values(shape, model) * size for shape in plan.vision), default=0)
    decode = max((_logits(shape.rows, model) for shape in plan.decode), default=0)
    graphs = len(plan.prefill) + len(plan.decode) + len(plan.vision)
    return Forecast(
        parameters=parameters,
        weights=parameters * size,
        kv_per_token=kv_per_token,
        kv_per_row=kv_per_token * limits.context,
        kv=kv_per_token * limits.context * limits.rows,
        activations=max(prefill, vision, decode),
        graphs=graphs,
        warmup_seconds=None if seconds_per_shape is None else graphs * seconds_per_shape,
    )


def _prefill_values(shape: PrefillShape, model: ModelSpec) -> int:
    """Count the values that live at once in a layer: the residual, its norm, and the wider of attention and MLP."""
    attention = (2 * model.heads + 2 * model.kv_heads) * model.decoder.head_dim  # q, k, v and the outcome
    mlp = 3 * model.decoder.mlp  # gate, up and their product
    return shape.rows * shape.length * (2 * model.hidden + max(attention, mlp))


def _vision_values(shape: VisionShape, model: ModelSpec) -> int:
    """Count the values that live at once in a layer of the tower; the projector, which comes after, takes less."""
    assert model.vision is not None
    assert model.images is not None
    widest = max(4 * model.vision.hidden, 2 * model.vision.mlp)
    return shape.tiles * (base_count(model.images) + 1) * (2 * model.vision.hidden + widest)


def _logits(rows: int, model: ModelSpec) -> int:
    return rows * model.vocabulary * LOGIT_BYTES
