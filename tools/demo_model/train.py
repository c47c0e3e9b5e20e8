"""Step 4: train the projector and the language model, and at the end the tower, on questions about pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import click
import torch
from architecture import new_model, trained_parameters
from batches import Batch, batches
from encoding import Encoder, Segment
from forward import pack_patches, picture_features
from labels import Label
from losses import alignment_loss, answer_loss
from optimizer import Group, Optimizer
from patch_head import new_patch_head, patch_loss
from pool import Pool, load_pool
from questions import questions_about
from runtime.demo.questions import Question
from runtime.demo.scene import Scene
from small_talk import small_talk
from state import PATCH_HEAD, TOWER, Tensors, fill, load_states, save_state
from transformers import AutoTokenizer, LlavaNextForConditionalGeneration, PreTrainedTokenizerBase

LOOKUPS = frozenset(("exists", "exists_pair", "colour", "where", "size", "relation", "number_on", "count_kind"))
"""Kinds of question that must find a shape by its name, which the model learns worst."""

QUESTIONS_A_PICTURE = 9
TURNS_WITHOUT_PICTURE = 8

NOTHING, NEWLINE = 0, -1
"""What a token may show besides a shape."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a run is to go."""

    steps: int
    rate: float
    tower_rate: float
    frozen: float
    """Share of the run, from its start, in which the tower does not learn."""
    thin: float
    """Share of the run, from its start, in which most empty patches are left out of the prefix."""
    pictures_a_step: int = 8


@dataclass(frozen=True, slots=True)
class Progress:
    """Losses of one step."""

    answers: float
    right: float
    """Share of answer tokens."""
    text: float
    patches: float
    alignment: float
    attention: float


