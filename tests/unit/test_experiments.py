"""Targets, attack runs and single pictures, on real data sets and untrained networks."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from wolfe import Classifier, MultiLabel, OneHot
from wolfe.data import build_dataset, open_split
from wolfe.experiments import attack_run
from wolfe.experiments.attack_run import run_attacks
from wolfe.experiments.part import Part
from wolfe.experiments.references import References
from wolfe.experiments.single import attack_image
from wolfe.experiments.targets import write_targets
from wolfe.files import read_json, sha256
from wolfe.linear.rank import ROUNDING, rank_and_ratio
from wolfe.models import build_network, load_classifier, save_classifier
from wolfe.report.single import write_single

JMA_ROW = {"slug": "jma", "attack": "jma", "parameters": {"step_size": 0.5, "max_iterations": 15}}
LOTS_ROW = {"slug": "lots", "attack": "lots", "parameters": {"max_iterations": 5, "samples": 4}}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two data sets and two classifiers with random weights, centred so that decisions vary."""
    root = tmp_path_factory.mktemp("study")
    build_dataset("digits", {"source": "digits", "size": 32}, root / "digits", 0)
    spec = {"source": "scenes", "size": 48, "train": 30, "validation": 4, "test": 12}
    build_dataset("scenes", spec, root / "scenes", 0)
    torch.manual_seed(0)
    for data, network, encoding in (
        ("digits", {"name": "vgg16", "width": 0.0625}, OneHot(10)),
        (
            "scenes",
            {"name": "timm", "architecture": "resnet10t", "channels": [8, 8, 8, 8], "stem_width": 8},
            MultiLabel(20),
        ),
    ):
        split = open_split(root / data, "test")
        channels, size, _ = split.shape
        classifier = Classifier(build_network(network, channels, encoding.size, size), encoding).eval()
        with torch.no_grad():
            scale = classifier(split.images(range(12))).std(dim=0).mean()
            last = [module for module in classifier.modules() if isinstance(module, torch.nn.Linear)][-1]
            last.weight /= scale
            last.bias -= classifier(split.images(range(12))).mean(dim=0)
        description = {
            "network": network,
            "image_shape": split.shape,
            "class_names": split.class_names,
            "dataset": data,
        }
        save_classifier(classifier, root / f"model-{data}", description)
    return root


def targets(study, data, rule, name="targets"):
    out = study / f"{name}.parquet"
    rule = {"only_correct": False, "images": 5, **rule}
    write_targets(study / f"model-{data}", study / data, rule, out, 0, "cpu")
    return out, pd.read_parquet(out)


def vectors(column):
    return np.stack(column.to_numpy())


def test_other_class_never_is_the_true_one(study):
    _, frame = targets(study, "digits", {"rule": "other_class", "images": 300})
    assert (frame.target != frame.true_label).all()
    assert set(frame.target) == set(range(10))
    assert frame.image_id.is_unique


def test_flipped_bits_are_as_many_as_asked(study):
    _, frame = targets(study, "scenes", {"rule": "flip_bits", "bits": 7})
    assert ((vectors(frame.prediction) != vectors(frame.target)).sum(axis=1) == 7).all()


def test_training_labels_come_from_the_training_set(study):
    _, frame = targets(study, "scenes", {"rule": "training_labels"})
    known = {tuple(label) for label in open_split(study / "scenes", "train").labels.tolist()}
    assert all(tuple(target) in known for target in vectors(frame.target).tolist())
    assert (vectors(frame.target) != vectors(frame.prediction)).any(axis=1).all()


def test_all_off_is_all_off(study):
    _, frame = targets(study, "scenes", {"rule": "all_off"})
    assert vectors(frame.target).sum() == 0


def test_only_correct_images_are_taken(study):
    with pytest.raises(ValueError, match=r"only \d+ of 360 test images .* 300 asked for"):
        targets(study, "digits", {"rule": "other_class", "images": 300, "only_correct": True})
    _, frame = targets(study, "digits", {"rule": "other_class", "images": 3, "only_correct": True})
    assert (frame.prediction == frame.true_label).all()


def test_targets_of_an_image_do_not_depend_on_the_other_images(study):
    _, few = targets(study, "digits", {"rule": "other_class", "images": 5})
    _, many = targets(study, "digits", {"rule": "other_class", "images": 50})
    assert many[:5].equals(few)


