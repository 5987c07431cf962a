"""Small valid files of every format that is read; what the fuzzer starts from."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from safetensors.numpy import save

from wolfe import Classifier, Codebook, MultiLabel, OneHot, hadamard
from wolfe.data import build_dataset
from wolfe.models.networks import build_network
from wolfe.models.storage import save_classifier
from wolfe.report.records import COLUMNS

STUDY = b"""study: small
title: "A study: small"
seed: 3
limits: {device: cpu, images: 3, time_limit: 5, budgets: [{attacks: [jma], iteration_scale: 0.5}]}
datasets:
  digits: {source: digits, size: 32}
  scenes: {source: scenes, size: 48, hierarchy: true, train: 64, validation: 16, test: 16}
models:
  alex: &alex
    dataset: digits
    network: {name: alexnet, width: 0.0625, small_images: true}
    encoding: {kind: one_hot}
    loss: cross_entropy
    training: {epochs: 1, batch_size: 32, learning_rate: 1e-3}
  other: {<<: *alex, training: {epochs: 2}}
  labels:
    dataset: scenes
    network: {name: timm, architecture: resnet10t, channels: [8, 8, 16, 16], stem_width: 8}
    encoding: {kind: multi_label}
    loss: binary_cross_entropy
    training: {epochs: 1}
transfers:
  both: {models: [alex, other]}
tables:
  one_1a:
    title: One
    model: alex
    targets: {rule: other_class}
    rows:
      - {attack: jma, step_size: 0.2, max_iterations: 200}
      - {attack: lots, label: ours, origin: ours, max_iterations: 10}
  one_1b:
    title: Two
    model: labels
    targets: {rule: flip_bits, bits: 3}
    rows:
      - {attack: jma, step_size: 0.2, max_iterations: 100}
  steps: {kind: one_step, title: Steps, tables: [one_1a]}
  matrix: {kind: transfer, title: Transfer, transfers: [both]}
  variants: {kind: variants, title: V, rows: [{table: one_1a, of: JMA, change: {search_steps: 7}, difference: seven}]}
figures:
  digits: {title: Digits, parts: [{table: one_1a, rows: [JMA]}]}
  geometry: {title: G, kind: geometry, table: one_1b}
"""
SPEC = json.dumps({"name": "x", "rule": "flip_bits", "bits": 3, "list": [1, "1e-4", None], "map": {"a": True}}).encode()
PUBLISHED = b'attack,params,asr,basr,mse,ssim,n_it,time_s\nJMA,"(0.2, 200)",1,,1e-4,0.99,12,0.2\n'
CALIBRATION = json.dumps(
    {"device": "cpu", "torch": "2", "together": 4, "vectorised_from": None, "push": "forward", "push_cost": 3.0}
).encode()
IDS = [f"test-{index:05d}" for index in range(4)]


def pictures() -> list[bytes]:
    """Coloured, grey and palette pictures in several formats."""
    colour = Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8))
    found = []
    for image, kind in (
        (colour, "PNG"), (colour.convert("L"), "PNG"), (colour.convert("P"), "PNG"), (colour, "JPEG"), (colour, "GIF"),
        (colour, "BMP"), (colour, "PPM"), (colour, "TIFF"), (colour, "WEBP"), (colour, "EPS"),
    ):  # fmt: skip
        stream = io.BytesIO()
        image.save(stream, format=kind)
        found.append(stream.getvalue())
    return found


def _parquet(frame: pd.DataFrame) -> bytes:
    stream = io.BytesIO()
    frame.to_parquet(stream, index=False)
    return stream.getvalue()


def records() -> list[bytes]:
    """Records of classes, and of label vectors."""
    columns = {name: np.arange(4, dtype=np.float64) for name in COLUMNS}
    labels = {"image_id": IDS, "status": ["found"] * 4}
    one = {"true_label": [0, 1, 2, 3], "target": [1, 2, 3, 4], "prediction": [1, 2, 3, 4]}
    many = {name: [[0, 1, 0]] * 4 for name in one}
    return [_parquet(pd.DataFrame({**columns, **labels, **kind})) for kind in (one, many)]


def trace() -> bytes:
    """A trace of two quantities over three steps."""
    lines = [(image, step, name, 0.5) for image in IDS for step in range(3) for name in ("a", "b")]
    return _parquet(pd.DataFrame(lines, columns=["image_id", "step", "name", "value"]))


def targets() -> list[bytes]:
    """Targets of classes, and of label vectors."""
    rows = {"image_id": IDS, "true_label": [0, 1, 2, 3], "prediction": [0, 1, 2, 3], "target": [1, 2, 3, 0]}
    vectors = {name: [[0, 1]] * 4 if name != "image_id" else IDS for name in rows}
    return [_parquet(pd.DataFrame(rows)), _parquet(pd.DataFrame(vectors))]


def adversarials() -> bytes:
    """Four attacked images."""
    return bytes(save({"adversarials": np.zeros((4, 1, 4, 4), np.float32)}))


def hub_table() -> bytes:
    """Some rows of a published set."""
    content = [{"bytes": picture, "path": None} for picture in pictures()[:4]]
    return _parquet(pd.DataFrame({"image": content, "label": [0, 1, 42, 3]}))


def weights_of_torch() -> bytes:
    """Tensors as torch writes them."""
    stream = io.BytesIO()
    torch.save({"features.0.weight": torch.zeros(4, 3), "classifier.bias": torch.zeros(4)}, stream)
    return stream.getvalue()


def write_classifiers(folder: Path) -> list[Path]:
    """Three small classifiers, one of each encoding."""
    vit = {"name": "timm", "architecture": "vit_tiny_patch16_224", "img_size": "image", "patch_size": 16, "depth": 1}
    kinds = (
        ("class", {"name": "alexnet", "width": 0.0625, "small_images": True}, OneHot(10), 1),
        ("code", {"name": "alexnet", "width": 0.0625, "small_images": True}, Codebook(hadamard(16, 10)), 1),
        ("labels", {**vit, "embed_dim": 16, "num_heads": 2}, MultiLabel(5), 3),
    )
    for name, network, encoding, channels in kinds:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net = build_network(network, channels, encoding.size, 32)
        classifier = Classifier(net, encoding, [0.5] * channels, [0.5] * channels)
        names = [f"label {number}" for number in range(getattr(encoding, "classes", encoding.size))]
        description = {"network": network, "image_shape": [channels, 32, 32], "class_names": names, "dataset": "x"}
        save_classifier(classifier, folder / name, description)
    return [folder / name for name, *_ in kinds]


def write_datasets(folder: Path) -> list[Path]:
    """A data set of classes and one of labels with a hierarchy."""
    spec = {"source": "scenes", "size": 48, "train": 6, "validation": 2, "test": 3, "hierarchy": True}
    build_dataset("scenes", spec, folder / "scenes", 0)
    few = {"source": "sequences", "size": 16, "train": 4, "validation": 225, "test": 225}
    build_dataset("sequences", few, folder / "sequences", 0)
    return [folder / "scenes", folder / "sequences"]
