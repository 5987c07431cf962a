"""A classifier before its training: its encoding, its network as the study describes it, the weights it starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from wolfe.classifier import Classifier
from wolfe.encoding import Codebook, Encoding, MultiLabel, OneHot, hadamard
from wolfe.model_choices import LOSSES
from wolfe.models.adopting import load_weights
from wolfe.models.feed import Feed
from wolfe.models.losses import check_loss
from wolfe.models.networks import build_network, takes_bottom, with_backbone
from wolfe.models.storage import load_classifier, load_description
from wolfe.models.weights_files import Weights
from wolfe.seeding import seed_for


def make_encoding(spec: dict[str, Any], classes: int, task: str) -> Encoding:
    """The encoding of a study's entry.

    Args:
        spec: with `encoding` {kind: one_hot | multi_label | codebook, and for a codebook code: hadamard and its
            length} and `loss`, one that goes with it; its own if left out.
        classes: number of classes or labels of the data set.
        task: "single" or "multi".

    Raises:
        ValueError: an unknown kind, code or loss, or one that does not fit the data.
    """
    wanted = dict(spec["encoding"])
    kind = wanted.get("kind")
    if kind not in LOSSES:
        raise ValueError(f"encoding: unknown kind {kind!r}; there are {', '.join(LOSSES)}")
    if (kind == "multi_label") != (task == "multi"):
        raise ValueError(f"encoding: {kind} does not fit a data set whose task is {task}-label")
    if "loss" in spec:
        check_loss(kind, spec["loss"])
    if kind == "one_hot":
        return OneHot(classes)
    if kind == "multi_label":
        return MultiLabel(classes)
    if wanted.get("code") != "hadamard" or "length" not in wanted:
        raise ValueError(f"encoding: a codebook needs code: hadamard and its length, got {wanted}")
    return Codebook(hadamard(wanted["length"], classes), wanted.get("activation", "tanh"))


def complete(network: dict[str, Any], bottom: Path | None, shape: tuple[int, int, int]) -> dict[str, Any]:
    """The network's entry with all that it takes to build it again from its own files.

    Args:
        network: `name` and options.
        bottom: folder of the trained network whose layers it uses; None for none.
        shape: (C, H, W) of the data set's images.

    Raises:
        ValueError: there is a bottom and the network takes none, or the other way round, or its images differ.
    """
    if takes_bottom(network) != (bottom is not None):
        name = network.get("name")
        raise ValueError(
            f"bottom: {name} takes no layers of a trained network"
            if bottom
            else f"bottom: {name} needs the folder of the trained network whose layers it uses"
        )
    if bottom is None:
        return network
    description = load_description(bottom)
    if tuple(description["image_shape"]) != tuple(shape):
        raise ValueError(f"bottom: {bottom} takes images of shape {description['image_shape']}, not {list(shape)}")
    return with_backbone(network, description["network"])


def fresh_classifier(
    network: dict[str, Any],
    encoding: Encoding,
    shape: tuple[int, int, int],
    train: Feed | None,
    bottom: Path | None,
    weights: Weights | None,
    kept: bool,
    seed: int,
) -> Classifier:
    """The classifier before training; layers and normalisation are those of the bottom or the weights, if any.

    Args:
        network: as `complete` gives it.
        encoding: what the logits mean.
        shape: (C, H, W) of the data set's images.
        train: what normalisation is measured on where there are neither bottom nor weights.
        bottom: folder of the trained network whose layers it uses; None for none.
        weights: published ones; None for none.
        kept: the published last layer gives the data set's logits.
        seed: of the training.

    Raises:
        ValueError: a network that cannot be built, or weights that do not fit it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "weights"))
        net = build_network(network, shape[0], encoding.size, shape[1])
    if weights is not None:
        load_weights(net, weights, new_head=not kept)
        return Classifier(net, encoding, weights.mean, weights.std)
    if bottom is None:
        assert train is not None
        return Classifier(net, encoding, *train.statistics())
    source = load_classifier(bottom)
    copy = net.copy_bottom
    assert callable(copy)
    copy(source.net)
    return Classifier(net, encoding, source.mean.flatten().tolist(), source.std.flatten().tolist())
