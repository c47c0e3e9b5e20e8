"""A receipt whose every field tells something."""

from __future__ import annotations

from typing import Final

from runtime.receipt import DecodeUse, PrefillUse, PromptFacts, Receipt, ServerFacts, ShapesUsed, VisionUse

RECEIPT: Final = Receipt(
    server=ServerFacts(
        model_id="demo",
        model_digest="ab" * 32,
        weights_dtype="bfloat16",
        runtime="0.1.0",
        contract="1.1",
        backend="cpu",
        backend_version="0.2.0",
        device="cpu",
        details={"dtype": "bfloat16", "deterministic": "true"},
    ),
    prompt=PromptFacts(digest="cd" * 32, tokens=40, pictures=("ef" * 32,)),
    seed=2**64 - 1,
    parameters={"do_sample": True, "temperature": 0.5, "max_new_tokens": 4, "stop": ["."]},
    shapes=ShapesUsed(
        prefill=(PrefillUse(rows=1, length=40, cached=0, times=1),),
        decode=(DecodeUse(rows=2, least_context=41, context=43, times=3),),
        vision=(VisionUse(tiles=5, times=1),),
    ),
    tokens=(500, 501, 502, 2),
    finish_reason="eos_token",
)
