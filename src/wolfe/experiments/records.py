"""Records: one row for every image under an attack."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from torch import Tensor

from wolfe.attacks import AttackResult
from wolfe.classifier import Classifier
from wolfe.label_graph import LabelGraph
from wolfe.metrics import distortion, eight_bit

_COSTS = ("first_success", "iterations", "forwards", "vjps", "jvps", "seconds", "gap")


def make_records(
    classifier: Classifier,
    image_ids: list[str],
    images: Tensor,
    labels: Tensor,
    targets: Tensor,
    result: AttackResult,
    label_graph: LabelGraph | None = None,
    batch_size: int | None = None,
) -> pd.DataFrame:
    """One row an image; distances are there for failures too.

    Args:
        classifier: the classifier that was attacked, in evaluation mode.
        image_ids: names of the images.
        images: (B, C, H, W) as they were.
        labels: true labels, (B,) or (B, n).
        targets: of the same shape.
        result: what the attack returned.
        label_graph: the hierarchy of the labels, where there is one.
        batch_size: how many images were attacked, and are classified, together; None for all.

    Returns:
        A frame with the columns of the architecture's record.
    """
    before, after = images.cpu(), result.adversarials.cpu()
    together = min(len(images), batch_size or len(images))
    frame = pd.DataFrame(
        {
            "image_id": image_ids,
            "true_label": labels.tolist(),
            "target": targets.tolist(),
            "status": [str(status) for status in result.status],
            "success": result.success.tolist(),
            **_verdicts(classifier, before, after, targets, label_graph, together),
        }
    )
    distances = [distortion(first.numpy(), second.numpy()) for first, second in zip(before, after, strict=True)]
    costs = pd.DataFrame({name: getattr(result, name).tolist() for name in _COSTS})
    # Without a hierarchy the column holds nothing, in a type that says which values it would hold.
    frame = frame.astype({"consistent": "boolean"})
    return pd.concat([frame, pd.DataFrame(distances), costs.assign(batch_size=together)], axis=1)


def _verdicts(
    classifier: Classifier,
    before: Tensor,
    after: Tensor,
    targets: Tensor,
    label_graph: LabelGraph | None,
    together: int,
) -> dict[str, Any]:
    """What the classifier says of the images (B, C, H, W) that an attack returned, column by column."""
    encoding, device = classifier.encoding, classifier.device
    rounded = torch.from_numpy(eight_bit(after.numpy()))
    with torch.no_grad():
        logits_before, logits, logits_8bit = (
            torch.cat([classifier(part.to(device)).cpu() for part in x.split(max(1, together))])
            for x in (before, after, rounded)
        )
    asked = encoding.bits(logits_before) != encoding.target_bits(targets)
    equal = encoding.bits(logits) == encoding.target_bits(targets)
    decisions = encoding.decide(logits)
    return {
        "prediction": decisions.tolist(),
        "success_8bit": encoding.reached(logits_8bit, targets).tolist(),
        "reached_logits": (encoding.region(targets).violations(logits).amax(dim=1) <= 0).tolist(),
        "consistent": None if label_graph is None else label_graph.consistent(decisions).tolist(),
        "bits_asked": asked.sum(dim=1).tolist(),
        "bits_reached": (asked & equal).sum(dim=1).tolist(),
        "bits_equal": equal.sum(dim=1).tolist(),
        "bits_total": encoding.size,
    }
