"""The defaults that complete a config file."""

from __future__ import annotations

import json
from typing import Any

import pytest
import transformers
from runtime.model.section import DEFAULTS
from transformers.models.llava_next import image_processing_llava_next


@pytest.mark.parametrize(
    ("kind", "installed"),
    [
        ("llava_next", transformers.LlavaNextConfig()),
        ("mistral", transformers.MistralConfig()),
        ("llama", transformers.LlamaConfig()),
        ("clip_vision_model", transformers.CLIPVisionConfig()),
    ],
)
def test_defaults_are_those_of_transformers(kind: str, installed: Any) -> None:
    """The table is part of the file format, so it must agree with the classes that write the files."""
    assert {key: getattr(installed, key) for key in DEFAULTS[kind]} == dict(DEFAULTS[kind])


def test_image_processor_defaults_are_those_of_transformers() -> None:
    """Compared with what an image processor without arguments would write to its file."""
    name = "LlavaNextImageProcessorPil"  # transformers 5; in 4 the class without a suffix is the Pillow one
    kind = getattr(transformers, name, None) or image_processing_llava_next.LlavaNextImageProcessor
    installed = json.loads(kind().to_json_string())
    table = DEFAULTS["llava_next_image_processor"]
    assert {key: installed[key] for key in table} == dict(table)
