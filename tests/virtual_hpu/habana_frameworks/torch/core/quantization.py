"""The set-up for inference; nothing of it shows in results, so nothing is done."""

from __future__ import annotations

from typing import Any

from virtual_device.release import RELEASE

__all__ = [
    "hpu_inference_initialize",
    "hpu_initialize",
    "hpu_reset_env",
    "hpu_set_env",
    "hpu_set_inference_env",
    "hpu_teardown_inference_env",
]


def hpu_set_env(model: Any = None) -> Any:
    """The vendor folds a convolution and the batch norm after it, and answers the model if one is given."""
    return model


def hpu_set_inference_env(model: Any = None) -> Any:
    """The newer name of hpu_set_env."""
    return model


def hpu_reset_env() -> None:
    """Undo hpu_set_env."""


def hpu_teardown_inference_env() -> None:
    """Undo hpu_set_inference_env."""


if RELEASE.name == "1.23":
    __all__ += ["hpu_inference_set_env"]

    def hpu_inference_set_env(model: Any = None) -> Any:
        """The newest name of hpu_set_env."""
        return model

    def hpu_initialize(
        model: Any = None,
        mark_only_scales_as_const: bool = False,
        mark_scales: bool = True,
        mark_non_scales: bool = True,
    ) -> None:
        """Mark parameters constant."""

    def hpu_inference_initialize(
        model: Any = None,
        mark_only_scales_as_const: bool = False,
        mark_scales: bool = True,
        mark_non_scales: bool = True,
    ) -> None:
        """Mark parameters constant."""

else:

    def hpu_initialize(  # type: ignore[misc]
        model: Any = None, mark_only_scales_as_const: bool = False, optimizer: Any = None, args: Any = None
    ) -> None:
        """Mark parameters constant."""

    def hpu_inference_initialize(  # type: ignore[misc]
        model: Any = None, mark_only_scales_as_const: bool = False, optimizer: Any = None, args: Any = None
    ) -> None:
        """Mark parameters constant."""
