"""Transfer: verdicts of other classifiers by hand and on real runs, and what is refused before the work."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from typer.testing import CliRunner

from wolfe import Classifier, Codebook, MultiLabel, OneHot, hadamard
from wolfe.cli import app
from wolfe.data import build_dataset, open_split
from wolfe.experiments import transfer as stage
from wolfe.experiments.attack_run import run_attacks
from wolfe.experiments.targets import write_targets
from wolfe.experiments.transfer import write_transfer
from wolfe.experiments.transfer_verdicts import judged, shuffled
from wolfe.files import read_json, sha256, write_json
from wolfe.metrics import eight_bit
from wolfe.models import build_network, load_classifier, save_classifier

from ..conftest import rewrite_run

ROWS = [
    {"slug": "jma", "attack": "jma", "parameters": {"step_size": 0.5, "max_iterations": 15}},
    {"slug": "lots", "attack": "lots", "parameters": {"max_iterations": 4, "samples": 4}},
]


def network(name):
    if name.startswith("digits"):
        return {"name": "vgg16", "width": 0.0625}
    return {"name": "timm", "architecture": "resnet10t", "channels": [8, 8, 8, 8], "stem_width": 8}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Two data sets, four classifiers with random weights centred so that decisions vary, and their attack runs."""
    root = tmp_path_factory.mktemp("transfer")
    build_dataset("digits", {"source": "digits", "size": 32}, root / "digits", 0)
    scenes = {"source": "scenes", "size": 48, "train": 30, "validation": 4, "test": 12}
    build_dataset("scenes", scenes, root / "scenes", 0)
    encodings = {
        "digits_one": OneHot(10),
        "digits_code": Codebook(hadamard(16, 10)),
        "scenes_one": MultiLabel(20),
        "scenes_two": MultiLabel(20),
    }
    torch.manual_seed(0)
    for name, encoding in encodings.items():
        data = name.partition("_")[0]
        _save(root / "models" / name, data, open_split(root / data, "test"), network(name), encoding)
        rule = {"rule": "other_class" if data == "digits" else "flip_bits", "bits": 3}
        _attack(root, name, data, rule)
    return root


def _save(folder, data, split, network, encoding):
    channels, size, _ = split.shape
    classifier = Classifier(build_network(network, channels, encoding.size, size), encoding).eval()
    with torch.no_grad():
        images = split.images(range(12))
        last = [module for module in classifier.modules() if isinstance(module, torch.nn.Linear)][-1]
        last.weight /= classifier(images).std(dim=0).mean()
        last.bias -= classifier(images).mean(dim=0)
    description = {"network": network, "image_shape": split.shape, "class_names": split.class_names, "dataset": data}
    save_classifier(classifier, folder, description)


def _attack(root, name, data, rule):
    targets, model = root / f"{name}.parquet", root / "models" / name
    write_targets(model, root / data, {"only_correct": False, "images": 5, **rule}, targets, 0, "cpu")
    out = root / "attacks" / name / "chosen"
    run_attacks(model, targets, root / data, ROWS, out, root / "store", 0, "cpu", 5, 5, True)


def runs_of(root, *names: str):
    return [root / "attacks" / name / "chosen" / row["slug"] for name in names for row in ROWS]


def models_of(root, *names: str):
    return [root / "models" / name for name in names]


def vectors(column):
    return np.stack([np.asarray(value) for value in column])


# What a classifier says of attacked images.


def test_verdicts_on_classes_by_hand():
    clean = torch.tensor([[2.0, 1, 0], [0, 3, 1], [0, 0, 5]])
    after = torch.tensor([[0.0, 4, 0], [0, 3, 1], [6, 0, 5]])
    rounded = torch.tensor([[0.0, 0, 4], [0, 3, 1], [0, 0, 5]])
    records = pd.DataFrame({"true_label": [0, 1, 1], "target": [1, 2, 0]})
    found = judged(OneHot(3), records, clean, {"": after, "_8bit": rounded})
    assert found["decided_rightly"].tolist() == [True, True, False]
    assert found["prediction"].tolist() == [1, 1, 0]
    assert found["targeted"].tolist() == [True, False, True]
    assert found["untargeted"].tolist() == [True, False, True]
    assert found["targeted_8bit"].tolist() == [False, False, False]
    assert found["untargeted_8bit"].tolist() == [True, False, True]
    assert found.filter(like="bits_").to_numpy().sum() == 0, "a one-hot classifier has no bits of its own"


