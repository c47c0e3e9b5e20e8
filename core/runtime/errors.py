"""Every error that may reach a user: one hierarchy, with its code in each protocol.

Raised where the fact is known. The text is for the user: it names the value, the limit and the remedy, and holds
no library text, no path of the server and no address. Fields of a request stand in backticks by TGI's names, the one
at fault first, so that a front end with other names can put them in. Imports nothing of ours.
"""

from __future__ import annotations

import math
from typing import ClassVar, Final

RETRY_AFTER: Final = 5.0
"""Seconds after which to try again when nothing better is known."""
LONGEST_RETRY_AFTER: Final = 600


class RuntimeServiceError(Exception):
    """Root; a subclass says how the error looks in each protocol."""

    grpc_code: ClassVar[str] = "INTERNAL"
    """Name of the `grpc.StatusCode`."""
    http_status: ClassVar[int] = 500
    error_type: ClassVar[str] = "generation"
    """Value of `error_type` in the TGI error body."""
    openai_type: ClassVar[str] = "server_error"
    """Value of `type` in the error body of OpenAI."""
    openai_code: ClassVar[str] = "internal_error"
    """Value of `code` in the error body of OpenAI."""
    retryable: ClassVar[bool] = False
    """Whether the same request may succeed later."""
    field: ClassVar[str | None] = None
    """The field at fault, by TGI's name, when the text names none."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        """`retry_after`: seconds until the same request may succeed, where that is known."""
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after

    @property
    def retry_seconds(self) -> int | None:
        """What the caller is told in `Retry-After`, 1 to 600; None when trying again is no use."""
        if not self.retryable:
            return None
        seconds = RETRY_AFTER if self.retry_after is None else self.retry_after
        return math.ceil(min(max(seconds, 1), LONGEST_RETRY_AFTER))


class InvalidRequest(RuntimeServiceError):
    """A field of a request has a value that can never work."""

    grpc_code = "INVALID_ARGUMENT"
    http_status = 422
    error_type = "validation"
    openai_type = "invalid_request_error"
    openai_code = "invalid_value"


class ContextExceeded(InvalidRequest):
    """Prompt and reply take more tokens than the server has for one request."""

    openai_code = "context_length_exceeded"
    field = "inputs"


class TemplateError(InvalidRequest):
    """The model's chat template refuses the messages, or the model has none."""

    error_type = "template_error"
    openai_code = "template_error"
    field = "inputs"


class ImageRefused(InvalidRequest):
    """A picture cannot be used; the message names the picture by its place in the request, from 0."""

    openai_code = "invalid_image"
    field = "inputs"


class ImageUrlNotEnabled(ImageRefused):
    """A picture was given as an address, and this server does not fetch."""

    openai_code = "invalid_image_url"


class ImageNotFetched(ImageRefused):
    """A picture's address is one this server does not fetch from, or no picture came from it in time."""

    openai_code = "invalid_image_url"


class UnknownBatch(RuntimeServiceError):
    """A step operation names a batch that does not exist, or whose lease expired."""

    grpc_code = "NOT_FOUND"
    http_status = 404
    error_type = "validation"
    openai_type = "invalid_request_error"
    openai_code = "unknown_batch"


class Overloaded(RuntimeServiceError):
    """No room now: the queue or the slot table is full."""

    grpc_code = "RESOURCE_EXHAUSTED"
    http_status = 429
    error_type = "overloaded"
    openai_type = "rate_limit_error"
    openai_code = "rate_limit_exceeded"
    retryable = True


class NotReady(RuntimeServiceError):
    """The model is loading, or its worker is gone and being restarted."""

    grpc_code = "UNAVAILABLE"
    http_status = 503
    error_type = "unavailable"
    openai_code = "service_unavailable"
    retryable = True


class DeadlineExceeded(RuntimeServiceError):
    """The caller's time was over before the reply was whole."""

    grpc_code = "DEADLINE_EXCEEDED"
    http_status = 504
    openai_code = "deadline_exceeded"


class DeviceLost(NotReady):
    """The device failed and cannot be relied on any more: the worker ends, and is started anew."""


class BackendError(RuntimeServiceError):
    """A hook of the backend failed; this request is lost."""

    http_status = 424
    error_type = "generation"
    openai_code = "model_failed"


class BackendContractError(BackendError):
    """A backend broke the contract: misspelt hook, no answer, wrong shape, logits that are not numbers."""


class PromptChanged(RuntimeServiceError):
    """A reply that broke off cannot go on: its prompt is not what it was."""

    http_status = 409
    grpc_code = "ABORTED"
    openai_code = "prompt_changed"
    retryable = True


class Quarantined(BackendError):
    """A request failed its worker again and again, the last time beside no other suspect; it is not tried again."""

    openai_code = "request_quarantined"


class UnplannedShape(RuntimeServiceError):
    """A batch of a size that is not in the plan of shapes: a mistake of the server's."""


class StartupError(RuntimeServiceError):
    """The server cannot start: one line for the operator."""

    grpc_code = "FAILED_PRECONDITION"


class ModelRefused(StartupError):
    """The model folder is missing, broken or of a kind the runtime cannot serve."""


class WorkerFailed(StartupError):
    """The worker could not start, and has said why itself."""


class BackendRefused(StartupError):
    """The wanted backend does not exist, does not fit or is not available here."""


def error_named(name: str) -> type[RuntimeServiceError] | None:
    """Return the class of that name, for an error that came over the wire."""
    pending: list[type[RuntimeServiceError]] = [RuntimeServiceError]
    while pending:
        candidate = pending.pop()
        if candidate.__name__ == name:
            return candidate
        pending.extend(candidate.__subclasses__())
    return None