@pytest.mark.parametrize(
    ("data", "rule", "message"),
    [
        ("digits", {"rule": "nearest"}, "unknown target rule 'nearest': other_class, training_labels"),
        ("digits", {"rule": "all_off"}, "does not fit model-digits, whose labels are class indices"),
        ("scenes", {"rule": "other_class"}, "does not fit model-scenes, whose labels are label vectors"),
        ("scenes", {"rule": "flip_bits", "bits": 21}, r"bits must be 1 to 20 \(the labels\), got 21"),
    ],
)
def test_impossible_rules_are_refused(study, data, rule, message):
    with pytest.raises(ValueError, match=message):
        targets(study, data, rule, "refused")


def run(study, data, rows, target_file, out, shard_size=2, time_limit=None):
    model, store = study / f"model-{data}", out / "store"
    run_attacks(model, target_file, study / data, rows, out, store, 0, "cpu", shard_size, 2, True, time_limit)


def test_records_are_whole_and_true(study, tmp_path):
    file, frame = targets(study, "scenes", {"rule": "flip_bits", "bits": 2}, "whole")
    run(study, "scenes", [JMA_ROW, LOTS_ROW], file, tmp_path)
    records = pd.read_parquet(tmp_path / "jma" / "records.parquet")
    images = load_file(tmp_path / "jma" / "adversarials.safetensors")["adversarials"]
    manifest = read_json(tmp_path / "jma" / "run.json")
    assert manifest["outputs"] == {name: sha256(tmp_path / "jma" / name) for name in manifest["outputs"]}
    assert records.image_id.tolist() == frame.image_id.tolist()
    split = open_split(study / "scenes", "test")
    before = split.images([split.ids.index(name) for name in records.image_id]).numpy()
    assert np.allclose(((images - before) ** 2).mean(axis=(1, 2, 3)), records.mse, atol=1e-9)
    classifier = load_classifier(study / "model-scenes")
    with torch.no_grad():
        decided = classifier.decide(torch.from_numpy(images)).numpy()
        rounded = classifier.decide(torch.from_numpy(np.rint(images * 255) / np.float32(255))).numpy()
    assert ((decided == vectors(records.target)).all(axis=1) == records.success).all()
    assert ((rounded == vectors(records.target)).all(axis=1) == records.success_8bit).all()
    assert (vectors(records.prediction) == decided).all()
    assert ((decided == vectors(records.target)).sum(axis=1) == records.bits_equal).all()
    assert (records.bits_total == 20).all()
    assert (records.batch_size <= 2).all()
    lots = pd.read_parquet(tmp_path / "lots" / "records.parquet")
    assert set(lots.status) <= {"infeasible", "exhausted", "found"}


def test_targets_of_images_that_need_not_be_correct_start_from_the_prediction(study):
    _, frame = targets(study, "scenes", {"rule": "flip_bits", "bits": 3}, "predicted")
    assert (vectors(frame.prediction) != vectors(frame.true_label)).any()
    assert ((vectors(frame.prediction) != vectors(frame.target)).sum(axis=1) == 3).all()


def test_images_at_their_target_are_left_out(study):
    _, frame = targets(study, "scenes", {"rule": "all_off", "images": 3}, "off")
    assert (vectors(frame.prediction).sum(axis=1) > 0).all()


