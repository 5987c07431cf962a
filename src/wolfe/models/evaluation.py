"""How good a classifier is: accuracy, or mean average precision and exact match."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MultilabelAveragePrecision, MultilabelExactMatch

from wolfe.classifier import Classifier
from wolfe.encoding import Encoding
from wolfe.models.feed import Feed, OrderedBatches, loader
from wolfe.models.portions import Portions


class Score:
    """The metrics of an encoding, gathered batch by batch.

    Args:
        encoding: what the logits mean.
        classes: number of classes or labels.

    Attributes:
        main: the metric that early stopping watches, "accuracy" or "mAP".
    """

    def __init__(self, encoding: Encoding, classes: int) -> None:
        self.encoding = encoding
        self.main = "mAP" if encoding.multi_label else "accuracy"
        metrics: dict[str, Metric | MetricCollection]
        if encoding.multi_label:
            metrics = {
                "mAP": MultilabelAveragePrecision(classes, average="macro"),
                "exact_match": MultilabelExactMatch(classes),
            }
        else:
            metrics = {"accuracy": MulticlassAccuracy(classes, average="micro")}
        self._metrics = MetricCollection(metrics, compute_groups=False)

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Adds a batch: logits (B, n), labels (B,) or (B, n)."""
        if self.encoding.multi_label:
            self._metrics.update(self.encoding.probabilities(logits).cpu(), labels.cpu())
        else:
            self._metrics.update(self.encoding.decide(logits).cpu(), labels.cpu())

    def result(self) -> dict[str, float]:
        """The metrics over all batches since the last call, in [0, 1]."""
        values = {name: float(value) for name, value in self._metrics.compute().items()}
        self._metrics.reset()
        return values


@torch.no_grad()
def evaluate(classifier: Classifier, feed: Feed, classes: int) -> dict[str, float]:
    """The metrics of a classifier over a whole split; it is left in evaluation mode."""
    classifier.eval()
    score, portions = Score(classifier.encoding, classes), Portions()
    for images, labels in loader(feed, OrderedBatches(len(feed))):
        score.update(portions.joined(classifier, images.to(classifier.device)), labels)
    return score.result()