def test_verdicts_on_labels_bit_by_bit():
    clean = torch.tensor([[1.0, -1, -1, 2]])
    after = torch.tensor([[-1.0, -1, 3, -2]])
    records = pd.DataFrame({"true_label": [[1, 0, 0, 1]], "target": [[0, 1, 0, 1]]})
    found = judged(MultiLabel(4), records, clean, {"": after, "_8bit": clean}).iloc[0]
    assert (found["decided_rightly"], found["already_there"]) == (True, False)
    assert (found["bits_total"], found["bits_asked"]) == (4, 2)
    assert (found["bits_reached"], found["bits_changed"]) == (1, 3), "label 1 stays off, labels 2 and 3 change unasked"
    assert (found["targeted"], found["untargeted"]) == (False, True)
    assert (found["bits_reached_8bit"], found["untargeted_8bit"]) == (0, False)


def test_verdicts_on_codes_count_the_bits_of_the_classifier_that_is_asked():
    encoding = Codebook(hadamard(4, 3))
    clean = 2 * encoding.codewords[torch.tensor([0, 1])]
    after = clean.clone()
    after[0] = 2 * encoding.codewords[2]
    after[1, 0] *= -0.1
    records = pd.DataFrame({"true_label": [0, 1], "target": [2, 2]})
    found = judged(encoding, records, clean, {"": after})
    distances = (encoding.codewords[[0, 1]] != encoding.codewords[2]).sum(dim=1)
    assert found["bits_asked"].tolist() == distances.tolist()
    assert found["bits_reached"][0] == distances[0]
    assert found["targeted"].tolist() == [True, False]
    assert (found["bits_changed"][1], found["untargeted"][1]) == (1, False), "one weak bit does not change the class"


def test_an_image_that_the_other_classifier_has_at_its_target_already_is_told():
    records = pd.DataFrame({"true_label": [0], "target": [1]})
    logits = torch.tensor([[0.0, 1]])
    assert judged(OneHot(2), records, logits, {"": logits})["already_there"].tolist() == [True]


@settings(deadline=None)
@given(st.integers(1, 4), st.integers(0, 1000))
def test_shuffled_perturbations_keep_their_values_and_depend_on_the_name_alone(images, seed):
    generator = torch.Generator().manual_seed(seed)
    before = 0.3 + 0.4 * torch.rand(images, 3, 4, 4, generator=generator)
    after = before + 0.2 * torch.rand(before.shape, generator=generator)
    names = [f"test-{index:05d}" for index in range(images)]
    noise = shuffled(before, after, names)
    expected, found = (torch.sort((x - before).flatten(1)).values for x in (after, noise))  # noqa: PD011
    torch.testing.assert_close(found, expected)
    assert torch.equal(shuffled(before[-1:], after[-1:], names[-1:]), noise[-1:])
    assert shuffled(before, 2 * after, names).amax() <= 1


# Runs, classifiers and data on disk.


@pytest.mark.parametrize("data", ["digits", "scenes"])
def test_records_are_what_the_classifiers_say_of_the_stored_images(finished, tmp_path, data):
    names = [folder.name for folder in sorted((finished / "models").glob(f"{data}_*"))]
    runs, models = runs_of(finished, *names), models_of(finished, *names)
    before = {run: sha256(run) for run in runs}
    write_transfer(runs, models, finished / data, tmp_path / "out", "cpu", batch_size=3)
    records = pd.read_parquet(tmp_path / "out" / "records.parquet")
    assert len(records) == 5 * len(ROWS) * len(names), "each run is asked about at one other classifier"
    assert (records["source"] != records["classifier"]).all()
    assert {run: sha256(run) for run in runs} == before, "what is finished stays as it was"
    split = open_split(finished / data, "test")
    for (source, other, slug), part in records.groupby(["source", "classifier", "slug"]):
        classifier, folder = load_classifier(finished / "models" / other), finished / "attacks" / source / "chosen"
        images = load_file(folder / slug / "adversarials.safetensors")["adversarials"]
        own = pd.read_parquet(folder / slug / "records.parquet")
        assert part["image_id"].tolist() == own["image_id"].tolist()
        assert part["l2"].tolist() == own["l2"].tolist()
        with torch.no_grad():
            after, rounded = (classifier.decide(torch.from_numpy(x)).numpy() for x in (images, eight_bit(images)))
            clean = classifier.decide(split.images([split.ids.index(name) for name in part["image_id"]])).numpy()
        target, true = vectors(part["target"]), vectors(part["true_label"])
        assert part["targeted"].tolist() == _same(after, target)
        assert part["targeted_8bit"].tolist() == _same(rounded, target)
        assert part["untargeted_shuffled"].dtype == bool
        assert part["untargeted"].tolist() == [not same for same in _same(after, true)]
        assert part["decided_rightly"].tolist() == _same(clean, true)


def _same(first, second):
    return (first == second).reshape(len(first), -1).all(axis=1).tolist()