def test_a_traced_run_tells_the_rank_of_every_jacobian(study, tmp_path):
    file, frame = targets(study, "scenes", {"rule": "flip_bits", "bits": 2}, "traced")
    run(study, "scenes", [{**JMA_ROW, "trace": "jacobian"}, LOTS_ROW], file, tmp_path)
    trace = pd.read_parquet(tmp_path / "jma" / "trace.parquet")
    assert read_json(tmp_path / "jma" / "run.json")["outputs"]["trace.parquet"] == sha256(
        tmp_path / "jma" / "trace.parquet"
    )
    assert not (tmp_path / "lots" / "trace.parquet").exists()
    records = pd.read_parquet(tmp_path / "jma" / "records.parquet").set_index("image_id")
    ranks = trace[trace.name == "jacobian_rank"]
    assert set(trace.name) == {"jacobian_rank", "jacobian_singular_ratio"}
    assert ranks.value.between(1, 20).all()
    # One Jacobian is 20 vector-Jacobian products.
    assert (ranks.groupby("image_id").size() == (records.vjps // 20).sort_index()).all()
    split, classifier = open_split(study / "scenes", "test"), load_classifier(study / "model-scenes")
    first = ranks[ranks.step == 1].set_index("image_id").value
    for name in frame.image_id:
        _, jacobian = classifier.logits_and_jacobian(split.images([split.ids.index(name)]))
        assert first[name] == np.linalg.matrix_rank(jacobian[0].flatten(1).numpy(), rtol=20**0.5 * ROUNDING)


def test_the_rank_does_not_depend_on_the_size_of_the_image():
    generator = torch.Generator().manual_seed(8)
    jacobian = torch.randn(1, 3, 1, 4, 4, generator=generator)
    jacobian[0, 2] = 1e-4 * jacobian[0, 2]
    wide = torch.cat([jacobian, torch.zeros(1, 3, 1, 4, 100_000)], dim=4)
    assert rank_and_ratio(jacobian)[0].item() == rank_and_ratio(wide)[0].item() == 3


def test_ranks_and_singular_values_are_those_of_numpy():
    generator = torch.Generator().manual_seed(4)
    jacobian = torch.randn(5, 6, 1, 4, 5, generator=generator)
    jacobian[1, 3] = jacobian[1, 0]
    jacobian[2, 1:] = 0
    jacobian[3] = 0
    jacobian[4, 2] = torch.nan
    rank, ratio = rank_and_ratio(jacobian)
    assert rank.tolist() == [6, 5, 1, 0, 0]
    singular = np.linalg.svd(jacobian[0].flatten(1).double().numpy(), compute_uv=False)
    assert ratio[0].item() == pytest.approx(singular[-1] / singular[0], rel=1e-6)
    assert ratio[1].item() < 1e-6
    assert ratio[3].item() == 0


def test_the_time_limit_of_a_run_holds_for_rows_without_one(study, tmp_path):
    file, _ = targets(study, "digits", {"rule": "other_class"}, "limit")
    own = {**JMA_ROW, "slug": "own", "parameters": {**JMA_ROW["parameters"], "time_limit": 600}}
    run(study, "digits", [JMA_ROW, own], file, tmp_path, time_limit=1e-6)
    assert set(pd.read_parquet(tmp_path / "jma" / "records.parquet").status) == {"timed_out"}
    assert "timed_out" not in set(pd.read_parquet(tmp_path / "own" / "records.parquet").status)
    assert read_json(tmp_path / "jma" / "run.json")["parameters"]["time_limit"] == 1e-6


def test_finished_shards_are_not_repeated_and_survive_a_kill(study, tmp_path, monkeypatch):
    file, _ = targets(study, "digits", {"rule": "other_class"}, "kill")
    whole = attack_run._attack_shard
    calls = []

    def counted(*arguments: object):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(attack_run, "_attack_shard", counted)
    with pytest.raises(KeyboardInterrupt):
        run(study, "digits", [JMA_ROW], file, tmp_path)
    assert not (tmp_path / "jma").exists()
    run(study, "digits", [JMA_ROW], file, tmp_path)
    # Five images in shards of two: one was finished, one was killed, two were left.
    assert len(calls) == 2 + 2
    other = {**JMA_ROW, "slug": "other", "parameters": {"step_size": 0.25, "max_iterations": 15}}
    run(study, "digits", [JMA_ROW, other], file, tmp_path)
    assert len(calls) == 4 + 3


def test_parts_fill_the_store_and_the_whole_run_attacks_nothing_again(study, tmp_path, monkeypatch):
    file, _ = targets(study, "digits", {"rule": "other_class"}, "parts")
    run(study, "digits", [JMA_ROW, LOTS_ROW], file, tmp_path / "whole")
    model, store, divided = study / "model-digits", tmp_path / "parts" / "store", tmp_path / "parts"
    common = (model, file, study / "digits", [JMA_ROW, LOTS_ROW])
    lists = [tmp_path / f"{number}.json" for number in (1, 2)]
    for number, out in enumerate(lists, 1):
        run_attacks(*common, out, store, 0, "cpu", 2, 2, True, part=Part(number, 2))
    assert [len(read_json(out)["pieces"]["jma"]) for out in lists] == [1, 2], "five images in shards of two"
    assert all((store / piece).is_dir() for out in lists for row in read_json(out)["pieces"].values() for piece in row)
    monkeypatch.setattr(attack_run, "_attack_shard", None)
    run(study, "digits", [JMA_ROW, LOTS_ROW], file, divided)
    for slug in ("jma", "lots"):
        one, other = (pd.read_parquet(root / slug / "records.parquet") for root in (tmp_path / "whole", divided))
        pd.testing.assert_frame_equal(one.drop(columns="seconds"), other.drop(columns="seconds"))
        assert sha256(tmp_path / "whole" / slug / "adversarials.safetensors") == sha256(
            divided / slug / "adversarials.safetensors"
        )


def test_shards_give_the_same_images(study, tmp_path):
    file, _ = targets(study, "digits", {"rule": "other_class"}, "same")
    results = []
    for size in (1, 5):
        run(study, "digits", [JMA_ROW], file, tmp_path / str(size), shard_size=size)
        results.append(load_file(tmp_path / str(size) / "jma" / "adversarials.safetensors")["adversarials"])
    assert np.abs(results[0] - results[1]).max() < 5e-3


def test_a_row_may_attack_the_first_images_only(study, tmp_path):
    file, frame = targets(study, "digits", {"rule": "other_class"}, "first")
    run(study, "digits", [JMA_ROW, {**JMA_ROW, "slug": "some", "images": 3}], file, tmp_path)
    whole, some = (pd.read_parquet(tmp_path / name / "records.parquet") for name in ("jma", "some"))
    assert some.image_id.tolist() == frame.image_id[:3].tolist()
    assert np.array_equal(some.success, whole.success[:3])
    assert len(load_file(tmp_path / "some" / "adversarials.safetensors")["adversarials"]) == 3
    assert read_json(tmp_path / "some" / "run.json")["images"] == 3


def test_a_batch_that_does_not_fit_is_halved(study, tmp_path, monkeypatch):
    """The same images come out, and the records say how many were together."""
    file, _ = targets(study, "digits", {"rule": "other_class"}, "memory")
    run(study, "digits", [JMA_ROW], file, tmp_path / "all")
    attack = attack_run.build({"attack": "jma", **JMA_ROW["parameters"]})
    whole, refused = type(attack).__call__, []

    def with_little_memory(self, classifier, images, aims, *, context, progress, batch_size):
        if batch_size > 1:
            refused.append(batch_size)
            raise torch.OutOfMemoryError("no room for two")
        return whole(self, classifier, images, aims, context=context, progress=progress, batch_size=batch_size)

    monkeypatch.setattr(type(attack), "__call__", with_little_memory)
    with pytest.warns(UserWarning, match=r"no room for two.*goes on with 1 at a time"):
        run(study, "digits", [JMA_ROW], file, tmp_path / "one")
    assert refused == [2], "not more than a shard has, and later shards begin with what fitted"
    assert read_json(tmp_path / "one" / "jma" / "run.json")["attacked_together"] == {"1": 5}
    records = {name: pd.read_parquet(tmp_path / name / "jma" / "records.parquet") for name in ("all", "one")}
    assert records["one"].batch_size.tolist() == [1] * 5
    assert records["one"].image_id.tolist() == records["all"].image_id.tolist()
    images = [load_file(tmp_path / name / "jma" / "adversarials.safetensors")["adversarials"] for name in records]
    np.testing.assert_allclose(*images, atol=1e-4)


def test_an_image_that_does_not_fit_alone_ends_the_run(study, tmp_path, monkeypatch):
    file, _ = targets(study, "digits", {"rule": "other_class"}, "no_memory")

    def without_memory(self, classifier, images, aims, *, context, progress, batch_size):
        raise torch.OutOfMemoryError("no room at all")

    attack = attack_run.build({"attack": "jma", **JMA_ROW["parameters"]})
    monkeypatch.setattr(type(attack), "__call__", without_memory)
    with pytest.warns(UserWarning), pytest.raises(MemoryError, match=r"one at a time does not fit.*no room at all"):
        run(study, "digits", [JMA_ROW], file, tmp_path)


def test_the_same_run_gives_the_same_bytes(study, tmp_path):
    file, _ = targets(study, "digits", {"rule": "other_class"}, "bytes")
    for name in ("a", "b"):
        run(study, "digits", [JMA_ROW], file, tmp_path / name)
    first, second = (tmp_path / name / "jma" / "adversarials.safetensors" for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_wrong_rows_end_before_any_work(study, tmp_path):
    file, _ = targets(study, "digits", {"rule": "other_class"}, "wrong")
    with pytest.raises(ValueError, match="step_size must be > 0"):
        run(study, "digits", [JMA_ROW, {**JMA_ROW, "parameters": {"step_size": -1}}], file, tmp_path)
    assert not list(tmp_path.iterdir())
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"wrong\.parquet is damaged"):
        run(study, "digits", [JMA_ROW], file, tmp_path)
    file.with_suffix(".run.json").unlink()
    with pytest.raises(ValueError, match=r"wrong\.parquet cannot be read as parquet"):
        run(study, "digits", [JMA_ROW], file, tmp_path)


def test_incomplete_rows_and_targets_are_named(study, tmp_path):
    file, frame = targets(study, "digits", {"rule": "other_class"}, "incomplete")
    with pytest.raises(ValueError, match="row 'jma': trace must be jacobian or steps, not 'all'"):
        run(study, "digits", [JMA_ROW | {"trace": "all"}], file, tmp_path)
    with pytest.raises(ValueError, match="lacks 'slug'"):
        run(study, "digits", [{"attack": "jma", "parameters": {}}], file, tmp_path)
    file = tmp_path / "incomplete.parquet"
    frame.drop(columns="target").to_parquet(file)
    with pytest.raises(ValueError, match=r"incomplete\.parquet has no column 'target'"):
        run(study, "digits", [JMA_ROW], file, tmp_path)


class _Crowded:
    """A classifier on a device that holds few images."""

    def __init__(self, classifier: Classifier, most: int) -> None:
        self.encoding, self.device = classifier.encoding, classifier.device
        self._classifier, self._most = classifier, most

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) > self._most:
            raise MemoryError("too many images")
        return self._classifier(images)


def test_references_are_averages_of_training_images(study):
    classifier, training = load_classifier(study / "model-digits"), open_split(study / "digits", "train")
    few = References(classifier, training, 0, samples=10_000)(torch.tensor([3, 5]))
    index = (training.labels == 3).nonzero()[:, 0].tolist()
    with torch.no_grad():
        expected = classifier(training.images(index)).mean(dim=0)
    assert torch.allclose(few[0], expected, atol=1e-4)
    with pytest.warns(UserWarning, match="memory is used up"):
        halved = References(_Crowded(classifier, most=5), training, 0, samples=10_000)(torch.tensor([3, 5]))
    assert torch.allclose(halved, few, atol=1e-4)
    scenes = References(load_classifier(study / "model-scenes"), open_split(study / "scenes", "train"), 0)
    assert scenes(torch.ones(1, 20, dtype=torch.long)).isnan().all()


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 60, 3), dtype=np.uint8)).save(path)
    return path


