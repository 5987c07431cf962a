"""The training loop's parts: options, the Lightning module and the log."""

from __future__ import annotations

import csv
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from wolfe.classifier import Classifier
from wolfe.files import atomic_path
from wolfe.models.augment import Augmentation
from wolfe.models.evaluation import Score
from wolfe.seeding import seed_for

Batch = tuple[Tensor, Tensor]
OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
MONITOR = "validation_score"
_TIE = 1e-5


@dataclass(frozen=True)
class TrainingOptions:
    """How to train.

    Attributes:
        epochs: passes over the training split, at most.
        batch_size: images a step.
        learning_rate: of the optimizer; the peak for one_cycle.
        optimizer: "adam", "adamw" or "sgd" (with momentum 0.9).
        weight_decay: of the optimizer.
        schedule: "constant", or "one_cycle" (L. N. Smith, 2018, https://arxiv.org/abs/1803.09820).
        patience: epochs without a better validation score after which training ends.
        augment: random changes of the training images; None for none.
    """

    epochs: int = 30
    batch_size: int = 64
    learning_rate: float = 1e-3
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    weight_decay: float = 0.0
    schedule: Literal["constant", "one_cycle"] = "constant"
    patience: int = 10
    augment: Augmentation | None = None

    def __post_init__(self) -> None:
        """Checks names and ranges.

        Raises:
            ValueError: one is wrong; the message says what is allowed.
        """
        for name in ("epochs", "batch_size", "learning_rate", "patience"):
            if getattr(self, name) <= 0:
                raise ValueError(f"training: {name} must be above 0, got {getattr(self, name)}")
        if self.weight_decay < 0:
            raise ValueError(f"training: weight_decay must not be negative, got {self.weight_decay}")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"training: optimizer must be {', '.join(OPTIMIZERS)}, got {self.optimizer!r}")
        if self.schedule not in ("constant", "one_cycle"):
            raise ValueError(f"training: schedule must be constant or one_cycle, got {self.schedule!r}")

    @staticmethod
    def from_dict(options: dict[str, Any]) -> TrainingOptions:
        """The options of a study's entry; `augment` is a map of its own.

        Raises:
            ValueError: an unknown key; the message lists those there are.
        """
        values = dict(options)
        _refuse_unknown("training", values, TrainingOptions)
        if values.get("augment") is not None:
            _refuse_unknown("augment", values["augment"], Augmentation)
            values["augment"] = Augmentation(**values["augment"])
        return TrainingOptions(**values)


def _refuse_unknown(where: str, values: dict[str, Any], kind: type) -> None:
    allowed = [item.name for item in fields(kind)]
    for key in values:
        if key not in allowed:
            raise ValueError(f"{where}: no option {key!r}; there are {', '.join(allowed)}")


class Learner(LightningModule):
    """Trains a classifier by its encoding's loss.

    Args:
        classifier: what to train; parameters that take no gradient stay as they are.
        options: how.
        classes: number of classes or labels.
        seed: the training's seed; each epoch draws from a generator seeded by it and the epoch's number, so a
            training that was interrupted goes on exactly as it would have.
    """

    def __init__(self, classifier: Classifier, options: TrainingOptions, classes: int, seed: int) -> None:
        super().__init__()
        self.classifier = classifier
        self.options = options
        self.seed = seed
        self.score = Score(classifier.encoding, classes)
        self.losses: list[Tensor] = []
        self.validation_losses: list[Tensor] = []
        self.scores: dict[str, float] = {}

    def on_train_epoch_start(self) -> None:
        """Seeds the epoch."""
        torch.manual_seed(seed_for(self.seed, "epoch", str(self.current_epoch)))
        self.losses = []

    def training_step(self, batch: Batch) -> Tensor:
        """The mean loss of a batch."""
        images, labels = batch
        if self.options.augment is not None:
            images = self.options.augment(images)
        loss = self.classifier.encoding.loss(self.classifier(images), labels).mean()
        self.losses.append(loss.detach())
        return loss

    def validation_step(self, batch: Batch) -> None:
        """Gathers the metrics of a batch."""
        images, labels = batch
        logits = self.classifier(images)
        self.score.update(logits, labels)
        self.validation_losses.append(self.classifier.encoding.loss(logits, labels))

    def on_validation_epoch_end(self) -> None:
        """Tells the score that early stopping and the choice of the best weights go by.

        On a few hundred images many epochs have the same metric; among those the lower loss wins.
        """
        loss = float(torch.cat(self.validation_losses).mean())
        self.validation_losses = []
        self.scores = {"loss": loss, **self.score.result()}
        self.log(MONITOR, torch.tensor(self.scores[self.score.main] - _TIE * loss, dtype=torch.float64))

    def configure_optimizers(self) -> Any:
        """The optimizer and, for one_cycle, its schedule by steps."""
        options = self.options
        parameters = [item for item in self.classifier.parameters() if item.requires_grad]
        more = {"momentum": 0.9} if options.optimizer == "sgd" else {}
        optimizer = OPTIMIZERS[options.optimizer](
            parameters, lr=options.learning_rate, weight_decay=options.weight_decay, fused=True, **more
        )
        if options.schedule == "constant":
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.learning_rate, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class EpochLog(Callback):
    """Keeps one row an epoch; the rows travel inside the checkpoint, so a resumed training has them all."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self._started = 0.0

    def state_dict(self) -> dict[str, Any]:
        """The rows so far."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The rows of an interrupted training."""
        self.rows = list(state_dict["rows"])

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Notes the time."""
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Adds the epoch's row."""
        assert isinstance(pl_module, Learner)
        self.rows.append(
            {
                "epoch": trainer.current_epoch + 1,
                "train_loss": float(torch.stack(pl_module.losses).mean()),
                **{f"validation_{name}": value for name, value in pl_module.scores.items()},
                "learning_rate": float(trainer.optimizers[0].param_groups[0]["lr"]),
                "seconds": round(time.perf_counter() - self._started, 3),
            }
        )

    def write(self, path: Path) -> None:
        """Writes the rows as CSV."""
        with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, fieldnames=list(self.rows[0]))
            writer.writeheader()
            writer.writerows(self.rows)
