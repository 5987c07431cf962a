"""The geometry of a target on a real classifier with two outputs (JMA paper, Figure 1).

Two labels of a trained multi-label model, an image and the target "both labels flipped": the point r' of the target
region that is nearest to the image's outputs, and the point r* that a perturbation reaches at least cost.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wolfe.attacks.jma import JMA
from wolfe.classifier import Classifier
from wolfe.data.image_set import ImageSet, open_split
from wolfe.encoding import MultiLabel
from wolfe.experiments.pictures import picture_of
from wolfe.experiments.targets import read_targets
from wolfe.files import content_checksum, sha256, write_json
from wolfe.models.storage import load_classifier
from wolfe.provenance import begin_run, beside, checksums, device_name

CANDIDATES = 12
"""Images of the target file among which one is chosen."""
_TRIED = 60
_LENGTHS = torch.linspace(0, 1.3, 27)
"""How far along a perturbation the network is run: 0 is the image, 1 the whole perturbation."""
_WHOLE = 20


class _Outputs(nn.Module):
    """Some outputs of a network."""

    def __init__(self, net: nn.Module, kept: Sequence[int]) -> None:
        super().__init__()
        self.net, self.kept = net, list(kept)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, len(kept))."""
        logits: Tensor = self.net(images)[:, self.kept]
        return logits


@dataclass(frozen=True)
class Choice:
    """An image and two of its labels.

    Attributes:
        image_id: name of the image.
        position: its place among the candidates.
        labels: indices of the two labels.
        ratio: the least norm of a perturbation to r' over that to r*, at least 1.
    """

    image_id: str
    position: int
    labels: tuple[int, int]
    ratio: float


def write_geometry(model: Path, targets: Path, data: Path, spec: dict[str, Any], out: Path, device: str) -> None:
    """Chooses an image and two labels, works out both points and runs the network towards them.

    Without `labels` in the spec, image and pair are those among the first images of the target file for which the
    norms of the two perturbations differ by the largest factor while the network itself reaches the target with the
    one to r* (where it never does, by the largest factor); with `labels`, the image is.

    Args:
        model: folder of a trained multi-label model.
        targets: parquet file of its table's images.
        data: folder of the data set.
        spec: the figure: `labels`, two names, or nothing.
        out: the JSON file, whole or absent, with its own checksum; its run file goes beside it.
        device: "cpu" or "cuda".

    Raises:
        ValueError: the model is not multi-label, a label is unknown, or a file is damaged.
    """
    read = [targets, Path(model) / "weights.safetensors", Path(model) / "classifier.json"]
    run = begin_run("geometry", spec, read, data)
    classifier = load_classifier(model, device)
    if not classifier.encoding.multi_label or classifier.encoding.size < 2:
        raise ValueError(f"{model} has no two labels to choose: the geometry is drawn from a multi-label model")
    test = open_split(data, "test")
    image_ids, images = _candidates(Path(targets), test)
    wanted = _label_indices(spec.get("labels"), test.class_names)
    choices = ranked(classifier, image_ids, images, wanted)
    choice, passed_over, geometry = _first_reached(classifier, images, choices)
    content = {
        "name": spec["name"],
        "model": Path(model).name,
        "image_id": choice.image_id,
        "labels": [test.class_names[label] for label in choice.labels],
        "asked": bool(wanted),
        "candidates": {"images": len(images), "pairs": len(choices), "passed_over": passed_over},
        "picture": _png(images[choice.position]),
        "depends_on": {
            "weights": sha256(Path(model) / "weights.safetensors"),
            "data": sha256(Path(data) / "card.json"),
            "targets": sha256(targets),
        },
        **geometry,
    }
    write_json(out, content | {"sha256": content_checksum(content)})
    device_used = device_name(classifier.device)
    run.write(beside(out), checksums([out]), ["wolfe.experiments.geometry"], device=device_used)


def two_outputs(classifier: Classifier, labels: tuple[int, int]) -> Classifier:
    """The classifier of two labels that a multi-label classifier contains."""
    mean, std = classifier.mean.flatten().tolist(), classifier.std.flatten().tolist()
    pair = Classifier(_Outputs(classifier.net, labels), MultiLabel(2), mean, std)
    return pair.to(classifier.device).eval()


def ranked(
    classifier: Classifier, image_ids: Sequence[str], images: Tensor, labels: tuple[int, int] | None = None
) -> list[Choice]:
    """Images and pairs of labels, those first for which r' costs most in comparison with r*.

    Args:
        classifier: a multi-label classifier.
        image_ids: names of the images.
        images: (B, C, H, W).
        labels: the pair, where it is given.
    """
    outputs, jacobian = classifier.logits_and_jacobian(images.to(classifier.device))
    flat = jacobian.flatten(2).double().cpu()
    values, gram = outputs.double().cpu(), flat @ flat.mT
    size = values.shape[1]
    pairs = [labels] if labels else [(first, second) for first in range(size) for second in range(first + 1, size)]
    choices = []
    for position, image_id in enumerate(image_ids):
        for pair in pairs:
            kept = list(pair)
            ratio = effort_ratio(values[position, kept], gram[position][kept][:, kept])
            choices.append(Choice(str(image_id), position, pair, ratio))
    return sorted(choices, key=lambda choice: -choice.ratio)


