"""A task in a process of its own: one model at a time is in memory, and what it does to others ends with it."""

from __future__ import annotations

import multiprocessing
import signal
from multiprocessing.connection import Connection
from typing import Final

from runtime.errors import RuntimeServiceError, StartupError, error_named
from runtime.plugins import Hooks, backend_named, loaded
from runtime.verify.run import Outcome, Task, Tell, perform

END_SECONDS: Final = 30.0
"""After its answer, for a vendor's library to let go of its device."""


def perform_apart(task: Task, tell: Tell) -> Outcome:
    """Load the backend of a task in a new process and perform the task there.

    Raises what that raises, and StartupError when the process ends without an answer.
    """
    # Not forked: what this process has loaded would be there too, and threads would not.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(task, theirs), daemon=True)
    process.start()
    theirs.close()
    patience = 0.0
    try:
        while True:
            message = ours.recv()
            if isinstance(message, Outcome):
                patience = END_SECONDS
                return message
            if isinstance(message, str):
                tell(message)
            else:
                kind, text = message
                raise (error_named(kind) or StartupError)(text)
    except EOFError:
        process.join()
        raise StartupError(_ended(task, process.exitcode)) from None
    finally:
        ours.close()
        process.join(patience)
        if process.is_alive():
            process.kill()
            process.join()


def _serve(task: Task, connection: Connection) -> None:
    """Send names of cases, then the outcome, or the class and text of an error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    try:
        outcome = perform(task, load(task), connection.send)
        connection.send(outcome)
    except RuntimeServiceError as error:
        connection.send((type(error).__name__, error.message))


def load(task: Task) -> Hooks:
    """Load the backend of a task; raises BackendRefused."""
    return loaded(backend_named(task.backend), task.model, task.limits)


def _ended(task: Task, code: int | None) -> str:
    killed = code == -signal.SIGKILL
    why = "it was killed, as a system does that is short of memory" if killed else f"its exit status is {code}"
    return f"the process of {task.role.value} ended without an answer: {why}"
