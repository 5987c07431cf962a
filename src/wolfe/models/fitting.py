"""Fits a classifier with Lightning: early stopping, the best weights, and checkpoints to go on from."""

from __future__ import annotations

import logging
import shutil
import sys
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch.backends import cudnn

from wolfe.linear.memory import out_of_memory
from wolfe.models.epoch_log import EpochLog
from wolfe.models.feed import Batches, EpochBatches, OrderedBatches, loader
from wolfe.models.learner import MONITOR, Learner
from wolfe.precision import full_precision
from wolfe.reading.regular import regular_file

# What Lightning warns of and is meant here (batches come decoded from memory, without workers; a training goes on
# in the folder where it stopped; a job of a cluster trains alone), and a torch deprecation inside Lightning itself.
_MEANT = (
    r".*does not have many workers.*",
    r".*Checkpoint directory .* exists and is not empty.*",
    r".*module\(s\) in eval mode at the start.*",
    r".*isinstance\(treespec, LeafSpec\).*",
    r".*`srun` command is available.*",
)

# What a checkpoint holds of a training that goes on, and of weights alone.
_OF_LAST = ("state_dict", "optimizer_states", "lr_schedulers", "callbacks", "loops", "epoch", "global_step")
_OF_BEST = ("state_dict",)


def fit(learner: Learner, train: Batches, validation: Batches, checkpoints: Path, device: str, quiet: bool) -> EpochLog:
    """Trains until the epochs are used up or the validation score stalls; the learner ends with its best weights.

    After each epoch `checkpoints/last.ckpt` holds all that is needed to go on: a call that finds one continues
    from it, to the same weights that an unbroken training would have reached.

    Args:
        learner: what to train.
        train: images to learn from.
        validation: images to score by.
        checkpoints: folder for `last.ckpt` and `best.ckpt`.
        device: "cpu" or "cuda".
        quiet: no progress bar and no messages.

    Returns:
        The log, one row an epoch. Training that diverges ends there; the best weights are those of before.

    Raises:
        ValueError: it diverged in its first epoch; nothing is kept.
    """
    log = EpochLog()
    best = ModelCheckpoint(
        dirpath=checkpoints,
        filename="best",
        monitor=MONITOR,
        mode="max",
        save_weights_only=True,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    batches = EpochBatches(len(train), learner.options.batch_size, learner.seed)
    with _settings(), _products(learner.options.precision):
        trainer = _trainer(learner, [log, best, _last(checkpoints)], device, quiet)
        trainer.fit(
            learner,
            loader(train, batches),
            loader(validation, OrderedBatches(len(validation))),
            ckpt_path=_resumable(checkpoints, learner),
            weights_only=True,
        )
    _refuse_divergence(best, log, learner.options.learning_rate, checkpoints)
    content = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
    learner.load_state_dict(content["state_dict"])
    return log


def _refuse_divergence(best: ModelCheckpoint, log: EpochLog, learning_rate: float, checkpoints: Path) -> None:
    """Refuses a training no epoch of which has a finite score, or whose later ones have none, with a warning.

    Raises:
        ValueError: the message tells the epoch and its losses.
    """
    diverged = log.diverged()
    if diverged is None:
        return
    said = (
        f"training diverged: in epoch {diverged['epoch']} the training loss is {diverged['train_loss']}, that of "
        f"validation {diverged['validation_loss']}"
    )
    if best.best_model_score is not None and bool(torch.isfinite(best.best_model_score)):
        warnings.warn(f"{said}; the best weights of before are kept", stacklevel=3)
        return
    # To go on from them would be of no use.
    shutil.rmtree(checkpoints, ignore_errors=True)
    raise ValueError(f"{said}: lower its learning_rate, {learning_rate}")


def _trainer(learner: Learner, callbacks: list[Callback], device: str, quiet: bool) -> Trainer:
    stopping = EarlyStopping(
        monitor=MONITOR, mode="max", patience=learner.options.patience, check_on_train_epoch_end=True
    )
    return Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=1,
        precision="bf16-mixed" if learner.options.precision == "bf16" else "32-true",
        max_epochs=learner.options.epochs,
        callbacks=[*callbacks[:1], stopping, *callbacks[1:]],
        logger=False,
        num_sanity_val_steps=0,
        enable_progress_bar=not quiet,
        enable_model_summary=False,
        use_distributed_sampler=False,
        deterministic="warn" if device == "cuda" else False,
        # A job trains alone, also where a cluster's variables would have Lightning look for others to join.
        plugins=LightningEnvironment(),
    )


def _last(checkpoints: Path) -> ModelCheckpoint:
    """Saves the state of the whole training after each epoch."""
    return ModelCheckpoint(
        dirpath=checkpoints, filename="last", save_on_train_epoch_end=True, enable_version_counter=False
    )


def _resumable(checkpoints: Path, learner: Learner) -> Path | None:
    """The last checkpoint, if it and the best one are whole; otherwise both are removed, with a warning."""
    last, best = checkpoints / "last.ckpt", checkpoints / "best.ckpt"
    if not last.exists():
        return None
    for path, parts in ((last, _OF_LAST), (best, _OF_BEST)):
        damage = _damage(path, parts, learner)
        if damage:
            warnings.warn(f"{path} cannot be read ({damage}): training starts over", stacklevel=3)
            shutil.rmtree(checkpoints)
            return None
    return last


def _damage(path: Path, parts: Iterable[str], learner: Learner) -> str:
    """What is wrong with a checkpoint, empty if nothing is; torch does not look at the checksums in its own files."""
    try:
        with zipfile.ZipFile(regular_file(path)) as archive:
            spoiled = archive.testzip()
        content = torch.load(path, map_location="cpu", weights_only=True)
        missing = [part for part in parts if part not in content]
        weights, own = content["state_dict"], learner.state_dict()
        fitting = {name: value.shape for name, value in weights.items()} == {name: own[name].shape for name in own}
    except Exception as error:
        # Of a file that cannot be looked at just now nothing is known: it is not removed.
        if out_of_memory(error) or isinstance(error, PermissionError):
            raise
        return str(error) or type(error).__name__
    if spoiled:
        return f"the checksum of {spoiled} in it is wrong"
    if missing:
        return f"it lacks {missing[0]}"
    return "" if fitting else "its weights are those of another network"


@contextmanager
def _settings() -> Iterator[None]:
    """Lightning's chatter down, and torch's global settings as they were afterwards."""
    names = ("lightning.pytorch", "lightning.fabric")
    levels = {name: logging.getLogger(name).level for name in names}
    deterministic = torch.are_deterministic_algorithms_enabled()
    devices = list(range(torch.cuda.device_count()))
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with torch.random.fork_rng(devices=devices), warnings.catch_warnings():
            for message in _MEANT:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        torch.use_deterministic_algorithms(deterministic)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def _products(precision: str) -> Iterator[None]:
    """Rounded products for tf32, torch's settings as they were afterwards; for the others nothing."""
    if precision != "tf32":
        yield
        return
    # Full precision makes torch's two interfaces to the settings agree, and gives back what each of them said.
    with full_precision(()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some versions of torch advise against the older interface
        torch.set_float32_matmul_precision("high")
        cudnn.allow_tf32 = True
        yield


def wants_quiet(quiet: bool | None) -> bool:
    """The choice itself, or whether the output is no terminal."""
    return not sys.stderr.isatty() if quiet is None else quiet
