"""Step 3: train the vision tower alone to say what every patch shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

import click
import numpy as np
import torch
from architecture import new_tower, normalised, trained_parameters, vision_features
from labels import Label
from optimizer import Group, Optimizer
from patch_head import new_patch_head, patch_accuracy, patch_loss
from pool import Pool, load_pool
from state import PATCH_HEAD, TOWER, fill, load_states, save_state

KEPT_OUT = 200
"""Pictures, the last of the last pool, that accuracy is measured on."""

GREY_SHARE = 0.35
"""Of steps whose pictures are grey, so that shapes are not told by their colours."""


class TowerTraining:
    """The tower, its head and the pictures they learn from."""

    def __init__(
        self, pools: Sequence[Pool], *, steps: int, rate: float, pictures_a_step: int = 16, kept_out: int = KEPT_OUT
    ) -> None:
        self.tower = new_tower()
        self.head = new_patch_head()
        self._pools = pools
        pictures = [(number, picture) for number, pool in enumerate(pools) for picture in range(len(pool.scenes))]
        self._kept_out, self._pictures = pictures[-kept_out:], pictures[:-kept_out]
        self._order: list[tuple[int, int]] = []
        self._size = pictures_a_step
        self._rng = Random(0)
        parameters = (*trained_parameters(self.tower), *self.head.parameters())
        self._optimizer = Optimizer([Group(parameters, rate, 0.05)], steps)

    def step(self) -> float:
        """Learn from a few pictures and return the loss."""
        if len(self._order) < self._size:
            self._order = self._rng.sample(self._pictures, len(self._pictures))
        pixels, labels = self._tensors([self._order.pop() for _ in range(self._size)])
        # Most tiles without a shape are left out: they teach little.
        worth = (labels[..., Label.SHAPE] > 0).any(1) | (torch.rand(len(pixels)) < 0.15)
        pixels, labels = pixels[worth], labels[worth]
        if self._rng.random() < 0.5:
            pixels = pixels + torch.randn_like(pixels) * 0.04
        grey = self._rng.random() < GREY_SHARE
        loss = patch_loss(
            self._logits(_grey(pixels) if grey else pixels),
            labels,
            skip=(Label.COLOUR, Label.BACKGROUND) if grey else (),
        )
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return loss.item()

    @torch.no_grad()
    def accuracy(self) -> dict[Label, float]:
        """Return the accuracy of every label on pictures that were kept out of training."""
        pixels, labels = self._tensors(self._kept_out)
        return patch_accuracy(self._logits(pixels), labels)

    def _logits(self, pixels: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            logits: torch.Tensor = self.head(vision_features(self.tower, pixels))
        return logits

    def _tensors(self, pictures: Sequence[tuple[int, int]]) -> tuple[torch.Tensor, torch.Tensor]:
        tiles = np.concatenate([self._pools[pool].tiles_of(picture) for pool, picture in pictures])
        labels = np.concatenate([self._pools[pool].labels_of(picture) for pool, picture in pictures])
        return normalised(tiles), torch.from_numpy(labels).long()


def _grey(pixels: torch.Tensor) -> torch.Tensor:
    """Return all channels mixed into one by random weights, three times."""
    weights = torch.rand(3)
    mixed = (pixels * (weights / weights.sum()).view(1, 3, 1, 1)).sum(1, keepdim=True)
    return mixed.expand(-1, 3, -1, -1).contiguous()


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="State file to write.")
@click.option("--start", multiple=True, type=click.Path(exists=True, path_type=Path), help="State to go on from.")
@click.option("--steps", required=True, type=click.IntRange(1))
@click.option("--rate", default=1.2e-3, show_default=True, help="Highest learning rate.")
def main(folders: tuple[Path, ...], out: Path, start: tuple[Path, ...], steps: int, rate: float) -> None:
    """Train on the pools in FOLDERS."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    training = TowerTraining([load_pool(folder) for folder in folders], steps=steps, rate=rate)
    tensors = load_states(start)
    fill(training.tower, tensors, TOWER)
    fill(training.head, tensors, PATCH_HEAD)
    for step in range(1, steps + 1):
        loss = training.step()
        if step % 200 == 0 or step == steps:
            accuracy = " ".join(f"{label.name.lower()} {share:.3f}" for label, share in training.accuracy().items())
            click.echo(f"{step} loss {loss:.3f} {accuracy}")
            save_state(out, {TOWER: training.tower, PATCH_HEAD: training.head})


if __name__ == "__main__":
    main()