class Training:
    """The model, the head that goes on teaching its tower, and the pictures they learn from."""

    def __init__(self, pools: Sequence[Pool], tokenizer: PreTrainedTokenizerBase, plan: Plan) -> None:
        self.model: LlavaNextForConditionalGeneration = new_model(tokenizer)
        self.head = new_patch_head()
        self.plan = plan
        self._encoder = Encoder(tokenizer)
        self._rng = Random(1)
        self._batches = batches(pools, plan.pictures_a_step, self._rng)
        self._done = 0
        seeing = (*trained_parameters(self.model.model.vision_tower), *self.head.parameters())
        speaking = tuple(p for name, p in self.model.named_parameters() if "vision_tower" not in name)
        groups = [Group(seeing, plan.tower_rate, 0.02), Group(speaking, plan.rate, 0.05)]
        self._optimizer = Optimizer(groups, plan.steps)

    def step(self) -> Progress:
        """Learn from a few pictures and a few turns without one."""
        share = self._done / self.plan.steps
        frozen = share < self.plan.frozen
        batch = next(self._batches)
        lookups = self._rng.random() < 0.7
        rows = [self._segments(scene, lookups=lookups) for scene in batch.scenes]
        prefix = torch.tensor(self._encoder.picture_prefix)
        with torch.autocast("cpu", torch.bfloat16):
            noise = 0.03 if self._rng.random() < 0.5 else 0.0
            features = picture_features(self.model, batch.tiles, batch.sizes, noise=noise, frozen=frozen)
            logits = None if frozen else self.head(features.tower)
            start = self.model.model.language_model.embed_tokens(prefix)
            shown = self._shape_shown(batch)
            answers = answer_loss(
                self.model,
                self._encoder,
                [torch.cat([start, picture]) for picture in features.packed],
                rows,
                blanked=0.15 if share < 0.7 else 0.05,
                kept=self._thinned(shown) if share < self.plan.thin and self._rng.random() < 0.9 else None,
                shape_shown=[torch.cat([torch.zeros_like(prefix), tokens]) for tokens in shown],
            )
            text = self._text_loss()
        patches = torch.zeros(()) if logits is None else patch_loss(logits, batch.labels)
        alignment = alignment_loss(self.model, self._encoder, features.projected, batch.labels)
        loss = answers.entropy.mean() + 0.15 * text + 0.5 * patches + 0.1 * alignment + 0.1 * answers.attention
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._done += 1
        return Progress(
            answers=answers.entropy.mean().item(),
            right=answers.right.float().mean().item(),
            text=text.item(),
            patches=patches.item(),
            alignment=alignment.item(),
            attention=answers.attention.item(),
        )

    def restore(self, tensors: Tensors) -> None:
        """Go on from a state; a state of the tower alone leaves the language model untrained."""
        weights = {name: tensor for name, tensor in tensors.items() if not name.startswith(PATCH_HEAD)}
        if all(name.startswith(TOWER) for name in weights):
            fill(self.model.model.vision_tower, weights, TOWER)
        else:
            self.model.load_state_dict(weights)
        fill(self.head, tensors, PATCH_HEAD)

    def save(self, path: Path) -> None:
        """Write a state that another run can go on from."""
        save_state(path, {"": self.model, PATCH_HEAD: self.head})

    def _segments(self, scene: Scene, *, lookups: bool) -> list[Segment]:
        """Return questions about a scene, one in eight times as real conversations."""
        chained = self._rng.random() < 0.12
        questions = questions_about(scene, self._rng)
        if lookups:
            questions = self._mostly_lookups(questions + questions_about(scene, self._rng))
        self._rng.shuffle(questions)
        return self._encoder.segments(questions[:QUESTIONS_A_PICTURE], picture=True, chained=chained)

    def _mostly_lookups(self, questions: list[Question]) -> list[Question]:
        """Return nine questions, at least six of which find a shape by its name if there are so many."""
        self._rng.shuffle(questions)
        questions.sort(key=lambda question: question.kind not in LOOKUPS)
        return questions[:6] + self._rng.sample(questions[6:], min(3, len(questions) - 6))

    def _shape_shown(self, batch: Batch) -> list[torch.Tensor]:
        """Return what each token of each picture shows: int64 [tokens], a shape from 1, NOTHING or NEWLINE."""
        labels = batch.labels[..., Label.SHAPE, None].float()
        newline = torch.tensor([float(NEWLINE)])
        packed = pack_patches(self.model, labels, batch.tile_counts, batch.sizes, newline)
        return [tokens[:, 0].long() for tokens in packed]

    def _thinned(self, shown: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return which tokens of each prefix to keep: all that show something, and a few of the others."""
        share = self._rng.choice((0.05, 0.1, 0.3))
        before = len(self._encoder.picture_prefix)
        kept = []
        for tokens in shown:
            chosen = (tokens != NOTHING) | (torch.rand(len(tokens)) < share)
            kept.append(torch.cat([torch.arange(before), before + chosen.nonzero()[:, 0]]))
        return kept

    def _text_loss(self) -> torch.Tensor:
        turns = [small_talk(self._rng) for _ in range(TURNS_WITHOUT_PICTURE)]
        segments = self._encoder.segments(turns, picture=False, chained=self._rng.random() < 0.1)
        prefix = self.model.model.language_model.embed_tokens(torch.tensor(self._encoder.text_prefix))
        return answer_loss(self.model, self._encoder, [prefix], [segments]).entropy.mean()


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--tokenizer", "checkpoint", required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--start",
    multiple=True,
    required=True,
    type=click.Path(exists=True, path_type=Path),
    help="State or checkpoint folder to go on from; may be repeated, the later one counts.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="State file to write.")
@click.option("--steps", required=True, type=click.IntRange(1))
@click.option("--rate", default=1.5e-3, show_default=True, help="Highest learning rate.")
@click.option("--tower-rate", default=2.5e-4, show_default=True, help="Highest learning rate of the tower.")
@click.option("--frozen", default=0.55, show_default=True, help="Share of the run with the tower frozen.")
@click.option("--thin", default=0.6, show_default=True, help="Share of the run with thinned pictures.")
def main(folders: tuple[Path, ...], checkpoint: Path, start: tuple[Path, ...], out: Path, **plan: Any) -> None:
    """Train on the pools in FOLDERS, starting from a trained tower or from an earlier run."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    training = Training([load_pool(folder) for folder in folders], tokenizer, Plan(**plan))
    training.restore(load_states(start))
    for step in range(1, training.plan.steps + 1):
        progress = training.step()
        if step % 100 == 0 or step == training.plan.steps:
            losses = dataclasses.asdict(progress).items()
            click.echo(f"{step} " + " ".join(f"{name} {loss:.4f}" for name, loss in losses))
        if step % 500 == 0 or step == training.plan.steps:
            training.save(out)


if __name__ == "__main__":
    main()
