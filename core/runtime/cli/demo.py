"""`runtime demo`: fresh pictures for the bundled demo model."""

from __future__ import annotations

import io
import secrets
import shlex
from pathlib import Path

import click

SEEDS = 1 << 31


@click.group()
def demo() -> None:
    """Try the bundled demo model."""


@demo.command()
@click.argument("out", default="picture.png", type=click.Path(path_type=Path))
@click.option("--seed", type=click.IntRange(0, SEEDS - 1), help="Draw the same picture again.  [default: random]")
def picture(out: Path, seed: int | None) -> None:
    """Draw a picture the demo model has not seen, and say what is in it and what to ask.

    OUT is the PNG file to write; a file of that name is replaced.
    """
    # Imported late: numpy takes a tenth of a second that no other command should wait for.
    from runtime.demo.drawing import draw
    from runtime.demo.questions import reliable_questions
    from runtime.demo.scene import scene_of_seed

    if out.suffix.lower() != ".png":
        raise click.ClickException(f"cannot write {out}: the picture is a PNG, so give a name that ends in .png")
    seed = secrets.randbelow(SEEDS) if seed is None else seed
    scene = scene_of_seed(seed)
    png = io.BytesIO()
    draw(scene).save(png, format="PNG", optimize=True)
    try:
        out.write_bytes(png.getvalue())
    except OSError as error:
        raise click.ClickException(f"cannot write {out}: {error.strerror}") from error

    questions = reliable_questions(scene)
    click.echo(f"{out}: {scene.width} x {scene.height} pixels, seed {seed}\n")
    click.echo("Questions the demo model is good at, and the right answers:")
    for question in questions:
        click.echo(f"  {question.text}\n    {question.answer}")
    click.echo("\nWith `runtime serve` running, ask:")
    click.echo(f'  runtime ask --image {shlex.quote(str(out))} "{questions[0].text}"')
