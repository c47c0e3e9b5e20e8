"""The oracle in a process of its own, for tests of a backend that changes transformers under everything in its process.

Tensors go back and forth pickled, for what torch does instead needs both processes to see the same memory.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import torch
from runtime.backend import (
    DecodeBatch,
    DecodeOutput,
    Limits,
    ModelSpec,
    Placement,
    PrefillBatch,
    PrefillOutput,
    Prefix,
)
from support import processes


class OracleApart:
    """The hooks of the oracle, for one prefill at a time."""

    def __init__(self, model: ModelSpec, limits: Limits) -> None:
        self._connection, theirs = Pipe()
        command = [sys.executable, "-m", "support.oracle_apart", str(theirs.fileno())]
        self._process = subprocess.Popen(command, env=processes.environment(), pass_fds=[theirs.fileno()])
        theirs.close()
        self._ask("load", model, limits)

    def prefill(self, batch: PrefillBatch) -> PrefillOutput:
        return PrefillOutput(self._ask("prefill", batch), Prefix(None))

    def concatenate(self, prefix: Prefix[None], placements: Sequence[Placement]) -> None:
        self._ask("concatenate", placements)

    def decode(self, batch: DecodeBatch) -> DecodeOutput:
        return DecodeOutput(self._ask("decode", batch))

    def release(self, slots: Sequence[int]) -> None:
        self._ask("release", slots)

    def stages(self, batch: PrefillBatch, layers: bool) -> Mapping[str, torch.Tensor]:
        found: Mapping[str, torch.Tensor] = self._ask("stages", batch, layers)
        return found

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.wait(processes.END_SECONDS)

    def _ask(self, *question: Any) -> Any:
        self._connection.send_bytes(pickle.dumps(question))
        return pickle.loads(self._connection.recv_bytes())


class _Answers:
    """What the process does when it is asked."""

    oracle: Any
    prefix: Prefix[Any]

    def load(self, model: ModelSpec, limits: Limits) -> None:
        from runtime_cpu_reference.backend import CpuReference

        torch.set_num_threads(1)
        self.oracle = CpuReference(model, limits)

    def prefill(self, batch: PrefillBatch) -> torch.Tensor:
        output = self.oracle.prefill(batch)
        self.prefix = output.prefix
        logits: torch.Tensor = output.logits
        return logits

    def concatenate(self, placements: Sequence[Placement]) -> None:
        self.oracle.concatenate(self.prefix, placements)

    def decode(self, batch: DecodeBatch) -> torch.Tensor:
        logits: torch.Tensor = self.oracle.decode(batch).logits
        return logits

    def release(self, slots: Sequence[int]) -> None:
        self.oracle.release(slots)

    def stages(self, batch: PrefillBatch, layers: bool) -> Mapping[str, torch.Tensor]:
        found: Mapping[str, torch.Tensor] = self.oracle.stages(batch, layers)
        return found


def main(descriptor: int) -> None:
    """Answer until the other side closes."""
    connection, answers = Connection(descriptor), _Answers()
    while True:
        try:
            name, *arguments = pickle.loads(connection.recv_bytes())
        except EOFError:
            return
        connection.send_bytes(pickle.dumps(getattr(answers, name)(*arguments)))


if __name__ == "__main__":
    main(int(sys.argv[1]))
