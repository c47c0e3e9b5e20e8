"""Step 2: train the vision tower alone to say what every patch shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

import click
import numpy as np
import torch
from architecture import new_tower, normalised, trained_parameters, vision_states
from canary import canary_loss
from growth import grown
from label_head import label_accuracy, label_loss, new_label_head
from labels import OF_THE_PICTURE, Label
from optimizer import Group, Optimizer
from pool import Pool, load_pool
from state import OPTIMIZER, PATCH_HEAD, TOWER, Tensors, fill, load_states, part, save_state

KEPT_OUT = 200
"""Pictures, the last of the last pool, that accuracy is measured on."""

GREY_SHARE = 0.3
"""Of steps whose pictures are grey, so that shapes are not told by their colours."""


class TowerTraining:
    """The tower, its head and the pictures they learn from; a step depends on its number and on nothing else drawn."""

    def __init__(
        self, pools: Sequence[Pool], *, steps: int, rate: float, pictures_a_step: int = 16, kept_out: int = KEPT_OUT
    ) -> None:
        self.tower = new_tower()
        self.head = new_label_head()
        self._pools = pools
        pictures = [(number, picture) for number, pool in enumerate(pools) for picture in range(len(pool.scenes))]
        self._kept_out, self._pictures = pictures[-kept_out:], pictures[:-kept_out]
        self._size = pictures_a_step
        parameters = (*trained_parameters(self.tower), *self.head.parameters())
        self._optimizer = Optimizer([Group(parameters, rate, 0.05)], steps, falling=0.7)

    @property
    def done(self) -> int:
        """Steps taken so far."""
        return self._optimizer.done

    def step(self) -> float:
        """Learn from a few pictures and return the loss."""
        torch.manual_seed(self.done)
        rng = Random(f"tower {self.done}")
        pixels, labels = self._tensors(rng.sample(self._pictures, self._size))
        # Most tiles without a shape are left out: they teach little.
        worth = (labels[..., Label.SHAPE] > 0).any(1) | (torch.rand(len(pixels)) < 0.15)
        pixels, labels = pixels[worth], labels[worth]
        if rng.random() < 0.4:
            pixels = pixels + torch.randn_like(pixels) * 0.04
        grey = rng.random() < GREY_SHARE
        logits = self._logits(_grey(pixels) if grey else pixels)
        loss = label_loss(logits[:, 1:], labels, skip=(Label.COLOUR, Label.BACKGROUND) if grey else ())
        loss = loss + canary_loss(logits[:, 0])
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return loss.item()

    @torch.no_grad()
    def accuracy(self) -> dict[Label, float]:
        """Return the accuracy of every label on pictures that were kept out of training."""
        pixels, labels = self._tensors(self._kept_out)
        return label_accuracy(self._logits(pixels)[:, 1:], labels)

    def start_from(self, tensors: Tensors) -> None:
        """Take over a tower, and its head if it is there."""
        fill(self.tower, grown(tensors), TOWER)
        fill(self.head, tensors, PATCH_HEAD)

    def resume(self, tensors: Tensors) -> None:
        """Go on from what `save` wrote."""
        self.start_from(tensors)
        self._optimizer.restore(part(tensors, OPTIMIZER))

    def save(self, path: Path) -> None:
        """Write a state to go on from."""
        save_state(path, {TOWER: self.tower, PATCH_HEAD: self.head, OPTIMIZER: self._optimizer.tensors()})

    def _logits(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return what the head says of every token of every tile, the class token's first."""
        with torch.autocast(pixels.device.type, torch.bfloat16):
            logits: torch.Tensor = self.head(vision_states(self.tower, pixels))
        return logits

    def _tensors(self, pictures: Sequence[tuple[int, int]]) -> tuple[torch.Tensor, torch.Tensor]:
        tiles = [self._pools[pool].tiles_of(picture) for pool, picture in pictures]
        labels = [self._pools[pool].labels_of(picture).copy() for pool, picture in pictures]
        for of_picture in labels:
            of_picture[1:, :, OF_THE_PICTURE] = 0
        device = torch.get_default_device()
        return normalised(np.concatenate(tiles)), torch.from_numpy(np.concatenate(labels)).long().to(device)


def _grey(pixels: torch.Tensor) -> torch.Tensor:
    """Return all channels mixed into one by random weights, three times."""
    weights = torch.rand(3)
    mixed = (pixels * (weights / weights.sum()).view(1, 3, 1, 1)).sum(1, keepdim=True)
    return mixed.expand(-1, 3, -1, -1).contiguous()


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="State file; gone on from if there.")
@click.option("--start", multiple=True, type=click.Path(exists=True, path_type=Path), help="State or checkpoint.")
@click.option("--steps", required=True, type=click.IntRange(1))
@click.option("--rate", default=1.2e-3, show_default=True, help="Highest learning rate.")
@click.option("--pictures", default=16, show_default=True, help="A step.")
@click.option("--threads", default=1, show_default=True)
@click.option("--device", default="cpu", show_default=True)
def main(
    folders: tuple[Path, ...],
    out: Path,
    start: tuple[Path, ...],
    steps: int,
    rate: float,
    pictures: int,
    threads: int,
    device: str,
) -> None:
    """Train on the pools in FOLDERS."""
    torch.set_num_threads(threads)
    torch.set_default_device(device)
    torch.manual_seed(0)
    pools = [load_pool(folder) for folder in folders]
    training = TowerTraining(pools, steps=steps, rate=rate, pictures_a_step=pictures)
    if out.exists():
        training.resume(load_states([out]))
    else:
        training.start_from(load_states(start))
    while training.done < steps:
        loss = training.step()
        if training.done % 200 == 0 or training.done == steps:
            accuracy = " ".join(f"{label.name.lower()} {share:.3f}" for label, share in training.accuracy().items())
            click.echo(f"{training.done} loss {loss:.3f} {accuracy}")
            training.save(out)


if __name__ == "__main__":
    main()
