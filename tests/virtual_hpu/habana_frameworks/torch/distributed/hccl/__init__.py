"""Ranks of a distributed run; collectives are not emulated."""

from __future__ import annotations

import os

_FROM_MPI = {
    "OMPI_COMM_WORLD_LOCAL_RANK": "LOCAL_RANK",
    "OMPI_COMM_WORLD_SIZE": "WORLD_SIZE",
    "OMPI_COMM_WORLD_RANK": "RANK",
}


def initialize_distributed_hpu(
    world_size: int | None = None, rank: int | None = None, local_rank: int | None = None
) -> tuple[int, int, int]:
    """World size, rank and local rank, as given or from the environment; 1, -1, -1 where nothing tells."""
    if world_size is not None and rank is not None and local_rank is not None:
        os.environ.update(WORLD_SIZE=str(world_size), RANK=str(rank), LOCAL_RANK=str(local_rank))
    elif all(name in os.environ for name in _FROM_MPI):
        for theirs, ours in _FROM_MPI.items():
            os.environ.setdefault(ours, os.environ[theirs])
    return int(os.getenv("WORLD_SIZE", 1)), int(os.getenv("RANK", -1)), int(os.getenv("LOCAL_RANK", -1))
