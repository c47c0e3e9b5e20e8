"""A serving runtime for vision-language models whose accelerators are plugins.

A backend plugin needs two names from here: `hookimpl`, and the types of `runtime.backend`.
"""

from runtime.hookspecs import hookimpl

__all__ = ["__version__", "hookimpl"]

__version__ = "0.1.0"
