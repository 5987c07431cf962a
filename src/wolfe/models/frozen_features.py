"""The features of a trained network, frozen, under a small head of dense layers.

The counterpart of a large pre-trained image encoder with a multi-layer perceptron on top: only the head is
trained, attacks go through both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from wolfe.classifier import Classifier
from wolfe.models.adopting import put_tensors
from wolfe.models.catalogues import projected_size
from wolfe.models.feed import Batches, Feed, OrderedBatches, loader
from wolfe.models.portions import Portions
from wolfe.models.vgg import FIRST_LOGITS, VGG16


class FrozenFeatures(nn.Module):
    """Another network without its last layer, then one hidden layer and the logits.

    The features' parameters take no gradient and stay in evaluation mode.

    Args:
        in_channels: channels of an image.
        outputs: n, the number of logits.
        image_size: height and width in pixels.
        backbone: the description of the network that gives the features: its `name` and options, a vgg16,
            inception_v3 or timm. Training takes it from the model that a study calls `bottom`, unless the study
            gives one with published weights.
        hidden: values of the hidden layer.
        dropout: share of the hidden values left out in training.
        projection: keep the backbone's last layer, which projects its features (CLIP's to those that it compares with
            text), and does not tell classes.

    Raises:
        ValueError: the backbone is none of these, or its last layer is no projection.
    """

    def __init__(
        self,
        in_channels: int,
        outputs: int,
        image_size: int,
        backbone: dict[str, Any],
        hidden: int = 512,
        dropout: float = 0.0,
        projection: bool = False,
    ) -> None:
        from wolfe.models.networks import build_network  # here, since that module imports this one

        super().__init__()
        self._projects = projection
        if projection:
            self.features = build_network(backbone, in_channels, projected_size(backbone), image_size)
        else:
            # Any number of logits will do: their layer is taken off.
            self.features = without_last_layer(build_network(backbone, in_channels, 1, image_size))
        self.features.requires_grad_(False)
        self.features.eval()
        with torch.no_grad():
            size = self.features(torch.zeros(1, in_channels, image_size, image_size)).shape[1]
        output = nn.Linear(hidden, outputs)
        nn.init.normal_(output.weight, std=FIRST_LOGITS)
        nn.init.zeros_(output.bias)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(size, hidden), nn.ReLU(), nn.Dropout(dropout), output)

    def train(self, mode: bool = True) -> FrozenFeatures:
        """Training mode for the head alone: the features stay as they were learned."""
        super().train(mode)
        self.features.eval()
        return self

    def copy_bottom(self, source: nn.Module) -> None:
        """Takes the features' weights from a trained network, which loses its last layer.

        Raises:
            ValueError: it is another network than the backbone.
        """
        try:
            self.features.load_state_dict(without_last_layer(source).state_dict())
        except RuntimeError as error:
            raise ValueError("the network whose features are to be used is not the backbone described") from error

    def adopt(self, tensors: Mapping[str, Tensor], new_head: bool) -> None:  # noqa: ARG002
        """Takes the features' weights from published ones, whose last layer is left out unless it projects them.

        Args:
            tensors: of the backbone, as its library names them.
            new_head: the head is its own anyway.

        Raises:
            ValueError: they are another network's.
        """
        put_tensors(self.features, tensors, new_head=not self._projects)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, n) of normalised images (B, C, H, W)."""
        logits: Tensor = self.head(self.features(x))
        return logits


def without_last_layer(network: nn.Module) -> nn.Module:
    """The network itself, its last layer removed: images (B, C, H, W) to features (B, F).

    Raises:
        ValueError: it is neither a VGG16 nor one of timm's classifiers.
    """
    if isinstance(network, VGG16):
        network.dense = nn.Sequential(*list(network.dense)[:-1])
    elif callable(reset := getattr(network, "reset_classifier", None)):
        reset(0)  # timm's way to say that no logits are wanted
    else:
        raise ValueError(
            f"frozen_features uses the features of a vgg16, inception_v3 or timm network, not {type(network).__name__}"
        )
    return network


class FeatureFeed(Batches):
    """A data set whose frozen features are computed once.

    Args:
        feed: the images.
        classifier: with `FrozenFeatures`.

    Item `indices` (a list) is features (k, F, 1, 1) and the labels.
    """

    def __init__(self, feed: Feed, classifier: Classifier) -> None:
        self.labels = feed.labels
        features = classifier.net.features
        assert isinstance(features, nn.Module)
        portions = Portions()

        def of_images(images: Tensor) -> Tensor:
            values: Tensor = features(classifier.normalise(images))
            return values

        with torch.no_grad():
            parts = [
                portions.joined(of_images, images.to(classifier.device)).cpu()
                for images, _ in loader(feed, OrderedBatches(len(feed)))
            ]
        # The shape of pictures of one pixel, which is what a classifier takes.
        self._features = torch.cat(parts)[:, :, None, None]

    def __len__(self) -> int:
        return len(self._features)

    def __getitem__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        return self._features[indices], self.labels[indices]


def head_of(classifier: Classifier) -> Classifier:
    """The head of a classifier with `FrozenFeatures`, as a classifier of features; the parameters are shared."""
    head = classifier.net.head
    assert isinstance(head, nn.Module)
    return Classifier(head, classifier.encoding)
