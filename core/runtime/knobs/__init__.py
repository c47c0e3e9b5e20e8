"""Every knob once: flag, environment name, type, default, meaning, who reads it. Imports nothing of ours."""

from runtime.knobs.knob import Knob, Reader, Value, flag_of
from runtime.knobs.model import AUTO
from runtime.knobs.shapes import SHAPES
from runtime.knobs.table import GROUPS, KNOBS

__all__ = ["AUTO", "GROUPS", "KNOBS", "SHAPES", "Knob", "Reader", "Value", "flag_of"]
