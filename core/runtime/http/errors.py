"""Errors that only HTTP has."""

from __future__ import annotations

from runtime.errors import InvalidRequest, RuntimeServiceError


class MalformedBody(InvalidRequest):
    """The body is not JSON."""

    http_status = 400
    openai_code = "invalid_json"


class RefusedAtTheDoor(RuntimeServiceError):
    """No route has read the request."""

    error_type = "validation"
    openai_type = "invalid_request_error"


class Unauthorized(RefusedAtTheDoor):
    """The API key is missing or wrong."""

    http_status = 401
    error_type = "unauthorized"
    openai_type = "authentication_error"
    openai_code = "invalid_api_key"


class UnknownRoute(RefusedAtTheDoor):
    """There is nothing at this path."""

    http_status = 404
    openai_code = "unknown_url"


class UnknownModel(RefusedAtTheDoor):
    """Another model is served."""

    http_status = 404
    openai_code = "model_not_found"
    field = "model"


class WrongMethod(RefusedAtTheDoor):
    """The path is there, for another method."""

    http_status = 405
    openai_code = "method_not_supported"


class MalformedRequest(RefusedAtTheDoor):
    """What came is no HTTP/1.1, or of a form that hides where a request ends."""

    http_status = 400
    openai_code = "invalid_request"


class TooSlow(RefusedAtTheDoor):
    """The request came too slowly."""

    http_status = 408
    openai_code = "request_timeout"


class AddressTooLong(RefusedAtTheDoor):
    """The path and its query are longer than any there is."""

    http_status = 414
    openai_code = "uri_too_long"


class HeadTooLarge(RefusedAtTheDoor):
    """The headers are too many or too long."""

    http_status = 431
    openai_code = "headers_too_large"


class TooManyConnections(RefusedAtTheDoor):
    """Every connection there may be has a request at work."""

    http_status = 503
    error_type = "overloaded"
    openai_type = "server_error"
    openai_code = "service_unavailable"
    retryable = True


class BodyTooLarge(RefusedAtTheDoor):
    """The body has more bytes than the operator allows."""

    http_status = 413
    openai_code = "request_too_large"


class ClientGone(RuntimeServiceError):
    """The client hung up: nobody reads this."""

    http_status = 499  # what nginx logs
