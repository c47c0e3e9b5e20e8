"""A wrapper that does harm on order from another process; installed as a wrapper of the name `chaos`.

Before each hook, and when it is made, which is when a model is loaded, it looks into the folder that the variable CHAOS
names for a file of the hook's name, or `load`, takes it away and does what is written in it: a name of `HARM`, or HOLD.
A prompt that holds the token POISON ("gold") kills the process that computes it. A decode takes STEP_SECONDS, so that
replies last long enough to be hurt.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from runtime import hookimpl
from runtime.backend import DecodeBatch, DecodeOutput, Limits, ModelSpec, PrefillBatch, PrefillOutput
from runtime.errors import DeviceLost
from runtime.wrappers import ENTRY_POINT_GROUP
from support.plugin import install_plugin
from support.processes import START_SECONDS, Server, serving

POISON = 742
STEP_SECONDS = 0.01
HOLD = "hold"
"""Wait until the test takes the file HELD away; until then it is there."""
HELD = "held"


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stop() -> None:
    """Every thread stops, the event loop's too, as under a debugger or a frozen container."""
    os.kill(os.getpid(), signal.SIGSTOP)


def hang() -> None:
    """The device never answers; the event loop goes on."""
    threading.Event().wait()


def fail() -> None:
    raise RuntimeError("told to fail")


def run_out_of_memory() -> None:
    raise torch.OutOfMemoryError("told to fail")


def lose_the_device() -> None:
    raise DeviceLost("told to fail for good")


def leave() -> None:
    os._exit(3)


def pause() -> None:
    time.sleep(0.5)


HARM: dict[str, Callable[[], None]] = {
    "kill": kill,
    "abort": os.abort,
    "leave": leave,
    "stop": stop,
    "hang": hang,
    "fail": fail,
    "run out of memory": run_out_of_memory,
    "lose the device": lose_the_device,
    "pause": pause,
}
SPOILS = ("wrong shape", "no numbers")
"""What may be done to an answer."""


class Chaos:
    """Around any backend."""

    def __init__(self, model: ModelSpec, limits: Limits) -> None:  # every wrapper is made like this
        self._orders = Path(os.environ["CHAOS"])
        self._obeyed("load")

    @hookimpl(wrapper=True)
    def prefill(self, batch: PrefillBatch) -> Generator[None, PrefillOutput, PrefillOutput]:
        if bool((batch.tokens == POISON).any()):
            kill()
        order = self._obeyed("prefill")
        output = yield
        return replace(output, logits=_spoilt(output.logits, order))

    @hookimpl(wrapper=True)
    def decode(self, batch: DecodeBatch) -> Generator[None, DecodeOutput, DecodeOutput]:
        time.sleep(STEP_SECONDS)
        order = self._obeyed("decode")
        output = yield
        return replace(output, logits=_spoilt(output.logits, order))

    def _obeyed(self, hook: str) -> str:
        """Take an order, if there is one, and do the harm; return it."""
        try:
            order = (self._orders / hook).read_text()
            (self._orders / hook).unlink()
        except FileNotFoundError:
            return ""
        if order == HOLD:
            (self._orders / HELD).touch()
            while (self._orders / HELD).exists():
                time.sleep(STEP_SECONDS)
        elif order in HARM:
            HARM[order]()
        return order


def _spoilt(logits: torch.Tensor, order: str) -> torch.Tensor:
    match order:
        case "wrong shape":
            return logits[:, :-1]
        case "no numbers":
            return torch.full_like(logits, torch.nan)
    return logits


@dataclass(frozen=True)
class Hurt:
    """A server with this wrapper, and where its worker looks for orders."""

    server: Server
    orders: Path

    def order(self, hook: str, harm: str) -> None:
        """Have the next call of a hook do harm; written at once, so that half an order is never read."""
        assert harm in HARM or harm in SPOILS or harm == HOLD
        written = self.orders / f"{hook}.new"
        written.write_text(harm)
        written.rename(self.orders / hook)

    async def held(self) -> None:
        """Wait until the worker is where it was told to hold."""
        deadline = time.monotonic() + START_SECONDS
        while not (self.orders / HELD).exists():
            assert time.monotonic() < deadline
            await asyncio.sleep(STEP_SECONDS)

    def let_go(self) -> None:
        """Have the worker go on, if it is held."""
        (self.orders / HELD).unlink(missing_ok=True)


def chaos_around(folder: Path) -> tuple[Path, Path]:
    """Install the wrapper below a folder; return what goes on the path of imports, and the folder for orders."""
    orders = folder / "orders"
    orders.mkdir()
    return install_plugin(folder / "wrappers", "chaos", "support.chaos:Chaos", group=ENTRY_POINT_GROUP), orders


@contextmanager
def hurting(folder: Path, *arguments: str, plugins: Sequence[Path] = ()) -> Iterator[Hurt]:
    """A server that is ready, with the wrapper around the backend that `arguments` names; files go below `folder`."""
    wrapper, orders = chaos_around(folder)
    command = ["--model-id", "demo", "--wrap", "chaos", *arguments]
    with serving(*command, folders=[wrapper, *plugins], variables={"CHAOS": str(orders)}) as server:
        yield Hurt(server, orders)
