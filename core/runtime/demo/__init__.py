"""The demo model and its pictures: a real LLaVA-NeXT-Mistral of 2.3 million parameters, so all can be tried offline.

The model was trained on drawings of coloured shapes only. It is good at captions, counting shapes, the background,
naming the shape of a colour, and reading one small number. It is close to guessing when a question names a shape
("What colour is the circle?", "Is there a star?"), and it knows nothing about photographs.
"""

from __future__ import annotations

from pathlib import Path

MODEL = Path(__file__).parent / "model"
"""Folder of the checkpoint, in the layout of llava-hf/llava-v1.6-mistral-7b-hf."""

PICTURES = Path(__file__).parent / "pictures"
"""Folder of sample pictures; `pictures.json` in it gives each a question and the right answer."""
