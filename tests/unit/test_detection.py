"""Telling adversarial from genuine: splits, versions and balance by hand and by property, and a small experiment."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from wolfe import Classifier, OneHot
from wolfe.data import build_dataset, open_split
from wolfe.experiments import detection
from wolfe.experiments.attack_run import run_attacks
from wolfe.experiments.detection import write_detection
from wolfe.experiments.detection_checks import checked_plan, training_options
from wolfe.experiments.detection_images import read_images
from wolfe.experiments.detection_judging import judge, own_kind
from wolfe.experiments.detection_networks import fresh_detector, last_layer, scores
from wolfe.experiments.detection_split import FEWEST, PARTS, deal, extra_sizes, part_sizes, split_images
from wolfe.experiments.detection_versions import TRANSFORMS, Stored, grey_levels, jpeg
from wolfe.experiments.targets import write_targets
from wolfe.files import read_json, sha256
from wolfe.metrics import eight_bit
from wolfe.models import build_network, load_classifier, save_classifier
from wolfe.report import detection_matrix

from ..conftest import rewrite_run

NETWORK = {"name": "timm", "architecture": "resnet10t", "channels": [8, 8, 8, 8], "stem_width": 8}
ALEXNET = {"name": "alexnet", "width": 0.03125, "small_images": True, "dropout": 0.0}
LEARNT = [{"label": "CE", "slug": "ce"}, {"label": "M-logit", "slug": "m-logit"}]
COUNTS = {"source": "scenes", "size": 48, "single_label": True, "train": 8, "validation": 20, "test": 70}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A data set, a classifier with random weights whose decisions vary, a second one, and attacks on the first."""
    root = tmp_path_factory.mktemp("detection")
    build_dataset("scenes_single", COUNTS, root / "data" / "scenes_single", 0)
    split = open_split(root / "data" / "scenes_single", "test")
    for seed, name in enumerate(("source", "other")):
        _save(root / "models" / name, split, seed)
    for images, rows in ((40, LEARNT), (8, [{"slug": "sign"}])):
        _attack(root, images, [row["slug"] for row in rows])
    return root


def _save(folder, split, seed):
    torch.manual_seed(seed)
    classifier = Classifier(build_network(NETWORK, 3, 20, 48), OneHot(20), [0.4] * 3, [0.3] * 3).eval()
    with torch.no_grad():
        images = split.images(range(12))
        last_layer(classifier)[1].weight /= classifier(images).std(dim=0).mean()
        last_layer(classifier)[1].bias -= classifier(images).mean(dim=0)
    named = {
        "network": NETWORK,
        "image_shape": split.shape,
        "class_names": split.class_names,
        "dataset": "scenes_single",
    }
    save_classifier(classifier, folder, named)


def _attack(root, images, slugs):
    losses = {"ce": "cross_entropy", "m-logit": "m_logit", "sign": "cross_entropy_sign"}
    name, model, data = f"other_class_{images}_images", root / "models" / "source", root / "data" / "scenes_single"
    targets = root / "targets" / f"{name}.parquet"
    write_targets(model, data, {"rule": "other_class", "only_correct": False, "images": images}, targets, 0, "cpu")
    shared = {"max_iterations": 30, "step_length": 1.0}
    rows = [{"slug": slug, "attack": "gradient", "parameters": {"loss": losses[slug], **shared}} for slug in slugs]
    run_attacks(model, targets, data, rows, root / "attacks" / "source" / name, root / "store", 0, "cpu", 40, 40, True)


@pytest.fixture
def spec():
    learn = {"table": "learnt", "model": "source", "targets": "other_class_40_images", "rows": LEARNT}
    tested = {"table": "rivals", "model": "source", "targets": "other_class_8_images"}
    tested |= {"rows": [{"label": "Sign", "slug": "sign"}]}
    detectors = [{"name": "ResNet", "network": NETWORK, "start": "other"}, {"name": "AlexNet", "network": ALEXNET}]
    return {
        "name": "found",
        "kind": "detection",
        "dataset": "scenes_single",
        "source": "source",
        "learn": learn,
        "tested": [tested],
        "detectors": detectors,
        "single": ["AlexNet"],
        "training": {"epochs": 1, "batch_size": 16, "learning_rates": [0.001, 0.01], "weight_decay": 0.0001},
        "test_share": 0.4,
        "validation_share": 0.2,
    }


@pytest.fixture(scope="module")
def finished(study):
    """The experiment of `spec`, run once."""
    write_detection(spec.__wrapped__(), study, study / "experiments" / "found", 0, "cpu")
    folder = study / "experiments" / "found"
    return {name.removesuffix(".parquet"): pd.read_parquet(folder / name) for name in _parquets(folder)}


