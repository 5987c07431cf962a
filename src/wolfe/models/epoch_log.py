"""A training's log: one row an epoch."""

from __future__ import annotations

import csv
import math
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from wolfe.files import atomic_path
from wolfe.models.learner import Learner


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
                **({"micro_batch": size} if (size := pl_module.portions.size) else {}),
                "seconds": round(time.perf_counter() - self._started, 3),
            }
        )

    def diverged(self) -> dict[str, float] | None:
        """The first row whose validation loss is not finite; None where all are."""
        return next((row for row in self.rows if not math.isfinite(row["validation_loss"])), None)

    def best(self, metric: str) -> dict[str, float] | None:
        """The row with the best validation metric, of equal ones that of the lowest loss; None where there is none."""
        finite = [row for row in self.rows if math.isfinite(row["validation_loss"])]
        key = f"validation_{metric}"
        return max(finite, key=lambda row: (row[key], -row["validation_loss"]), default=None)

    def write(self, path: Path) -> None:
        """Writes the rows as CSV; a column that some lack is empty there."""
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, fieldnames=names)
            writer.writeheader()
            writer.writerows(self.rows)
