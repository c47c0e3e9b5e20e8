"""Knobs: what is served, and on what."""

from __future__ import annotations

from typing import Final

from runtime.knobs.knob import WORKER, Knob

AUTO: Final = "auto"
"""The backend that is preferred on this machine."""

MODEL: Final = (
    Knob(
        "model_id",
        "MODEL_ID",
        str,
        None,
        "Model folder, or id of a model on the Hugging Face hub, or `demo` for the bundled model.",
        WORKER,
        required=True,
    ),
    Knob("revision", "REVISION", str, None, "Branch, tag or commit on the hub; `main` by default.", WORKER),
    Knob(
        "huggingface_hub_cache",
        "HUGGINGFACE_HUB_CACHE",
        str,
        None,
        "Folder of fetched models; by default what HF_HUB_CACHE or HF_HOME say, else /data where it can be written, "
        "else ~/.cache/huggingface/hub.",
        WORKER,
    ),
    Knob(
        "backend",
        "RUNTIME_BACKEND",
        str,
        AUTO,
        "Backend; see `runtime backends`. `auto` takes the best that this machine can run.",
        WORKER,
    ),
    Knob(
        "wrap",
        "RUNTIME_WRAP",
        str,
        (),
        "Installed wrapper that sees every call of the backend; see docs/plugins.md. May be repeated, the last is "
        "outermost; commas separate in the environment.",
        WORKER,
        repeatable=True,
    ),
)