def test_batches_change_nothing_and_the_manifest_holds_checksums(finished, tmp_path):
    names = ("digits_one", "digits_code")
    for size in (1, 64):
        out = tmp_path / str(size)
        runs = runs_of(finished, *names)
        write_transfer(runs, models_of(finished, *names), finished / "digits", out, "cpu", batch_size=size)
        run = read_json(out / "run.json")
        assert run["outputs"] == {"records.parquet": sha256(out / "records.parquet")}
        assert run["runs"] == {"/".join(folder.parts[-3:]): sha256(folder / "run.json") for folder in runs}
        assert set(run["classifiers"]) == set(names)
    pd.testing.assert_frame_equal(*[pd.read_parquet(tmp_path / size / "records.parquet") for size in ("1", "64")])


def test_nothing_is_attacked_and_an_outside_run_needs_no_classifier_of_its_own(finished, tmp_path, monkeypatch):
    def refuse(*_: object, **__: object):
        raise AssertionError("an attack was run")

    monkeypatch.setattr("wolfe.attacks.base.Attack.__call__", refuse)
    runs = runs_of(finished, "digits_one")
    write_transfer(runs, models_of(finished, "digits_code"), finished / "digits", tmp_path / "out", "cpu")
    assert set(pd.read_parquet(tmp_path / "out" / "records.parquet")["classifier"]) == {"digits_code"}


def _other_labels(root):
    path = root / "models" / "digits_code" / "classifier.json"
    write_json(path, json.loads(path.read_text()) | {"class_names": [f"digit {index}" for index in range(10)]})


def _other_size(root):
    path = root / "models" / "digits_code" / "classifier.json"
    write_json(path, json.loads(path.read_text()) | {"image_shape": [1, 64, 64]})


def _empty(root):
    folder = root / "attacks" / "digits_one" / "chosen" / "jma"
    pd.read_parquet(folder / "records.parquet")[:0].to_parquet(folder / "records.parquet")
    run = read_json(folder / "run.json")
    run["outputs"]["records.parquet"] = sha256(folder / "records.parquet")
    rewrite_run(folder, run)


def _missing(root):
    (root / "attacks" / "digits_one" / "chosen" / "jma" / "adversarials.safetensors").unlink()


def _damaged(root):
    with (root / "attacks" / "digits_one" / "chosen" / "jma" / "adversarials.safetensors").open("ab") as stream:
        stream.write(b"more")


def _other_data(root):
    folder = root / "attacks" / "digits_one" / "chosen" / "jma"
    run = read_json(folder / "run.json")
    rewrite_run(folder, run | {"depends_on": run["depends_on"] | {"data": "0" * 64}})


def _no_weights(root):
    (root / "models" / "digits_code" / "classifier.json").unlink()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (_other_labels, ValueError, "has other labels than"),
        (_other_size, ValueError, "takes images of shape"),
        (_empty, ValueError, "holds no image"),
        (_missing, FileNotFoundError, "adversarials.safetensors is missing"),
        (_damaged, ValueError, "adversarials.safetensors is damaged"),
        (_other_data, ValueError, "did not attack the images of"),
        (_no_weights, FileNotFoundError, "classifier.json is missing"),
    ],
)
def test_what_does_not_fit_is_told_before_the_work(finished, tmp_path, monkeypatch, change, error, message):
    root = tmp_path / "copy"
    for name in ("attacks/digits_one", "models", "digits"):
        shutil.copytree(finished / name, root / name)
    change(root)
    monkeypatch.setattr(stage, "load_classifier", lambda *_: pytest.fail("work had begun"))
    models = models_of(root, "digits_one", "digits_code")
    with pytest.raises(error, match=message):
        write_transfer(runs_of(root, "digits_one"), models, root / "digits", tmp_path / "out", "cpu")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("runs", "models", "message"),
    [
        ((), ("digits_code",), "no attack run was given"),
        (("digits_one",), (), "no classifier was given"),
        (("digits_one",), ("digits_one",), "attacked the only classifier that was given"),
        (("digits_one", "digits_one"), ("digits_code",), "is given twice"),
        (("digits_one",), ("digits_code", "digits_code"), "is given twice"),
        (("scenes_one",), ("digits_code",), "did not attack the images of"),
        (("digits_one",), ("scenes_one",), "has other labels than"),
    ],
)
def test_runs_and_classifiers_that_do_not_go_together_are_refused(finished, tmp_path, runs, models, message):
    with pytest.raises(ValueError, match=message):
        write_transfer(
            runs_of(finished, *runs), models_of(finished, *models), finished / "digits", tmp_path / "out", "cpu"
        )


def test_the_command_line_hands_everything_on(monkeypatch, tmp_path):
    given = []
    monkeypatch.setattr("wolfe.experiments.transfer.write_transfer", lambda *values: given.append(values))
    options = ["--model", "m", "--model", "n", "--data", "d", "--out", "o", "--device", "cpu", "--batch-size", "7"]
    assert CliRunner().invoke(app, ["transfer", "a", "b", *options]).exit_code == 0
    assert given == [([Path("a"), Path("b")], [Path("m"), Path("n")], Path("d"), Path("o"), "cpu", 7)]
