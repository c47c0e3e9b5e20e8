"""The demo model and its pictures: a real LLaVA-NeXT-Mistral of 2.9 million parameters, so all can be tried offline.

The model was trained on drawings of coloured shapes only and knows nothing about photographs. docs/demo-model.md says
what it can be asked and how often it is right.
"""

from __future__ import annotations

from pathlib import Path

MODEL = Path(__file__).parent / "model"
"""Folder of the checkpoint, in the layout of llava-hf/llava-v1.6-mistral-7b-hf."""

PICTURES = Path(__file__).parent / "pictures"
"""Folder of sample pictures; `pictures.json` in it gives each a question and the right answer."""
