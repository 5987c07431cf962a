"""Does every network of the published scale build, run forward and make one iteration of JMA on real images?

    python -m benchmarks full_size --images data

Needs no network and no GPU, but the memory for the largest: an ensemble of 32 VGG16 branches has 1.3 thousand million
parameters. Weights are drawn: what is tried is that sizes, images and attack go together, not how good a network is.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure

from benchmarks.answer import COLOURS, Answer
from benchmarks.settings import Settings
from wolfe.attacks import JMA
from wolfe.classifier import Classifier
from wolfe.data import build_dataset, open_split
from wolfe.encoding import Encoding
from wolfe.models.fresh import make_encoding
from wolfe.models.networks import build_network
from wolfe.models.pretrained import without_weights
from wolfe.models.training import count_parameters
from wolfe.study import load_study
from wolfe.study.sources import classes_of, is_multi_label

_STUDY = Path(__file__).parents[1] / "config" / "paper.yaml"
# Sets of which a folder may hold no images, and where images of the same kind are.
_STAND_INS = {"voc2012": "voc2007", "nus_wide": "coco", "imagenet21k": "imagenet"}
_SPLITS = {"mnist": "test", "cifar10": "test", "gtsrb": "test"}
_STEP = 0.5
_WHOLE_IMAGES, _QUICK_IMAGES = 2, 1
_MEGABYTE = 1 << 20


def answer(settings: Settings) -> Answer:
    """Tries every network that a table of the published scale attacks.

    Raises:
        FileNotFoundError: no folder of images was named.
    """
    if settings.images is None:
        raise FileNotFoundError("full_size: name the folder of the published sets' files: --images data")
    study = load_study(_STUDY)
    attacked = [table["model"] for table in study.tables.values() if table["kind"] == "attacks"]
    lines = []
    for name in dict.fromkeys(attacked):
        # A process of its own: its memory is this network's, and is given back.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
            tables = [key for key, table in study.tables.items() if table.get("model") == name]
            model = study.models[name]
            line = pool.submit(tried, name, model, study.datasets[model["dataset"]], settings).result()
        lines.append({"model": name, "tables": " ".join(tables), **line})
        print(f"  {lines[-1]}", flush=True)
    return Answer(
        name="full_size",
        title="Networks of the published scale: one forward pass and one iteration of JMA",
        table=pd.DataFrame(lines),
        draw=_draw,
        notes=[
            "Weights are drawn (published ones need a network), the last layer is scaled so that logits vary; so the "
            "decisions mean nothing and success is not the question.",
            f"JMA with step size {_STEP} makes one iteration: the whole linear step, and where that does not reach the "
            "target a step of that length. Moved is the median L2 length of what it did.",
            "Images are real, of the set named; seconds are for one image, memory is the process's largest.",
        ],
        size=(10.0, 5.0),
    )


def tried(name: str, model: dict[str, Any], dataset: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Builds a network at full size, runs it and makes one iteration of JMA.

    Args:
        name: of the model in the study.
        model: its entry.
        dataset: the entry of its data set.
        settings: of the run.
    """
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    count = settings.pick(_QUICK_IMAGES, _WHOLE_IMAGES)
    images, origin = _images(name, dataset, count, settings)
    encoding = make_encoding(model, classes_of(dataset), "multi" if is_multi_label(dataset) else "single")
    channels, size = images.shape[1:3]
    begin = time.perf_counter()
    network = build_network(without_weights(model["network"]), channels, encoding.size, size)
    built = time.perf_counter() - begin
    classifier = Classifier(network, encoding, [0.5] * channels, [0.25] * channels).to(settings.device).eval()
    images = images.to(settings.device)
    _spread_logits(classifier, images)
    with torch.no_grad():
        classifier(images)  # libraries choose their kernels at the first call
        begin = time.perf_counter()
        logits = classifier(images)
        forward = time.perf_counter() - begin
    targets = _targets(encoding, logits)
    begin = time.perf_counter()
    result = JMA(step_size=_STEP, max_iterations=1)(classifier, images, targets)
    iteration = time.perf_counter() - begin
    moved = (result.adversarials.cpu() - images.cpu()).flatten(1).norm(dim=1)
    return {
        "network": str(model["network"].get("architecture", model["network"]["name"])),
        "parameters": count_parameters(classifier),
        "outputs": encoding.size,
        "images": f"{count} of {origin}, {'x'.join(map(str, images.shape[1:]))}",
        "finite": bool(logits.isfinite().all() and result.adversarials.isfinite().all()),
        "moved": round(float(moved.median()), 4),
        "status": " ".join(sorted({str(status) for status in result.status})),
        "build s": round(built, 1),
        "forward s": round(forward / count, 4),
        "JMA iteration s": round(iteration / count, 3),
        "memory MB": _peak_memory(settings.device),
    }


def _images(name: str, dataset: dict[str, Any], count: int, settings: Settings) -> tuple[torch.Tensor, str]:
    """Real images (count, C, H, W) as the study would make them, and the set that they are of."""
    assert settings.images is not None
    collection = dataset["collection"]
    if not (settings.images / collection).is_dir():
        collection = _STAND_INS.get(collection, collection)
    split = _SPLITS.get(collection, "validation")
    parts = {"train": f"{split}[:{count}]", "validation": f"{split}[{count}:{2 * count}]"}
    entry = {key: value for key, value in dataset.items() if key not in ("classes", "per_class", "revision")}
    entry |= {"collection": collection, "data_root": str(settings.images / collection), "partial": True}
    entry["splits"] = {**parts, "test": f"{split}[{2 * count}:{3 * count}]"}
    folder = settings.work / "full_size" / name
    build_dataset(name, entry, folder, settings.seed)
    return open_split(folder, "test").images(range(count)), collection


def _spread_logits(classifier: Classifier, images: torch.Tensor) -> None:
    """Gives drawn networks logits of the size of trained ones, so that an iteration has something to solve."""
    last = [layer for layer in classifier.modules() if isinstance(getattr(layer, "weight", None), torch.Tensor)][-1]
    with torch.no_grad():
        size = classifier(images).std().clamp(min=1e-12)
        for tensor in (last.weight, getattr(last, "bias", None)):
            if isinstance(tensor, torch.Tensor):
                tensor.mul_(5 / size)


def _targets(encoding: Encoding, logits: torch.Tensor) -> torch.Tensor:
    """The next class, or the present labels with the first two flipped."""
    present = encoding.decide(logits)
    if encoding.multi_label:
        present[:, :2] = 1 - present[:, :2]
        return present
    return (present + 1) % int(getattr(encoding, "classes", encoding.size))


def _peak_memory(device: str) -> int:
    if device.startswith("cuda"):
        return round(torch.cuda.max_memory_allocated() / _MEGABYTE)
    # Linux counts in kilobytes, macOS in bytes.
    scale = _MEGABYTE if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale)


def _draw(figure: Figure, table: pd.DataFrame) -> None:
    axes = figure.subplots()
    places = range(len(table))
    for shift, column, colour in ((-0.2, "forward s", COLOURS[0]), (0.2, "JMA iteration s", COLOURS[1])):
        axes.barh([place + shift for place in places], table[column], 0.4, color=colour, label=column)
    axes.set_yticks(list(places), list(table["model"]))
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("seconds for one image")
    axes.legend(frameon=False)
