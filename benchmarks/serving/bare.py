"""The engine without a server: `python -m benchmarks.serving.bare BACKEND MODEL THREADS ROWS`.

Prompts are tokenized and pictures cut before the clock runs, and no text crosses a process: what is left is the
engine's loop and the backend.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runtime.backend import ModelSpec
from runtime.budgets import Demand
from runtime.config import Settings
from runtime.errors import RuntimeServiceError
from runtime.intake.limits import IntakeLimits
from runtime.local import LocalRuntime
from runtime.model import FoundModel, read_model
from runtime.prompt.builder import Prompt, PromptBuilder
from runtime.prompt.markdown import split_markdown
from runtime.prompt.tokenizer import Tokenizer
from runtime.row import Outcome, Row
from runtime.runtime import GenerateRequest, SamplingParameters, StoppingParameters
from runtime.sampling.stopping import StopRule
from runtime.serve.assembly import build_runtime

from benchmarks.serving.children import answer
from benchmarks.serving.figures import Reply
from benchmarks.serving.server import CONTEXT, backend_options
from benchmarks.serving.workloads import WORKLOADS


class BareEngine:
    """A loaded engine, and prompts for it. Lives on one event loop."""

    def __init__(self, runtime: LocalRuntime, model: ModelSpec) -> None:
        self.runtime = runtime
        tokenizer = Tokenizer.load(model.path, model.image_token_id)
        self._builder = PromptBuilder(model, tokenizer, None, IntakeLimits(), CONTEXT - 1)
        self._tokenizer = tokenizer
        self._keys = itertools.count()

    @classmethod
    async def load(cls, backend: str, path: Path, threads: int, rows: int) -> BareEngine:
        """Load the backend as the server does."""
        model = read_model(path)
        options = backend_options(backend, threads)
        limits = {"max_batch_size": rows, "max_total_tokens": CONTEXT}
        settings = Settings.of(options, model_id=str(path), backend=backend, ignore_eos=True, **limits)
        runtime = build_runtime(settings, FoundModel(model, None))
        await asyncio.wrap_future(runtime.engine.loaded)
        return cls(runtime, model)

    def prompts(self, inputs: Sequence[str]) -> list[Prompt]:
        """Tokenize, and cut pictures into tiles."""
        return [self._builder.build(GenerateRequest(parts=split_markdown(each))) for each in inputs]

    async def run(self, prompts: Sequence[Prompt], new_tokens: int) -> list[Reply]:
        """Submit all at once and wait for the last token."""
        asked = time.perf_counter()
        replies = [self._submit(prompt, new_tokens) for prompt in prompts]
        return [Reply(asked, await reply, len(prompt.tokens)) for reply, prompt in zip(replies, prompts, strict=True)]

    def _submit(self, prompt: Prompt, new_tokens: int) -> asyncio.Future[tuple[float, ...]]:
        """Return the times at which the tokens will have come."""
        reply: asyncio.Future[tuple[float, ...]] = asyncio.get_running_loop().create_future()
        times: list[float] = []

        def sink(outcome: Outcome) -> None:
            if isinstance(outcome, RuntimeServiceError):
                reply.set_exception(outcome)
                return
            times.extend(time.perf_counter() for _ in outcome.tokens)
            if outcome.completion is not None:
                reply.set_result(tuple(times))

        length, key = len(prompt.tokens), next(self._keys)
        row = Row(
            key=key,
            prompt=prompt.tokens,
            images=prompt.images,
            pictures=prompt.places,
            demand=Demand(length, length + new_tokens),
            sampling=SamplingParameters(),
            seed=key,
            stop_rule=StopRule.of(StoppingParameters(max_new_tokens=new_tokens), new_tokens, frozenset()),
            vocabulary=self._tokenizer,
            sink=sink,
        )
        self.runtime.engine.submit(row)
        return reply


def main() -> None:
    """Answer with the replies of a workload."""
    backend, path, threads, rows = sys.argv[1:]
    loop = asyncio.new_event_loop()
    engine = loop.run_until_complete(BareEngine.load(backend, Path(path), int(threads), int(rows)))

    def work(question: Mapping[str, Any]) -> list[dict[str, Any]]:
        prompts = engine.prompts(WORKLOADS[question["workload"]].inputs(question["seed"]))
        return [asdict(reply) for reply in loop.run_until_complete(engine.run(prompts, question["new_tokens"]))]

    answer(work)
    loop.run_until_complete(engine.runtime.aclose())


if __name__ == "__main__":
    main()
