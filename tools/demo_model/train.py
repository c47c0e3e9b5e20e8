"""Step 3: train the projector and the language model, and at the end the tower, on questions about pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import click
import torch
from architecture import new_model, trained_parameters
from batches import Batch, Batches
from canary import canary_loss
from curriculum import FOCUS_SHARE, Row, row_of, stage_of
from encoding import RAW_TALK, TALK, Encoder, Form
from forward import PictureFeatures, pack_patches, picture_features
from growth import grown
from label_head import label_loss, new_label_head
from labels import OF_THE_PICTURE
from losses import AnswerLoss, answer_loss
from optimizer import Group, Optimizer
from packing import whole_answers
from pool import Pool, load_pool
from runtime.demo import MODEL
from small_talk import small_talk
from state import ASIDE, OPTIMIZER, PATCH_HEAD, TOKEN_HEAD, TOWER, Tensors, fill, load_states, part, save_state
from tally import Tally
from transformers import AutoTokenizer, LlavaNextForConditionalGeneration, PreTrainedTokenizerBase

TURNS_WITHOUT_PICTURE = 8
RAW_TALK_SHARE = 0.15

TEXT_WEIGHT, TOKEN_WEIGHT, PATCH_WEIGHT = 0.1, 0.15, 0.3
"""Of the losses besides that of the answers."""

NEWLINE = -1
"""What every label says of a token that is no patch."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a run is to go."""

    steps: int
    rate: float
    tower_rate: float
    frozen: float
    """Share of the run, from its start, in which the tower does not learn."""
    pictures: int = 8
    """A step."""
    begin: float = 0.0
    """Share of the curriculum that is left out at its start."""


@dataclass(frozen=True, slots=True)
class Losses:
    """Losses of one step."""

    answers: float
    text: float
    tokens: float
    patches: float


