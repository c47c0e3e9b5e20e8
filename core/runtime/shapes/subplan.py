"""What is left of a plan when its backend affords fewer rows than it was made for. Pure."""

from __future__ import annotations

from runtime.backend import ShapePlan


def subplan(plan: ShapePlan, rows: int) -> ShapePlan:
    """Return the shapes that batches of so many slots are padded to, all of them of the plan.

    So what was warmed stays warm; a new plan might round rows differently. Decode steps are over the slots themselves
    and may not exceed them, while a prefill may be padded to more rows than there are.
    """
    enough: dict[tuple[int, int], int] = {}
    for shape in plan.prefill:
        if shape.rows >= rows:
            key = (shape.length, shape.cached)
            enough[key] = min(shape.rows, enough.get(key, shape.rows))
    return ShapePlan(
        prefill=tuple(each for each in plan.prefill if each.rows <= enough.get((each.length, each.cached), each.rows)),
        decode=tuple(each for each in plan.decode if each.rows <= rows),
        vision=plan.vision,
    )