@pytest.mark.parametrize(
    ("data", "target"), [("digits", "7"), ("scenes", "+red 3"), ("scenes", "red 3, blue 5"), ("scenes", "none")]
)
def test_a_picture_of_ones_own(study, tmp_path, photo, data, target):
    names = open_split(study / data, "test").class_names
    if "red" in target:
        target = target.replace("red 3", names[3]).replace("blue 5", names[15])
    folder = attack_image(
        study / f"model-{data}", photo, target, {"attack": "jma", "step_size": 0.5}, tmp_path / "out", "cpu"
    )
    result = json.loads((folder / "result.json").read_text())
    with Image.open(folder / "adversarial.png") as after, Image.open(folder / "original.png") as before:
        assert after.size == before.size
    assert result["record"]["success"] == (result["record"]["prediction"] == result["record"]["target"])
    with Image.open(write_single(folder)) as picture:
        assert picture.width > 600


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"target": "eleven"}, ValueError, "unknown target 'eleven'; the model knows 0, 1, 2"),
        ({"attack": {"attack": "jmaa"}}, ValueError, "unknown attack 'jmaa'"),
        ({"attack": {"attack": "lots"}}, ValueError, "name their data set with --data"),
        ({"image": "absent.png"}, FileNotFoundError, "there is no picture"),
        ({"image": "text.png"}, ValueError, "is no picture that can be read"),
        ({"out": "text.png"}, ValueError, "is a file: name a folder"),
    ],
)
def test_a_wrong_picture_or_target(study, tmp_path, photo, change, error, message):
    (tmp_path / "text.png").write_text("hello")
    call = {"target": "3", "attack": {"attack": "jma"}, "image": photo.name, "out": "out"} | change
    with pytest.raises(error, match=message):
        attack_image(
            study / "model-digits",
            tmp_path / call["image"],
            call["target"],
            call["attack"],
            tmp_path / call["out"],
            "cpu",
        )
    assert not (tmp_path / "out").exists()


def test_mixed_label_changes_are_refused(study, tmp_path, photo):
    names = open_split(study / "scenes", "test").class_names
    with pytest.raises(ValueError, match=r"all begin with \+ or -"):
        attack_image(
            study / "model-scenes", photo, f"+{names[0]},{names[1]}", {"attack": "jma"}, tmp_path / "out", "cpu"
        )


def test_lots_finds_its_references(study, tmp_path, photo):
    row = {"attack": "lots", "max_iterations": 5}
    folder = attack_image(study / "model-digits", photo, "3", row, tmp_path / "out", "cpu", study / "digits")
    assert (folder / "result.json").is_file()
