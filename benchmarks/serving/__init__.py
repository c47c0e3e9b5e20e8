"""A whole server under load, in shares of what the machine can do: `python -m benchmarks.serving`."""