def _first_reached(classifier: Classifier, images: Tensor, choices: list[Choice]) -> tuple[Choice, int, dict[str, Any]]:
    """The first choice whose perturbation to r* really reaches the target, how many were passed over, its geometry."""
    for passed_over, choice in enumerate(choices[:_TRIED]):
        geometry = measure(two_outputs(classifier, choice.labels), images[choice.position, None])
        if geometry["mahalanobis"]["reached"]:
            return choice, passed_over, geometry
    return choices[0], 0, measure(two_outputs(classifier, choices[0].labels), images[choices[0].position, None])


def effort_ratio(values: Tensor, gram: Tensor) -> float:
    """The least norm of a perturbation to r' over that to r*, for both signs flipped.

    Both signs flipped, the nearest point of the target region is its corner, the origin; r* is the corner or lies on
    one of the two edges.

    Args:
        values: outputs (2,).
        gram: J J' (2, 2).

    Returns:
        At least 1; 0 where the Jacobian has no full rank.
    """
    if torch.linalg.matrix_rank(gram, hermitian=True) < 2:
        return 0.0
    corner = effort(gram, -values)
    least = corner
    for edge in range(2):
        move = -gram[:, edge] * values[edge] / gram[edge, edge]
        # The move along one constraint is the answer if the other output has then passed its threshold too.
        if float((values[1 - edge] + move[1 - edge]) * values[1 - edge]) <= 0:
            least = min(least, effort(gram, move))
    return corner / least if least > 0 else 0.0


def effort(gram: Tensor, move: Tensor) -> float:
    """The least norm of a perturbation that moves the outputs by `move` (n,) to first order: sqrt(d' inv(G) d)."""
    return float((move @ torch.linalg.solve(gram, move)).clamp(min=0).sqrt())


def measure(pair: Classifier, image: Tensor) -> dict[str, Any]:
    """Both points, what they cost and where the network really goes.

    Args:
        pair: a classifier with two labels.
        image: (1, C, H, W) in [0, 1].

    Returns:
        Plain values: outputs z, G = J J', the wanted signs, and for each point its place, the norm of its
        perturbation, the outputs of the network along it (images clipped to [0, 1]) and whether the whole
        perturbation reaches the target.
    """
    image = image.to(pair.device)
    outputs, jacobian = pair.logits_and_jacobian(image)
    flat, values = jacobian[0].flatten(1).double(), outputs[0].double()
    gram = flat @ flat.T
    target = (outputs <= 0).long()
    nearest = torch.zeros_like(values)
    straight = flat.T @ torch.linalg.solve(gram, nearest - values)
    step = JMA().linear_step(pair, image, target).perturbation[0].flatten().double()
    return {
        "outputs": values.tolist(),
        "gram": gram.tolist(),
        "signs": (2 * target[0] - 1).tolist(),
        "lengths": _LENGTHS.tolist(),
        "euclidean": _towards(pair, image, values, flat, straight, target),
        "mahalanobis": _towards(pair, image, values, flat, step, target),
    }


def _towards(
    pair: Classifier, image: Tensor, values: Tensor, jacobian: Tensor, perturbation: Tensor, target: Tensor
) -> dict[str, Any]:
    lengths = _LENGTHS.to(image.device)[:, None, None, None]
    along = (image + lengths * perturbation.to(image.dtype).view_as(image)).clamp(0, 1)
    with torch.no_grad():
        path = pair(along)
    return {
        "point": (values + jacobian @ perturbation).tolist(),
        "norm": float(perturbation.norm()),
        "norm_clipped": float((along[_WHOLE] - image[0]).norm()),
        "path": path.double().tolist(),
        "reached": bool(pair.encoding.reached(path[_WHOLE, None], target)[0]),
    }


def _candidates(targets: Path, test: ImageSet) -> tuple[list[str], Tensor]:
    """The first images of a target file."""
    image_ids = read_targets(targets)["image_id"].astype(str).tolist()[:CANDIDATES]
    positions = {name: position for position, name in enumerate(test.ids)}
    missing = [name for name in image_ids if name not in positions]
    if missing or not image_ids:
        raise ValueError(f"{targets} names no image, or one that the test split lacks: make the targets again")
    return image_ids, test.images([positions[name] for name in image_ids])


def _label_indices(names: Sequence[str] | None, class_names: list[str]) -> tuple[int, int] | None:
    if not names:
        return None
    unknown = [name for name in names if name not in class_names]
    if unknown or len(set(names)) != 2:
        raise ValueError(f"labels must name two of {', '.join(class_names)}; got {', '.join(map(str, names))}")
    first, second = (class_names.index(name) for name in names)
    return first, second


def _png(image: Tensor) -> str:
    """An image (C, H, W) in [0, 1] as the text of a PNG file."""
    stream = io.BytesIO()
    picture_of(image).save(stream, format="png")
    return base64.b64encode(stream.getvalue()).decode()
