"""The guide's command, and its plan."""

from __future__ import annotations

from typing import Final

from runtime.backend import Limits
from runtime.budgets import Budgets
from runtime.shapes import Ladders, plan_shapes
from support.geometries import LLAVA

GUIDE_LIMITS: Final = Limits(rows=4, context=8192, prefill_rows=4, prefill_tokens=4096)
GUIDE_BUDGETS: Final = Budgets(prefill_tokens=16384, total_tokens=32768)
"""--max-input-tokens 4096 --max-batch-prefill-tokens 16384 --max-total-tokens 8192 --max-batch-total-tokens 32768."""

GUIDE_PLAN: Final = plan_shapes(LLAVA, GUIDE_LIMITS, GUIDE_BUDGETS, Ladders.linear(128, 1, 1))
"""With PREFILL_BATCH_BUCKET_SIZE=1 and BATCH_BUCKET_SIZE=1."""
