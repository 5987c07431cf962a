"""A made-up study on disk: records, images, models and data with known properties, for the tests of the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import save_file

from wolfe.files import sha256
from wolfe.metrics import distortion

from ..conftest import rewrite_run

CLASSES = [str(digit) for digit in range(10)]
LABELS = [f"{colour} {digit}" for colour in ("magenta", "green") for digit in range(10)]
VERSIONS = {"python": "3.11.2", "torch": "2.13.0", "wolfe": "0.1.0"}


class FakeImages:
    """What figures need of a data set: names, pictures, class names."""

    def __init__(self, images: np.ndarray, class_names: list[str]) -> None:
        self.ids = [f"test-{index:05d}" for index in range(len(images))]
        self.class_names = class_names
        self._images = images

    def images(self, indices: list[int]) -> np.ndarray:
        return self._images[list(indices)]


def pictures(count: int, channels: int = 1, size: int = 32, seed: int = 0) -> np.ndarray:
    """Smooth pictures (N, C, H, W) in [0, 1]."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0:size, 0:size] / size
    waves = [
        0.5 + 0.4 * np.sin(generator.uniform(2, 9) * x + generator.uniform(2, 9) * y + generator.uniform(0, 6))
        for _ in range(count * channels)
    ]
    return np.stack(waves).reshape(count, channels, size, size).astype(np.float32)


def row(slug: str, attack: str, label: str, **more: Any) -> dict[str, Any]:
    """A resolved row of a table."""
    parameters = more.pop("parameters", {"max_iterations": 200})
    return {
        "slug": slug,
        "attack": attack,
        "label": label,
        "parameters": parameters,
        "asked": more.pop("asked", parameters),
        "origin": "paper",
        "cut": False,
        "published": None,
    } | more


def table_spec(name: str = "jma_04", multi_label: bool = False) -> dict[str, Any]:
    """A resolved table with JMA, a cut row of Carlini-Wagner, a row of ours, and LOTS."""
    rule = {"rule": "flip_bits", "bits": 10} if multi_label else {"rule": "other_class"}
    published = (
        {"attack": "ML-C&W", "params": "(0.01, 1000)"} if multi_label else {"attack": "C&W", "params": "(1e-4,5,500)"}
    )
    jma = {"attack": "JMA", "params": "(0.1,500)" if multi_label else "(0.05,200)"}
    rival = "ml_carlini_wagner" if multi_label else "carlini_wagner"
    shown = "ML-C&W" if multi_label else "C&W"
    tuned = {"initial_constant": 1.0, "max_iterations": 60}
    return {
        "name": name,
        "title": "Ten labels flipped" if multi_label else "Error-correcting output codes, another class at random",
        "stands_in": "small pictures stand in for large ones",
        "model": "scenes_resnet" if multi_label else "digits_ecoc",
        "dataset": "scenes" if multi_label else "digits",
        "targets": "flip_bits_10" if multi_label else "other_class",
        "rule": rule | {"only_correct": True, "images": 32},
        "images": 32,
        "encoding": "multi_label" if multi_label else "codebook",
        "budgets": [
            {"attacks": [rival, "lots"], "iteration_scale": 0.0167, "minimum_iterations": 20, "maximum_search_steps": 5}
        ],
        "rows": [
            row(
                "jma-a",
                "jma",
                f"JMA {jma['params']}",
                parameters={"step_size": 0.05, "max_iterations": 200},
                published=jma,
            ),
            row(
                "rival-cut",
                rival,
                f"{shown} {published['params']}",
                parameters={"max_iterations": 20, "search_steps": 5},
                asked={"max_iterations": 500, "search_steps": 5},
                cut=True,
                published=published,
            ),
            row("rival-ours", rival, f"{shown} (ours, short budget)", origin="ours", parameters=tuned),
            row("lots", "lots", "LOTS, tuned", origin="ours"),
        ],
    }


QUALITY = {"jma-a": (1.0, 0.03), "rival-cut": (0.0, 0.0), "rival-ours": (0.8, 0.04), "lots": (0.5, 0.07)}
"""Slug to (share of successes, size of the perturbation)."""