def _parquets(folder):
    return sorted(path.name for path in folder.glob("*.parquet"))


# Splits over images.


@settings(deadline=None)
@given(st.data())
def test_every_image_is_in_one_part_of_the_size_asked_for_and_tested_ones_are_tested(data):
    count = data.draw(st.integers(30, 90))
    labels = data.draw(st.lists(st.integers(0, data.draw(st.integers(0, 40))), min_size=count, max_size=count))
    shares = data.draw(st.sampled_from([(0.3, 0.2), (0.5, 0.15), (0.2, 0.4)]))
    names = [f"test-{index:05d}" for index in range(count)]
    tested = set(data.draw(st.lists(st.sampled_from(names), max_size=int(shares[0] * count) - 1)))
    seed = data.draw(st.integers(0, 2**62))
    split = split_images(names, labels, tested, *shares, seed)
    assert split["image_id"].tolist() == names
    assert split["split"].value_counts().to_dict() == part_sizes(count, *shares)
    assert set(split.loc[split["image_id"].isin(tested), "split"]) <= {"test"}
    pd.testing.assert_frame_equal(split, split_images(names, labels, tested, *shares, seed))


def test_classes_keep_their_shares():
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    dealt = deal(labels, {"train": 50, "validation": 20, "test": 30}, 3)
    assert sorted(np.concatenate(list(dealt.values())).tolist()) == list(range(100))
    for part, indices in dealt.items():
        assert np.bincount(labels[indices]).tolist() == [len(indices) * share // 10 for share in (6, 3, 1)], part


def test_classes_with_a_single_image_are_dealt_out_too():
    labels = np.arange(20)
    dealt = deal(labels, {"train": 10, "validation": 4, "test": 6}, 0)
    assert [len(dealt[part]) for part in PARTS] == [10, 4, 6]


def test_another_seed_splits_otherwise():
    names, labels = [str(index) for index in range(60)], [index % 3 for index in range(60)]
    first, second = (split_images(names, labels, (), 0.3, 0.2, seed)["split"].tolist() for seed in (0, 1))
    assert first != second


def test_too_few_images_for_a_split_are_refused_with_the_number_that_would_do():
    with pytest.raises(
        ValueError, match="10 images leave 2 for the validation part, which needs 4; attack at least 20"
    ):
        part_sizes(10, 0.3, 0.2)
    assert min(part_sizes(20, 0.3, 0.2).values()) == FEWEST


@pytest.mark.parametrize("shares", [(0.0, 0.2), (0.5, 0.5), (0.3, -0.1)])
def test_shares_that_leave_nothing_are_refused(shares):
    with pytest.raises(ValueError, match="test_share and validation_share"):
        part_sizes(100, *shares)


def test_more_tested_images_than_the_test_part_holds_are_refused():
    names = [str(index) for index in range(40)]
    with pytest.raises(ValueError, match=r"20 images are attacked only to be tested on.*holds 12 of 40.*0\.50"):
        split_images(names, [0] * 40, names[:20], 0.3, 0.2, 0)


def test_extra_genuine_images_make_both_kinds_as_many_or_share_what_there_is():
    adversarial, genuine = {"train": 40, "validation": 12, "test": 20}, {"train": 10, "validation": 4, "test": 6}
    assert extra_sizes(adversarial, genuine, 100) == {"train": 30, "validation": 8, "test": 14}
    assert extra_sizes(adversarial, genuine, 26) == {"train": 15, "validation": 4, "test": 7}
    assert extra_sizes(genuine, adversarial, 100) == dict.fromkeys(PARTS, 0)


# Versions.


def test_genuine_images_are_8_bit_already_and_jpeg_gives_8_bit_images_near_by():
    smooth = np.linspace(0, 1, 48, dtype=np.float32)[None, None, None, :] * np.ones((2, 3, 48, 48), np.float32)
    rounded = TRANSFORMS["8bit"](smooth)
    assert np.array_equal(rounded, eight_bit(smooth)) and np.array_equal(TRANSFORMS["8bit"](rounded), rounded)
    assert np.array_equal(TRANSFORMS["float"](smooth), smooth)
    compressed = jpeg(smooth)
    assert compressed.dtype == np.float32 and compressed.shape == smooth.shape
    assert 0 < np.abs(compressed - rounded).max() < 0.05
    assert np.array_equal(compressed, eight_bit(compressed))
    assert np.array_equal(jpeg(rounded), compressed), "rounding happens before compression"


def test_jpeg_is_that_of_a_file_on_disk(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (1, 3, 32, 32), dtype=np.uint8)
    Image.fromarray(image[0].transpose(1, 2, 0)).save(tmp_path / "one.jpg", quality=75)
    with Image.open(tmp_path / "one.jpg") as read:
        expected = np.asarray(read).transpose(2, 0, 1)
    assert np.array_equal(grey_levels(jpeg(image.astype(np.float32) / 255))[0], expected)


def test_jpeg_of_grey_images():
    image = np.random.default_rng(0).random((2, 1, 16, 16), dtype=np.float32)
    assert jpeg(image).shape == image.shape


def test_jpeg_takes_each_image_by_itself():
    images = np.random.default_rng(1).random((3, 3, 16, 16), dtype=np.float32)
    assert np.array_equal(jpeg(images)[1:2], jpeg(images[1:2]))


def test_stored_images_come_back_as_they_were():
    levels = np.random.default_rng(0).integers(0, 256, (4, 3, 5, 5), dtype=np.uint8)
    images, labels = Stored(levels, np.array([0, 1, 0, 1]))[[3, 0]]
    assert torch.equal(images, torch.from_numpy(levels[[3, 0]]).float() / 255)
    assert labels.tolist() == [1, 0]


# What detectors learn from.


def test_pooled_lessons_are_balanced_and_single_ones_are_half_and_half(study, spec):
    images = read_images(checked_plan(spec, study), 0)
    reached = {label: len(images.reached(label, "train")) for label in ("CE", "M-logit")}
    pooled, single = images.lesson("pooled"), images.lesson("CE")
    assert int(pooled.train.labels.sum()) == sum(reached.values())
    assert abs(2 * int(pooled.train.labels.sum()) - len(pooled.train)) <= 1, "as many genuine ones, with extra images"
    assert len(single.train) == 2 * int(single.train.labels.sum()) == 2 * reached["CE"]
    genuine = single.train.images[: reached["CE"]].numpy()
    assert np.array_equal(genuine, images.pictures(images.reached("CE", "train"))), "of the same images"


def test_lessons_hold_the_attacked_images_rounded(study, spec):
    plan = checked_plan(spec, study)
    images = read_images(plan, 0)
    names = images.reached("M-logit", "train")
    attacked = next(attack for attack in plan.attacks if attack.label == "M-logit").images(names)
    lesson = images.lesson("M-logit").train
    assert np.array_equal(lesson.images[lesson.labels == 1].numpy(), grey_levels(attacked))


def test_a_detector_starts_from_all_layers_but_the_last(study, spec):
    plan = checked_plan(spec, study)
    started = fresh_detector(plan.detectors[0], (3, 48, 48), ([0.5] * 3, [0.5] * 3), 0)
    source = load_classifier(study / "models" / "other")
    name, last = last_layer(started.net)
    for key, value in source.net.state_dict().items():
        if not key.startswith(f"{name}."):
            assert torch.equal(started.net.state_dict()[key], value), key
    assert last.out_features == 2 and torch.equal(started.mean, source.mean)
    fresh = fresh_detector(plan.detectors[1], (3, 48, 48), ([0.5] * 3, [0.25] * 3), 0)
    again = fresh_detector(plan.detectors[1], (3, 48, 48), ([0.5] * 3, [0.25] * 3), 0)
    assert fresh.std.flatten().tolist() == [0.25] * 3
    assert all(torch.equal(*pair) for pair in zip(fresh.parameters(), again.parameters(), strict=True))


def test_few_images_are_passed_over_more_often_so_that_steps_are_as_many():
    assert detection.epochs_of(3, 2000, 2000) == 3
    assert detection.epochs_of(3, 500, 2000) == 12
    assert detection.epochs_of(3, 2100, 2000) == 3


# The experiment.


def test_no_image_is_judged_in_any_version_that_another_version_was_learnt_from(finished):
    images, records = finished["images"], finished["records"]
    assert images["image_id"].is_unique
    part = dict(zip(images["image_id"], images["split"], strict=True))
    assert set(records["split"]) == {"validation", "test"}
    assert all(part[name] == split for name, split in zip(records["image_id"], records["split"], strict=True))
    tested = records[records["version"] == "Sign"]
    assert not tested.empty and set(tested["split"]) == {"test"} and not tested["learnt"].any()


def test_only_attacks_that_succeeded_count(study, finished):
    records = finished["records"]
    for label, slug, images in (("CE", "ce", 40), ("Sign", "sign", 8)):
        run = pd.read_parquet(study / f"attacks/source/other_class_{images}_images/{slug}/records.parquet")
        judged = records[(records["version"] == label) & (records["transform"] == "float")]
        assert set(judged["image_id"]) <= set(run.loc[run["success"], "image_id"])
        assert judged["reaches_target"].all(), "a float image is as the attack left it"
    assert not records.loc[records["adversarial"] == 0, "reaches_target"].any()


def test_each_detector_says_something_of_each_version_once(finished):
    records = finished["records"]
    key = ["detector", "trained_on", "selected_on", "version", "transform", "split", "image_id"]
    assert not records.duplicated(key).any()
    chosen = records[records["selected_on"] == "validation"]
    pairs = set(zip(chosen["detector"], chosen["trained_on"], strict=True))
    assert pairs == {("ResNet", "pooled"), ("AlexNet", "pooled"), ("AlexNet", "CE"), ("AlexNet", "M-logit")}
    sizes = chosen[chosen["transform"] == "jpeg"].groupby(["detector", "trained_on"]).size()
    assert len(set(sizes)) == 1


def test_learning_rates_are_chosen_by_each_part(finished):
    trainings, records = finished["detectors"], finished["records"]
    assert len(trainings) == 8 and set(trainings["learning_rate"]) == {0.001, 0.01}
    for (detector, trained_on), group in trainings.groupby(["detector", "trained_on"]):
        for part in ("validation", "test"):
            best = group[group[f"chosen_on_{part}"]]
            assert len(best) == 1 and best[f"{part}_accuracy"].iloc[0] == group[f"{part}_accuracy"].max()
        said = records[(records["detector"] == detector) & (records["trained_on"] == trained_on)]
        said = said[(said["split"] == "test") & (said["transform"] == "8bit") & (said["selected_on"] == "test")]
        own = own_kind(said, trained_on)
        accuracy = ((own["score"] > 0) == (own["adversarial"] == 1)).mean()
        assert accuracy == pytest.approx(group.loc[group["chosen_on_test"], "test_accuracy"].iloc[0])


def test_files_are_whole_and_counted(study, finished):
    folder = study / "experiments" / "found"
    run = read_json(folder / "run.json")
    assert run["outputs"] == {name: sha256(folder / name) for name in _parquets(folder)}
    images = finished["images"]
    for part in PARTS:
        sizes = {origin: int(((images["split"] == part) & (images["origin"] == origin)).sum()) for origin in
                 ("attacked", "extra")}  # fmt: skip
        assert run["counts"]["images"][part] == sizes


def test_the_same_seed_gives_the_same_scores_without_the_store(study, spec, finished, tmp_path):
    copy = tmp_path / "study"
    shutil.copytree(study, copy, ignore=shutil.ignore_patterns("store", "experiments"))
    write_detection(spec, copy, tmp_path / "out", 0, "cpu")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out" / "records.parquet"), finished["records"])


def test_finished_trainings_are_not_repeated(study, spec, finished, tmp_path, monkeypatch):
    def refuse(*arguments: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("wolfe.experiments.detection_training.fit", refuse)
    write_detection(spec, study, tmp_path / "out", 0, "cpu")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out" / "records.parquet"), finished["records"])


def test_scores_do_not_depend_on_the_batch_size(study, spec, finished):
    plan = checked_plan(spec, study)
    images, source = read_images(plan, 0), load_classifier(plan.model)
    normalisation = (source.mean.flatten().tolist(), source.std.flatten().tolist())
    store = detection.Store(study / "store")
    trained = [
        detection.train(plan.detectors[0], images.lesson("pooled"), options, normalisation, store, 0, "cpu")
        for options in plan.options
    ]
    first, second = (judge(plan, images, source, trained, size)[0] for size in (3, 64))
    assert np.allclose(first["score"], second["score"], atol=1e-4)
    pd.testing.assert_frame_equal(first.drop(columns="score"), second.drop(columns="score"))


def test_scores_are_the_difference_of_the_logits():
    class Means(torch.nn.Module):
        def forward(self, images):
            return torch.stack([images.mean(dim=(1, 2, 3)), 3 * images.mean(dim=(1, 2, 3))], dim=1)

    images = np.stack([np.full((1, 2, 2), value, np.float32) for value in (0.0, 0.25, 1.0)])
    assert scores(Classifier(Means(), OneHot(2)), images, 2).tolist() == [0.0, 0.5, 2.0]


# What is refused before the work.


def _change(spec, path, value):
    changed = json.loads(json.dumps(spec))
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["detectors", 1, "name"], "ResNet", "the detector 'ResNet' is named twice"),
        (["detectors"], [], "detectors: name at least one"),
        (["detectors", 1, "start"], "other", "cannot start from .*other: that has the network"),
        (["single"], ["VGG"], "single: there is no detector 'VGG'; there are ResNet, AlexNet"),
        (["tested", 0, "rows", 0, "label"], "CE", "the attack 'CE' is named twice"),
        (["tested", 0, "model"], "other", "attacked other, the detectors' source is source"),
        (["learn", "rows"], [], "learn: name at least one attack"),
        (["source"], "other", "attacked source, the detectors' source is other"),
        (["training", "learning_rates"], [], "learning_rates must name at least one"),
        (["test_share"], 0.1, "8 images are attacked only to be tested on, and the test part holds 4 of 40"),
        (["test_share"], 0.05, "too few images for a detector's split: 40 images leave 2 for the test part"),
        (["detectors", 1, "network", "name"], "alex", "unknown network 'alex'"),
    ],
)
def test_experiments_that_cannot_be_run_are_refused(study, spec, tmp_path, path, value, message):
    with pytest.raises(ValueError, match=message):
        write_detection(_change(spec, path, value), study, tmp_path / "out", 0, "cpu")
    assert not (tmp_path / "out").exists()


