"""How strong adversarial examples look and how well they transfer, step by step.

Ozbulak, De Neve, Van Messem: "How the Softmax Output is Misleading for Evaluating the Strength of Adversarial
Examples", 2018, Appendix B. Every model is attacked on the same images, towards the same classes, by ascents that go on
after full confidence (`over_optimised`) and by ascents on two classes (`multi_class`), and all models are asked about
what each step has made. An example transfers where another model decides for the target, or for either of two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor

from wolfe.attacks import Attack, Context, build
from wolfe.classifier import Classifier, ready_for_attack
from wolfe.data.image_set import open_split
from wolfe.experiments.attack_run import RECORDS, RUN
from wolfe.experiments.softmax_images import Examples, chosen_examples
from wolfe.experiments.softmax_watch import Watch
from wolfe.experiments.store import Store
from wolfe.experiments.transfer_checks import checked_models
from wolfe.files import atomic_path, sha256
from wolfe.fingerprint import code_fingerprint
from wolfe.models.folding import for_attack
from wolfe.models.portions import Portions
from wolfe.models.storage import load_classifier
from wolfe.provenance import Run, begin_run, checksums, device_name
from wolfe.study.needs import experiment_inputs

PICTURES = "pictures.safetensors"
ATTACKS = {"over_optimised": "over_optimised", "multi_class": "multi_class_optimised"}
"""The kinds of examples, and the attacks that make them."""
_MODULES = ("wolfe.experiments.softmax", *(f"wolfe.attacks.{name}" for name in ATTACKS.values()))
_PARAMETERS = {"over_optimised": ("multiplier",), "multi_class": ("multiplier", "smaller_multiplier")}
_IMAGES, _ITERATIONS, _BATCH = 48, 500, 64
# Images that are finished and kept together.
_TOGETHER = 256
# Images and steps whose pictures are kept.
_SHOWN, _SHOWN_STEPS = 8, 24


def write_softmax(spec: Mapping[str, Any], results: Path, out: Path, seed: int, device: str) -> None:
    """Attacks each model in both ways and writes what all models say at every step.

    Finished attacks, some images each, are kept in `results/store`.

    Args:
        spec: `dataset`, `models` (names), and, where other than by default, `images` (48), `iterations` (500), and
            `over_optimised` and `multi_class` with the multipliers of these attacks.
        results: the folder of `data/<dataset>` and `models/<name>`.
        out: a folder for `records.parquet` (see `Watch`), `pictures.safetensors` (some images at some steps as bytes,
            "<kind>.<model>" (images, steps, C, H, W)) and `run.json` with their checksums.
        seed: the study's: which images, which classes.
        device: "cpu" or "cuda".

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, a parameter is wrong, models differ in their labels or have no class for each
            output, or too few images are classified correctly by all. All of this is found before the attacks.
    """
    data = Path(results) / "data" / spec["dataset"]
    run = begin_run("experiment", spec, experiment_inputs({**spec, "kind": "softmax"}, results), data, seed)
    attacks = attacks_of(spec)
    known = checked_models([Path(results) / "models" / name for name in spec["models"]], data)
    if len(known) < 2:
        raise ValueError(f"experiment {spec['name']!r} needs at least two models to transfer between")
    classifiers = {folder.name: load_classifier(folder, device) for folder, _ in known}
    _check_encodings(attacks, classifiers)
    split = open_split(data, "test")
    examples = chosen_examples(classifiers, split, spec["dataset"], int(spec.get("images", _IMAGES)), seed)
    depends_on = {
        "weights": {folder.name: weights for folder, weights in known},
        "data": sha256(data / "card.json"),
        "seed": seed,
        "device": torch.device(device).type,
    }
    frames, pictures = _watched(attacks, classifiers, examples, Store(Path(results) / "store"), depends_on)
    content = {
        "spec": dict(spec),
        "attacks": {
            kind: {"attack": ATTACKS[kind], "parameters": dict(vars(attack))} for kind, attack in attacks.items()
        },
        "class_names": split.class_names,
        "test_images": len(split),
        "shown": {"images": examples.ids[:_SHOWN], "steps": shown_steps(_steps(spec))},
        "depends_on": depends_on,
        "device": device_name(next(iter(classifiers.values())).device),
    }
    _write(pd.concat(frames, ignore_index=True), pictures, run, content, Path(out))


def _steps(spec: Mapping[str, Any]) -> int:
    return int(spec.get("iterations", _ITERATIONS))


def attacks_of(spec: Mapping[str, Any]) -> dict[str, Attack]:
    """The attack of each kind of examples.

    Raises:
        ValueError: a parameter that is not for the experiment to choose, or a value out of range.
    """
    found = {}
    for kind, attack in ATTACKS.items():
        parameters = dict(spec.get(kind) or {})
        for name in parameters:
            if name not in _PARAMETERS[kind]:
                raise ValueError(
                    f"experiment {spec['name']!r}: {kind} takes {', '.join(_PARAMETERS[kind])}, not {name!r}"
                )
        found[kind] = build({"attack": attack, "max_iterations": _steps(spec), **parameters})
    return found


def _check_encodings(attacks: Mapping[str, Attack], classifiers: Mapping[str, Classifier]) -> None:
    for name, classifier in classifiers.items():
        if not all(attack.serves(classifier.encoding) for attack in attacks.values()):
            kind = type(classifier.encoding).__name__
            raise ValueError(
                f"model {name} has {classifier.encoding.size} outputs of the encoding {kind}: the softmax "
                "of at least three classes is needed"
            )


def _watched(
    attacks: Mapping[str, Attack],
    classifiers: Mapping[str, Classifier],
    examples: Examples,
    store: Store,
    depends_on: Mapping[str, Any],
) -> tuple[list[pd.DataFrame], dict[str, np.ndarray]]:
    """The records and the pictures of each model under each attack, some images after the other."""
    frames, pictures = [], {}
    faster = {name: for_attack(one, examples.images[:_BATCH].to(one.device)) for name, one in classifiers.items()}
    with ExitStack() as ready:
        for one in faster.values():
            ready.enter_context(ready_for_attack(one))
        for kind, attack in attacks.items():
            key = store.key(kind=kind, attack=repr(attack), code=_code(), **depends_on)
            for source in faster:
                shown = []
                for number, part in enumerate(examples.parts(_TOGETHER)):
                    make = partial(_make, kind, attack, faster, source, part, number == 0, int(depends_on["seed"]))
                    name = hashlib.sha256("/".join(part.ids).encode()).hexdigest()[:16]
                    folder, _ = store.piece(key, f"{source}-{name}", make)
                    frames.append(pd.read_parquet(folder / RECORDS))
                    shown.append(load_file(folder / PICTURES)["pictures"])
                pictures[f"{kind}.{source}"] = shown[0]
    return frames, pictures


def _code() -> str:
    return code_fingerprint(*_MODULES)


def _make(
    kind: str,
    attack: Attack,
    classifiers: Mapping[str, Classifier],
    source: str,
    examples: Examples,
    first: bool,
    seed: int,
    folder: Path,
) -> None:
    """Attacks some images on one model and fills a folder of the store; of the first ones pictures are kept."""
    steps = int(vars(attack)["max_iterations"])
    watch = Watch(classifiers, source, examples.images, steps, shown_steps(steps), _SHOWN if first else 0)
    context = Context(image_ids=examples.ids, seed=seed, labels=examples.labels, observer=watch)
    result = attack(classifiers[source], examples.images, examples.targets, context=context, batch_size=_BATCH)
    seen = _with_ends(watch.frame(), classifiers, result.adversarials, steps)
    _named(seen, kind, source, examples).to_parquet(folder / RECORDS, index=False)
    save_file({"pictures": watch.pictures}, folder / PICTURES)


@torch.no_grad()
def _with_ends(seen: pd.DataFrame, classifiers: Mapping[str, Classifier], images: Tensor, steps: int) -> pd.DataFrame:
    """Adds `float_prediction_<model>`: the decision on the last images (N, C, H, W) before rounding; -1 elsewhere."""
    last = (seen["step"] == steps).to_numpy()
    decided = {}
    for name, one in classifiers.items():
        column = np.full(len(seen), -1)
        column[last] = torch.cat([Portions().joined(one.decide, part) for part in images.split(_BATCH)]).cpu().numpy()
        decided[f"float_prediction_{name}"] = column
    return seen.assign(**decided)


def shown_steps(iterations: int) -> list[int]:
    """The steps whose pictures are kept: the image as it came, and others at about equal ratios up to the last."""
    return sorted({0, *np.rint(np.geomspace(1, iterations, _SHOWN_STEPS)).astype(int).tolist()})


def _named(seen: pd.DataFrame, kind: str, source: str, examples: Examples) -> pd.DataFrame:
    """What was seen, with which example each line is about before it."""
    place = seen.pop("position").to_numpy()
    seconds = examples.seconds.numpy() if kind == "multi_class" else np.full(len(examples.ids), -1)
    named = pd.DataFrame(
        {
            "kind": kind,
            "source": source,
            "image_id": np.asarray(examples.ids)[place],
            "true_label": examples.labels.numpy()[place],
            "target": examples.targets.numpy()[place],
            "second": seconds[place],
        }
    )
    return pd.concat([named, seen], axis=1)


def _write(
    records: pd.DataFrame, pictures: dict[str, np.ndarray], run: Run, content: dict[str, Any], out: Path
) -> None:
    """Writes everything with its checksums, all or nothing."""
    with atomic_path(out) as temporary:
        temporary.mkdir()
        records.to_parquet(temporary / RECORDS, index=False)
        save_file(pictures, temporary / PICTURES)
        outputs = checksums([temporary / RECORDS, temporary / PICTURES])
        run.write(temporary / RUN, outputs, _MODULES, **content)
