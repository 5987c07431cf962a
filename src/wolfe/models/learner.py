"""The training loop's parts: options and the Lightning module."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from wolfe.classifier import Classifier
from wolfe.models.augment import Augmentation
from wolfe.models.evaluation import Score
from wolfe.models.losses import Loss
from wolfe.models.portions import Portions, Start
from wolfe.seeding import seed_for

Batch = tuple[Tensor, Tensor]
OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
PRECISIONS = ("float32", "tf32", "bf16")
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
        precision: "float32" (as torch is set, which on a GPU rounds in convolutions), "tf32" (rounded in products too,
            where the device can), or "bf16" (mixed: bfloat16 in both, float32 weights). Of the training only.
    """

    epochs: int = 30
    batch_size: int = 64
    learning_rate: float = 1e-3
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    weight_decay: float = 0.0
    schedule: Literal["constant", "one_cycle"] = "constant"
    patience: int = 10
    augment: Augmentation | None = None
    precision: Literal["float32", "tf32", "bf16"] = "float32"

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
        if self.precision not in PRECISIONS:
            raise ValueError(f"training: precision must be {', '.join(PRECISIONS)}, got {self.precision!r}")

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
    """Trains a classifier.

    A batch that memory does not hold goes through in parts whose gradients are added up; batch normalisation and
    dropout then are those of the parts.

    Args:
        classifier: what to train; parameters that take no gradient stay as they are.
        options: how.
        classes: number of classes or labels.
        seed: the training's seed; each epoch draws from a generator seeded by it and the epoch's number, so a
            training that was interrupted goes on exactly as it would have.
        loss: logits and labels to the loss (B,) that is lowered; None for the encoding's own.
    """

    def __init__(
        self, classifier: Classifier, options: TrainingOptions, classes: int, seed: int, loss: Loss | None = None
    ) -> None:
        super().__init__()
        # A batch may take several backward passes before its step.
        self.automatic_optimization = False
        self.classifier = classifier
        self.options = options
        self.seed = seed
        self.loss = classifier.encoding.loss if loss is None else loss
        self.score = Score(classifier.encoding, classes)
        self.portions = Portions()
        self.seen = Portions()
        self.losses: list[Tensor] = []
        self.validation_losses: list[Tensor] = []
        self.scores: dict[str, float] = {}

    def on_train_epoch_start(self) -> None:
        """Seeds the epoch."""
        torch.manual_seed(seed_for(self.seed, "epoch", str(self.current_epoch)))
        self.losses = []

    def training_step(self, batch: Batch) -> None:
        """A step of the optimizer against the mean loss of a batch."""
        images, labels = batch
        if self.options.augment is not None:
            images = self.options.augment(images)
        optimizer, start = self.optimizers(), Start(self.classifier, images.device)
        assert isinstance(optimizer, LightningOptimizer)

        def gradients(size: int) -> Tensor:
            optimizer.zero_grad()
            if size < len(images):
                start.restore()
            return self._gradients(images, labels, size)

        self.losses.append(self.portions.fitting(gradients, len(images)))
        optimizer.step()
        schedule = self.lr_schedulers()
        if schedule is not None:
            assert isinstance(schedule, LRScheduler)
            schedule.step()

    def _gradients(self, images: Tensor, labels: Tensor, size: int) -> Tensor:
        """Adds the gradients of the mean loss of a batch, in parts of a size; the loss, detached."""
        losses = []
        for part, wanted in zip(images.split(size), labels.split(size), strict=True):
            loss = self.loss(self.classifier(part).float(), wanted).mean() * (len(part) / len(images))
            self.manual_backward(loss)
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    def validation_step(self, batch: Batch) -> None:
        """Gathers the metrics of a batch."""
        images, labels = batch
        logits = self.seen.joined(self.classifier, images).float()
        self.score.update(logits, labels)
        self.validation_losses.append(self.loss(logits, labels))

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
        schedule = OneCycleLR(optimizer, options.learning_rate, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