def test_missing_runs_and_models_are_named(study, spec, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone/run\.json is missing"):
        write_detection(_change(spec, ["learn", "rows", 0, "slug"], "gone"), study, tmp_path / "out", 0, "cpu")
    with pytest.raises(FileNotFoundError, match=r"gone/classifier\.json is missing"):
        write_detection(_change(spec, ["detectors", 0, "start"], "gone"), study, tmp_path / "out", 0, "cpu")


def test_runs_without_success_and_of_other_weights_are_refused(study, spec, tmp_path):
    copy = tmp_path / "study"
    shutil.copytree(study, copy, ignore=shutil.ignore_patterns("store", "experiments"))
    folder = copy / "attacks/source/other_class_40_images/ce"
    records, run = pd.read_parquet(folder / "records.parquet"), read_json(folder / "run.json")
    records.assign(success=False).to_parquet(folder / "records.parquet", index=False)
    run["outputs"]["records.parquet"] = sha256(folder / "records.parquet")
    rewrite_run(folder, run)
    with pytest.raises(ValueError, match=r"ce reached no target"):
        write_detection(spec, copy, tmp_path / "out", 0, "cpu")
    rewrite_run(folder, run | {"depends_on": run["depends_on"] | {"weights": "0"}})
    with pytest.raises(ValueError, match=r"did not attack .*source as it is now"):
        write_detection(spec, copy, tmp_path / "out", 0, "cpu")


def test_an_attack_only_tested_on_may_have_no_success(study, spec, tmp_path):
    copy = tmp_path / "study"
    shutil.copytree(study, copy, ignore=shutil.ignore_patterns("experiments"))
    part = spec["tested"][0]
    folder = copy / "attacks" / part["model"] / part["targets"] / part["rows"][0]["slug"]
    records, run = pd.read_parquet(folder / "records.parquet"), read_json(folder / "run.json")
    records.assign(success=False).to_parquet(folder / "records.parquet", index=False)
    run["outputs"]["records.parquet"] = sha256(folder / "records.parquet")
    rewrite_run(folder, run)
    write_detection(spec, copy, copy / "experiments" / spec["name"], 0, "cpu")
    table = detection_matrix.lines({"experiments": [spec]}, copy)
    failed = table[table["label"] == part["rows"][0]["label"]]
    assert (failed["images"] == 0).all()
    assert failed["8bit_auc"].isna().all()
    assert (table.loc[table["learnt"], "images"] > 0).all()
    says = detection_matrix.findings(table)
    assert f"no target was reached by {part['rows'][0]['label']}." in says[1]
    assert all(column.show(line) for column in detection_matrix.columns(table) for line in failed.to_dict("records"))


def test_classes_that_differ_are_refused(study, spec, tmp_path):
    copy = tmp_path / "study"
    shutil.copytree(study, copy, ignore=shutil.ignore_patterns("store", "experiments"))
    file = copy / "models/source/classifier.json"
    file.write_text(json.dumps(read_json(file) | {"class_names": ["a", "b"]}))
    with pytest.raises(ValueError, match="names other classes than"):
        write_detection(spec, copy, tmp_path / "out", 0, "cpu")


def test_augmentation_is_refused():
    with pytest.raises(ValueError, match="augment would smooth away"):
        training_options({"epochs": 1, "learning_rates": [0.1], "augment": {"shift": 1.0}})
