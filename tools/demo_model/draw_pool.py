"""Step 2: draw a pool of training pictures. Usage: draw_pool.py [--crowded] PICTURES SEED FOLDER"""

from __future__ import annotations

from pathlib import Path

import click
from pool import draw_pool, save_pool


@click.command()
@click.argument("pictures", type=click.IntRange(1))
@click.argument("seed", type=int)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--crowded", is_flag=True, help="Put a shape in every cell; for the tower only.")
def main(pictures: int, seed: int, folder: Path, *, crowded: bool) -> None:
    """Draw PICTURES random pictures into FOLDER."""
    save_pool(draw_pool(pictures, seed, crowded=crowded), folder)


if __name__ == "__main__":
    main()
