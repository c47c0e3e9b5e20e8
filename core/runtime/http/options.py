"""What an operator decides about the HTTP API."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """Limits and switches of the routes; defaults are TGI's."""

    payload_limit: int
    """Size of one request's body, bytes."""
    api_key: str | None = None
    """What `Authorization: Bearer KEY` must hold; None lets everybody in."""
    cors_allow_origins: tuple[str, ...] = ()
    """Origins whose pages may call; empty lets all."""
    max_best_of: int = 2
    max_client_batch_size: int = 4
    """Replies one request may ask for: prompts times `n`."""
    max_stop_sequences: int = 4
    max_top_n_tokens: int = 5
    """Candidates told with each token on TGI's routes."""
    messages_api_enabled: bool = False
    """Whether /invocations takes conversations, as on SageMaker, rather than prompts."""
    compute_type: str | None = None
    """Value of the header x-compute-type; None tells the kind of device."""
