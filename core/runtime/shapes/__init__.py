"""Every shape that can occur, known before the first request: for accelerators that record a graph for each. Pure."""

from runtime.shapes.ladders import Ladders
from runtime.shapes.lookup import PlannedShapes
from runtime.shapes.planner import plan_shapes
from runtime.shapes.subplan import subplan

__all__ = ["Ladders", "PlannedShapes", "plan_shapes", "subplan"]
