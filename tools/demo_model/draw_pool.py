"""Step 1: draw a pool of training pictures. Usage: draw_pool.py [--kind KIND] PICTURES SEED FOLDER"""

from __future__ import annotations

from pathlib import Path

import click
from pool import KINDS, draw_pool, save_pool


@click.command()
@click.argument("pictures", type=click.IntRange(1))
@click.argument("seed", type=int)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--kind",
    type=click.Choice(list(KINDS)),
    default="plain",
    show_default=True,
    help="All but plain are for the tower.",
)
def main(pictures: int, seed: int, folder: Path, kind: str) -> None:
    """Draw PICTURES random pictures into FOLDER."""
    save_pool(draw_pool(pictures, seed, kind), folder)


if __name__ == "__main__":
    main()
