"""One picture of a user's own under one attack."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from wolfe.attacks import Context, build
from wolfe.classifier import Classifier
from wolfe.data.image_set import open_split
from wolfe.experiments.pictures import picture_of
from wolfe.experiments.records import make_records
from wolfe.experiments.references import References
from wolfe.files import atomic_path, write_json
from wolfe.models.folding import for_attack
from wolfe.models.storage import DESCRIPTION, WEIGHTS, load_classifier, load_description
from wolfe.provenance import RUN, begin_run, checksums, device_name
from wolfe.reading.pictures import read_picture


def attack_image(
    model: Path, image: Path, target: str, attack: dict[str, Any], out: Path, device: str, data: Path | None = None
) -> Path:
    """Attacks a picture and writes what came of it.

    The picture is cropped in the middle to the model's proportions and resized to its input size.

    Args:
        model: folder of a trained model.
        image: a picture that Pillow reads.
        target: a class name or index; for multi-label models label names separated by commas ("none" for no
            label), or changes to the present labels ("+red 3,-blue 5").
        attack: a study's row, e.g. {"attack": "jma", "step_size": 0.1}.
        out: folder for original.png, adversarial.png (8 bits), adversarial.safetensors (as found), result.json
            and run.json.
        device: "cpu" or "cuda".
        data: folder of the data set; needed by attacks that look at training images, and it tells those that keep
            labels consistent which label implies which.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: there is no picture, or no model.
        ValueError: the file is no picture, the target is unknown, or the attack's row is wrong.
    """
    read = [Path(image), *(Path(model) / name for name in (WEIGHTS, DESCRIPTION))]
    run = begin_run("attack", attack, read, data)
    method = build(attack)
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: name a folder for the results")
    description = load_description(model)
    classifier = load_classifier(model, device)
    names: list[str] = description["class_names"]
    picture = _read_picture(image, description["image_shape"])
    with torch.no_grad():
        present = classifier.decide(picture.to(classifier.device)).cpu()
    wanted = _parse_target(target, names, present[0])
    needs_examples = "reference_logits" in method.requires
    context = Context(
        image_ids=[image.name],
        reference_logits=_references(classifier, data, wanted) if needs_examples else None,
        label_graph=open_split(data, "test").label_graph if data else None,
    )
    result = method(for_attack(classifier, picture.to(classifier.device)), picture, wanted, context=context)
    records = make_records(classifier, [image.name], picture, present, wanted, result, context.label_graph)
    record = records.iloc[0].to_dict()
    with atomic_path(out) as folder:
        folder.mkdir()
        picture_of(picture[0]).save(folder / "original.png")
        picture_of(result.adversarials[0].cpu()).save(folder / "adversarial.png")
        save_file({"adversarial": result.adversarials.cpu().contiguous()}, folder / "adversarial.safetensors")
        write_json(
            folder / "result.json",
            {
                "attack": {"attack": attack["attack"], **dataclasses.asdict(method)},
                "class_names": names,
                "label_graph": context.label_graph is not None,
                "model": model.resolve().name,
                "weights_sha256": description["weights_sha256"],
                "record": _plain(record),
            },
        )
        modules = [type(method).__module__, "wolfe.experiments.single"]
        outputs = checksums(sorted(folder.iterdir()))
        run.write(folder / RUN, outputs, modules, device=device_name(classifier.device))
    return out


def _read_picture(path: Path, shape: list[int]) -> Tensor:
    """The picture (1, C, H, W) in [0, 1], in the model's colours and size."""
    channels, height, width = shape
    try:
        picture = read_picture(path, "L" if channels == 1 else "RGB")
    except ValueError as error:
        raise ValueError(f"{path} is no picture that can be read ({error})") from error
    scale = min(picture.width / width, picture.height / height)
    left, top = (picture.width - scale * width) / 2, (picture.height - scale * height) / 2
    if picture.size != (width, height):
        box = (left, top, left + scale * width, top + scale * height)
        picture = picture.resize((width, height), Image.Resampling.BICUBIC, box=box)
    values = np.asarray(picture, dtype=np.float32).reshape(height, width, channels) / 255
    return torch.from_numpy(values).permute(2, 0, 1)[None].contiguous()


def _parse_target(text: str, names: list[str], present: Tensor) -> Tensor:
    if present.ndim == 0:
        return torch.tensor([_index(text, names)])
    vector = present.clone()
    items = [item.strip() for item in text.split(",") if item.strip()]
    if items == ["none"]:
        return torch.zeros_like(vector)[None]
    relative = [item[0] in "+-" for item in items]
    if not items or (any(relative) and not all(relative)):
        raise ValueError(
            f"target {text!r}: give label names separated by commas, 'none', or changes that all begin with + or -"
        )
    if not any(relative):
        vector.zero_()
    for item, change in zip(items, relative, strict=True):
        vector[_index(item[1:] if change else item, names)] = 0 if change and item[0] == "-" else 1
    return vector[None]


def _index(name: str, names: list[str]) -> int:
    """The position of a class or label, by its name or its number."""
    name = name.strip()
    if name in names:
        return names.index(name)
    if name.isdecimal() and int(name) < len(names):
        return int(name)
    shown = ", ".join(names[:40]) + (", ..." if len(names) > 40 else "")
    raise ValueError(f"unknown target {name!r}; the model knows {shown}")


def _references(classifier: Classifier, data: Path | None, wanted: Tensor) -> Tensor:
    if data is None:
        raise ValueError("this attack needs training images of the target: name their data set with --data")
    references = References(classifier, open_split(data, "train"), seed=0)(wanted)
    if bool(references.isnan().any()):
        raise ValueError(f"{data} has no training image with that target, which this attack needs")
    return references


def _plain(record: dict[Any, Any]) -> dict[str, Any]:
    """The record with Python's own types; infinity and missing values become null."""
    plain = {key: value.item() if isinstance(value, np.generic) else value for key, value in record.items()}
    plain = {key: None if value is pd.NA else value for key, value in plain.items()}
    return {key: None if isinstance(value, float) and not np.isfinite(value) else value for key, value in plain.items()}
