"""transformers' `generate`, what most would begin with: `python -m benchmarks.serving.generate MODEL`.

bfloat16 and scaled-dot-product attention, all prompts in one batch; text only. A token's time is when the loop asks
whether to stop after it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers

from benchmarks.serving.children import answer
from benchmarks.serving.figures import Reply
from benchmarks.serving.workloads import WORKLOADS


class Clock(transformers.StoppingCriteria):
    """Never stops, and notes the time of each token."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, input_ids: torch.Tensor, *_others: Any, **_named: Any) -> torch.Tensor:
        self.times.append(time.perf_counter())
        return torch.zeros(len(input_ids), dtype=torch.bool)


def main() -> None:
    """Answer with the replies of a text workload."""
    path = Path(sys.argv[1])
    log: Any = transformers.utils.logging
    log.set_verbosity_error()
    log.disable_progress_bar()
    dtype = "torch_dtype" if transformers.__version__.startswith("4.") else "dtype"
    model: Any = transformers.LlavaNextForConditionalGeneration
    network = model.from_pretrained(
        path, **{dtype: torch.bfloat16}, attn_implementation="sdpa", local_files_only=True
    ).eval()
    tokenizer = tokenizers.Tokenizer.from_file(str(path / "tokenizer.json"))

    def work(question: Mapping[str, Any]) -> list[dict[str, Any]]:
        inputs = WORKLOADS[question["workload"]].inputs(question["seed"])
        clock = Clock()
        asked = time.perf_counter()
        ids = torch.tensor([encoding.ids for encoding in tokenizer.encode_batch(inputs)])
        with torch.inference_mode():
            network.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=question["new_tokens"],
                stopping_criteria=transformers.StoppingCriteriaList([clock]),
            )
        return [asdict(Reply(asked, tuple(clock.times), ids.shape[1]))] * len(ids)

    answer(work)


if __name__ == "__main__":
    main()