def write_row(
    folder: Path, slug: str, images: np.ndarray, multi_label: bool, quality: tuple[float, float], seed: int = 1
) -> None:
    """Writes one attack row as an attack run would."""
    generator = np.random.default_rng([seed, *map(ord, slug)])
    share, size = quality
    lines, adversarials = [], []
    for index, image in enumerate(images):
        found = generator.uniform() < share
        noise = (size if found else 0.1) * generator.standard_normal(image.shape)
        adversarials.append(np.clip(image + noise, 0, 1).astype(np.float32))
        lines.append(_record(index, found, multi_label) | distortion(image, adversarials[-1]))
    target = folder / slug
    target.mkdir(parents=True)
    pd.DataFrame(lines).to_parquet(target / "records.parquet", index=False)
    save_file({"adversarials": np.stack(adversarials)}, target / "adversarials.safetensors")
    write_run(target)


def write_run(folder: Path, **more: Any) -> None:
    """Writes the run.json that belongs to the files of a row."""
    names = [path.name for path in sorted(folder.iterdir()) if path.suffix in (".parquet", ".safetensors")]
    run = {"device": "CPU (x86_64, 2 threads)", "threads": 2, "versions": VERSIONS, "seconds": 12.5, "batch_size": 32}
    rewrite_run(folder, run | {"outputs": {name: sha256(folder / name) for name in names}} | more)


def write_trace(folder: Path, ranks: dict[str, list[int]], ratios: dict[str, list[float]] | None = None) -> None:
    """Writes the trace of a row and its run: for each image the ranks, and the singular ratios, from step 1 on."""
    ratios = ratios or {name: [0.1] * len(found) for name, found in ranks.items()}
    kinds = (("jacobian_rank", ranks), ("jacobian_singular_ratio", ratios))
    lines = [
        {"image_id": image_id, "step": step, "name": name, "value": float(value)}
        for name, values in kinds
        for image_id, found in values.items()
        for step, value in enumerate(found, start=1)
    ]
    pd.DataFrame(lines, columns=["image_id", "step", "name", "value"]).to_parquet(folder / "trace.parquet", index=False)
    write_run(folder)


def write_records(folder: Path, lines: list[dict[str, Any]], multi_label: bool = False) -> None:
    """Writes a row whose records differ from made-up ones in the values given, one dict an image."""
    folder.mkdir(parents=True, exist_ok=True)
    image = np.full((1, 4, 4), 0.5, dtype=np.float32)
    base = [_record(index, bool(line.get("success", True)), multi_label) for index, line in enumerate(lines)]
    frame = pd.DataFrame([one | distortion(image, image) | line for one, line in zip(base, lines, strict=True)])
    frame.to_parquet(folder / "records.parquet", index=False)
    save_file({"adversarials": np.stack([image] * len(lines))}, folder / "adversarials.safetensors")
    write_run(folder)


def _record(index: int, found: bool, multi_label: bool) -> dict[str, Any]:
    generator = np.random.default_rng(index)
    if multi_label:
        true = np.zeros(20, dtype=np.int8)
        true[generator.choice(20, 3, replace=False)] = 1
        target = true.copy()
        flipped = generator.choice(20, 10, replace=False)
        target[flipped] = 1 - target[flipped]
        prediction = target.copy()
        if not found:
            prediction[flipped[:2]] = true[flipped[:2]]
        labels = {"true_label": true.tolist(), "target": target.tolist(), "prediction": prediction.tolist()}
    else:
        true_class = index % 10
        labels = {"true_label": true_class, "target": (true_class + 3) % 10}
        labels["prediction"] = labels["target"] if found else true_class
    bits = 20 if multi_label else 16
    return {
        "image_id": f"test-{index:05d}",
        **labels,
        "status": "found" if found else ("exhausted" if index % 4 else "timed_out"),
        "success": bool(found),
        "success_8bit": bool(found and index % 7),
        "reached_logits": bool(found),
        "bits_asked": 10 if multi_label else 8,
        "bits_reached": 10 if found else 6,
        "bits_equal": bits if found else bits - 2,
        "bits_total": bits,
        "first_success": (1 if index % 3 == 0 else 10) if found else 0,
        "iterations": 10 + index,
        "forwards": 20,
        "vjps": 100,
        "jvps": 0,
        "seconds": 0.01 * (index + 1),
        "batch_size": 32,
    }


def write_attacks(folder: Path, spec: dict[str, Any], images: np.ndarray) -> Path:
    """Writes all rows of a table under `folder/attacks/<model>/<rule>`."""
    attacks = folder / "attacks" / spec["model"] / spec["targets"]
    for slug in dict.fromkeys(row["slug"] for row in spec["rows"]):
        write_row(attacks, slug, images, spec["encoding"] == "multi_label", QUALITY[slug])
    return attacks
