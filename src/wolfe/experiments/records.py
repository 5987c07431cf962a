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


def make_records(
    classifier: Classifier,
    image_ids: list[str],
    images: Tensor,
    labels: Tensor,
    targets: Tensor,
    result: AttackResult,
    label_graph: LabelGraph | None = None,
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

    Returns:
        A frame with the columns of the architecture's record.
    """
    before, after = images.cpu(), result.adversarials.cpu()
    rounded = torch.from_numpy(eight_bit(after.numpy()))
    encoding = classifier.encoding
    device = classifier.device
    with torch.no_grad():
        logits_before = classifier(before.to(device)).cpu()
        logits = classifier(after.to(device)).cpu()
        success_8bit = encoding.reached(classifier(rounded.to(device)).cpu(), targets)
    asked = encoding.bits(logits_before) != encoding.target_bits(targets)
    equal = encoding.bits(logits) == encoding.target_bits(targets)
    decisions = encoding.decide(logits)
    consistent = [None] * len(before) if label_graph is None else label_graph.consistent(decisions).tolist()
    in_region = encoding.region(targets).violations(logits).amax(dim=1) <= 0
    rows: list[dict[str, Any]] = []
    for i, image_id in enumerate(image_ids):
        rows.append(
            {
                "image_id": image_id,
                "true_label": labels[i].tolist(),
                "target": targets[i].tolist(),
                "prediction": decisions[i].tolist(),
                "status": str(result.status[i]),
                "success": bool(result.success[i]),
                "success_8bit": bool(success_8bit[i]),
                "reached_logits": bool(in_region[i]),
                "consistent": consistent[i],
                "bits_asked": int(asked[i].sum()),
                "bits_reached": int((asked[i] & equal[i]).sum()),
                "bits_equal": int(equal[i].sum()),
                "bits_total": encoding.size,
                **distortion(before[i].numpy(), after[i].numpy()),
                "first_success": int(result.first_success[i]),
                "iterations": int(result.iterations[i]),
                "forwards": int(result.forwards[i]),
                "vjps": int(result.vjps[i]),
                "jvps": int(result.jvps[i]),
                "seconds": float(result.seconds[i]),
                "batch_size": len(image_ids),
            }
        )
    # Without a hierarchy the column holds nothing, in a type that says which values it would hold.
    return pd.DataFrame(rows).astype({"consistent": "boolean"})