class Training:
    """The model, the heads that teach it what pictures show, and the pictures; a step depends on its number alone."""

    def __init__(self, pools: Sequence[Pool], tokenizer: PreTrainedTokenizerBase, plan: Plan) -> None:
        self.model: LlavaNextForConditionalGeneration = new_model(tokenizer)
        self.patch_head = new_label_head()
        self.token_head = new_label_head()
        self.plan = plan
        self.tally = Tally()
        """Whole answers, as they were when they were trained on."""
        self._encoder = Encoder(tokenizer)
        self._batches = Batches(pools)
        seeing = (*trained_parameters(self.model.model.vision_tower), *self.patch_head.parameters())
        speaking = tuple(p for name, p in self.model.named_parameters() if "vision_tower" not in name)
        groups = [
            Group((*speaking, *self.token_head.parameters()), plan.rate, 0.05),
            Group(seeing, plan.tower_rate, 0.02),
        ]
        self._optimizer = Optimizer(groups, plan.steps, falling=0.36)

    @property
    def done(self) -> int:
        """Steps taken so far."""
        return self._optimizer.done

    def step(self) -> Losses:
        """Learn from a few pictures and some small talk."""
        torch.manual_seed(self.done)
        rng = Random(f"questions {self.done}")
        share = self.done / self.plan.steps
        frozen = share < self.plan.frozen
        stage = stage_of(self.plan.begin + (1 - self.plan.begin) * share)
        focus = stage.focus if rng.random() < FOCUS_SHARE else frozenset[str]()
        batch = self._batches.draw(rng, self.plan.pictures, pairs=bool(focus))
        rows = [row_of(scene, rng, self._encoder, focus) for scene in batch.scenes]
        with torch.autocast(batch.labels.device.type, torch.bfloat16):
            noise = 0.03 if rng.random() < 0.5 else 0.0
            features = picture_features(self.model, batch.tiles, batch.sizes, noise=noise, frozen=frozen)
            starts = [self._embedded(row.form) for row in rows]
            answers = answer_loss(
                self.model,
                self._encoder,
                [torch.cat([start, picture]) for start, picture in zip(starts, features.packed, strict=True)],
                [row.segments for row in rows],
                blanked=0.15 if share < 0.7 else 0.05,
            )
            tokens = self._token_loss(batch, answers, [len(start) for start in starts])
            patches = torch.zeros(()) if frozen else self._patch_loss(batch, features)
            text = self._text_loss(rng)
        spoken = answers.entropy.mean()
        loss = spoken + TEXT_WEIGHT * text + TOKEN_WEIGHT * tokens + PATCH_WEIGHT * patches
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._count(rows, answers)
        return Losses(spoken.item(), text.item(), tokens.item(), patches.item())

    def start_from(self, tensors: Tensors) -> None:
        """Take over weights and heads; a state of the tower alone leaves the language model untrained."""
        weights = {name: tensor for name, tensor in grown(tensors).items() if not name.startswith(ASIDE)}
        if all(name.startswith(TOWER) for name in weights):
            fill(self.model.model.vision_tower, weights, TOWER)
        else:
            self.model.load_state_dict(weights)
        fill(self.patch_head, tensors, PATCH_HEAD)
        fill(self.token_head, tensors, TOKEN_HEAD)

    def resume(self, tensors: Tensors) -> None:
        """Go on from what `save` wrote, as if there had been no break."""
        self.start_from(tensors)
        self._optimizer.restore(part(tensors, OPTIMIZER))

    def save(self, path: Path) -> None:
        """Write a state that another run can go on from."""
        parts: dict[str, torch.nn.Module | Tensors] = {
            "": self.model,
            PATCH_HEAD: self.patch_head,
            TOKEN_HEAD: self.token_head,
            OPTIMIZER: self._optimizer.tensors(),
        }
        save_state(path, parts)

    def _embedded(self, form: Form) -> torch.Tensor:
        ids = torch.tensor(self._encoder.prefix(form))
        embedded: torch.Tensor = self.model.model.language_model.embed_tokens(ids)
        return embedded

    def _token_loss(self, batch: Batch, answers: AnswerLoss, starts: Sequence[int]) -> torch.Tensor:
        """Return how badly the language model understands, from its first layers, what each picture token shows."""
        newline = torch.full((batch.labels.shape[-1],), float(NEWLINE))
        packed = pack_patches(self.model, batch.labels.float(), batch.tile_counts, batch.sizes, newline)
        states = []
        for row, (start, labels) in enumerate(zip(starts, packed, strict=True)):
            states.append(answers.understood[row, start : start + len(labels)][labels[:, 0] != NEWLINE])
        truth = torch.cat([labels[labels[:, 0] != NEWLINE] for labels in packed]).long()
        return label_loss(self.token_head(torch.cat(states)), truth)

    def _patch_loss(self, batch: Batch, features: PictureFeatures) -> torch.Tensor:
        """Return how badly the tower tells what each patch shows."""
        labels = batch.labels.clone()
        first = 0
        for count in batch.tile_counts:
            labels[first + 1 : first + count, :, list(OF_THE_PICTURE)] = 0
            first += count
        logits = self.patch_head(features.tower)
        return label_loss(logits[:, 1:], labels) + canary_loss(logits[:, 0])

    def _text_loss(self, rng: Random) -> torch.Tensor:
        form = RAW_TALK if rng.random() < RAW_TALK_SHARE else TALK
        turns = [small_talk(rng) for _ in range(TURNS_WITHOUT_PICTURE)]
        if rng.random() < 0.1:
            segments = self._encoder.conversations(turns, form)
        else:
            segments = [self._encoder.first_turn(turn, form) for turn in turns]
        return answer_loss(self.model, self._encoder, [self._embedded(form)], [segments]).entropy.mean()

    def _count(self, rows: Sequence[Row], answers: AnswerLoss) -> None:
        right = torch.ones_like(answers.labels, dtype=torch.bool)
        right[answers.labels >= 0] = answers.right
        for row, whole in zip(rows, whole_answers(right, [row.segments for row in rows]), strict=True):
            for kind, is_right in zip(row.kinds, whole, strict=True):
                self.tally.add(kind, right=is_right)


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--start",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="State or checkpoint folder to go on from; may be repeated, the later one counts.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="State file; gone on from if there.")
@click.option("--steps", required=True, type=click.IntRange(1))
@click.option("--rate", default=1.2e-3, show_default=True, help="Highest learning rate.")
@click.option("--tower-rate", default=2e-4, show_default=True, help="Highest learning rate of the tower.")
@click.option("--frozen", default=0.7, show_default=True, help="Share of the run with the tower frozen.")
@click.option("--pictures", default=8, show_default=True, help="A step.")
@click.option(
    "--begin",
    default=0.0,
    type=click.FloatRange(0, 1),
    help="Share of the curriculum to leave out: 1 asks for everything.",
)
@click.option("--threads", default=1, show_default=True)
@click.option("--device", default="cpu", show_default=True)
def main(
    folders: tuple[Path, ...],
    start: tuple[Path, ...],
    out: Path,
    threads: int,
    device: str,
    **plan: Any,
) -> None:
    """Train on the pools in FOLDERS, starting from a trained tower or from an earlier run."""
    torch.set_num_threads(threads)
    torch.set_default_device(device)
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    training = Training([load_pool(folder) for folder in folders], tokenizer, Plan(**plan))
    if out.exists():
        training.resume(load_states([out]))
    else:
        training.start_from(load_states(start))
    while training.done < training.plan.steps:
        losses = training.step()
        if training.done % 100 == 0 or training.done == training.plan.steps:
            click.echo(f"{training.done} {losses} {training.tally.line()}")
            training.tally = Tally()
        if training.done % 100 == 0 or training.done == training.plan.steps:
            training.save(out)


if __name__ == "__main__":
    main()
