"""The experiment on softmax: which images, what is measured at every step, and what is refused before the attacks."""

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

from wolfe import Classifier, Codebook, MultiLabel, OneHot, hadamard
from wolfe.attacks import Observation
from wolfe.attacks.multi_class_optimised import second_class
from wolfe.data import build_dataset, open_split
from wolfe.experiments import softmax as stage
from wolfe.experiments.attack_run import run_attacks
from wolfe.experiments.softmax import shown_steps, write_softmax
from wolfe.experiments.softmax_watch import Watch
from wolfe.experiments.targets import write_targets
from wolfe.files import read_json, sha256
from wolfe.models import load_classifier, save_classifier
from wolfe.models.networks import NETWORKS

MODELS = ["one", "two", "three"]
MULTIPLIERS = {"over_optimised": {"multiplier": 4.0}, "multi_class": {"multiplier": 3.0, "smaller_multiplier": 1.5}}
SPEC = {"name": "tiny", "kind": "softmax", "dataset": "digits", "models": MODELS, "images": 12, "iterations": 9}
SPEC |= MULTIPLIERS


class Linear(nn.Module):
    """Logits W u + b of the normalised image u, times ten."""

    def __init__(self, in_channels: int, outputs: int, image_size: int) -> None:
        super().__init__()
        self.layer = nn.Linear(in_channels * image_size**2, outputs)

    def forward(self, images):
        return 10 * self.layer(images.flatten(1))


def fitted(split, seed):
    """A network fitted by ridge regression to half of the images of a split."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(split), generator=generator)[: len(split) // 2]
    inputs = ((split.images(chosen) - 0.2) / 0.5).flatten(1).double()
    inputs = torch.cat([inputs, torch.ones(len(inputs), 1, dtype=torch.float64)], dim=1)
    wanted = nn.functional.one_hot(split.labels[chosen], 10).double()
    solved = torch.linalg.solve(inputs.T @ inputs + 5 * torch.eye(inputs.shape[1]), inputs.T @ wanted).T.float()
    network = Linear(1, 10, 16)
    network.layer.weight.data, network.layer.bias.data = solved[:, :-1].contiguous(), solved[:, -1].contiguous()
    return network


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Real digits at 16 pixels and three linear classifiers of them, with more than 90 % right each."""
    root = tmp_path_factory.mktemp("softmax")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "linear", Linear)
        build_dataset("digits", {"source": "digits", "size": 16}, root / "data" / "digits", 0)
        split = open_split(root / "data" / "digits", "train")
        description = {"image_shape": split.shape, "class_names": split.class_names, "dataset": "digits"}
        description |= {"network": {"name": "linear"}}
        for number, name in enumerate(MODELS):
            classifier = Classifier(fitted(split, number), OneHot(10), [0.2], [0.5])
            save_classifier(classifier, root / "models" / name, description)
        save_classifier(Classifier(Linear(1, 10, 16), MultiLabel(10)), root / "models" / "labels", description)
        save_classifier(
            Classifier(Linear(1, 16, 16), Codebook(hadamard(16, 10))), root / "models" / "code", description
        )
        yield root


@pytest.fixture(scope="module")
def finished(results):
    write_softmax(SPEC, results, results / "experiments" / "tiny", 3, "cpu")
    return results / "experiments" / "tiny"


def records_of(folder):
    return pd.read_parquet(folder / "records.parquet")


def part_of(records, kind, source):
    return records[(records["kind"] == kind) & (records["source"] == source)].reset_index(drop=True)


def test_all_images_models_kinds_and_steps_are_there_in_order(finished):
    records = records_of(finished)
    assert len(records) == 2 * 3 * 12 * 10
    assert records["kind"].unique().tolist() == list(MULTIPLIERS)
    for _, part in records.groupby(["kind", "source"], sort=False):
        assert part["step"].tolist() == list(range(10)) * 12
        assert part["image_id"].nunique() == 12
        assert part["image_id"].tolist() == records["image_id"][: len(part)].tolist()
    run = read_json(finished / "run.json")
    assert run["outputs"] == {name: sha256(finished / name) for name in ("records.parquet", "pictures.safetensors")}
    assert run["attacks"]["multi_class"]["parameters"]["smaller_multiplier"] == 1.5
    assert set(run["depends_on"]["weights"]) == set(MODELS)


def test_images_are_right_for_all_models_and_their_classes_are_those_of_other_tables(results, finished, tmp_path):
    records = records_of(finished)
    first = records[records["step"] == 0]
    for name in MODELS:
        assert (first[f"prediction_{name}"] == first["true_label"]).all()
    assert (first["target"] != first["true_label"]).all()
    own = part_of(first, "multi_class", "one")
    rule = {"rule": "other_class", "images": 250}
    write_targets(results / "models" / "one", results / "data" / "digits", rule, tmp_path / "targets.parquet", 3, "cpu")
    table = pd.read_parquet(tmp_path / "targets.parquet").set_index("image_id")["target"]
    assert own["target"].tolist() == table[own["image_id"]].tolist()
    order = [name for name in table.index if name in set(own["image_id"])]
    assert own["image_id"].tolist() == order, "the seed's order"
    for line in own.to_dict("records"):
        assert line["second"] == second_class(3, line["image_id"], line["target"], line["true_label"], 10)
    assert set(part_of(records, "over_optimised", "one")["second"]) == {-1}


def test_fewer_images_are_the_first_of_more(results, finished, tmp_path):
    write_softmax({**SPEC, "images": 5}, results, tmp_path / "fewer", 3, "cpu")
    few, all_of_them = records_of(tmp_path / "fewer"), records_of(finished)
    chosen = all_of_them[all_of_them["image_id"].isin(set(few["image_id"]))].reset_index(drop=True)
    pd.testing.assert_frame_equal(few, chosen, rtol=1e-4, atol=1e-4)


def test_results_do_not_depend_on_how_many_images_are_in_work(results, finished, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "_BATCH", 5)
    write_softmax(SPEC, results, tmp_path / "again", 3, "cpu")
    pd.testing.assert_frame_equal(records_of(tmp_path / "again"), records_of(finished), rtol=1e-4, atol=1e-4)


def test_what_is_measured_agrees_with_the_pictures_and_the_models(results, finished):
    """Logits, softmax, margin, distance and decisions once more from the kept pictures; linear, so all is exact."""
    records, run = records_of(finished), read_json(finished / "run.json")
    pictures = load_file(finished / "pictures.safetensors")
    models = {name: load_classifier(results / "models" / name) for name in MODELS}
    images, steps = run["shown"]["images"], run["shown"]["steps"]
    assert (len(images), steps[0], steps[-1]) == (8, 0, 9)
    for kind in MULTIPLIERS:
        for source, model in models.items():
            part = part_of(records, kind, source)
            part = part[part["image_id"].isin(images) & part["step"].isin(steps)]
            shown = torch.from_numpy(pictures[f"{kind}.{source}"]).flatten(0, 1).float() / 255
            with torch.no_grad():
                logits = model(shown)
                decided = {name: other.decide(shown).tolist() for name, other in models.items()}
            best, classes = logits.topk(3, dim=1)
            assert np.allclose(part[["activation", "activation_2", "activation_3"]], best, atol=1e-4)
            assert np.allclose(part["softmax"], logits.softmax(dim=1).amax(dim=1), atol=1e-5)
            assert np.allclose(part["margin"], best[:, 0] - best[:, 1], atol=1e-3)
            odds = logits.double().softmax(dim=1).amax(dim=1)
            sure = 1 - odds > 1e-6
            assert np.allclose(part["log_odds"][sure.numpy()], torch.logit(odds[sure]), atol=1e-3)
            slopes = 10 * (model.net.layer.weight[classes[:, 0]] - model.net.layer.weight[classes[:, 1]]) / 0.5
            assert np.allclose(part["distance"], (best[:, 0] - best[:, 1]) / slopes.norm(dim=1), atol=1e-4)
            starts = shown.view(8, len(steps), -1)[:, :1]
            moved = (shown.view(8, len(steps), -1) - starts).flatten(0, 1)
            assert np.allclose(part["l2"], moved.norm(dim=1), atol=1e-4)
            assert np.allclose(part["linf"], moved.abs().amax(dim=1), atol=1e-6)
            for name, others in decided.items():
                assert part[f"prediction_{name}"].tolist() == others


def test_the_attack_raises_what_it_is_for(finished):
    records = records_of(finished)
    for source in MODELS:
        over, two = part_of(records, "over_optimised", source), part_of(records, "multi_class", source)
        for part in (over, two):
            ends = part[part["step"] == 9]
            asked = (ends["highest_class"] == ends["target"]) | (ends["highest_class"] == ends["second"])
            assert asked.mean() > 0.9
        assert over[over["step"] == 9]["float_activation"].mean() > 3 * over[over["step"] == 0]["activation"].mean()
        last = (over["step"] == 9).to_numpy()
        for name in MODELS:
            assert (over[f"float_prediction_{name}"][~last] == -1).all()
            assert (over[f"float_prediction_{name}"][last] >= 0).all()
            assert (over[f"float_prediction_{name}"][last] == over[f"prediction_{name}"][last]).mean() > 0.8


def test_a_row_of_a_table_ends_where_the_experiment_does(results, finished, tmp_path):
    """The same attack by a study's row, on the same images with the same seed: decisions of the rounded images."""
    records = part_of(records_of(finished), "multi_class", "two")
    ends = records[records["step"] == 9].rename(columns={"prediction_two": "prediction"})
    ends[["image_id", "true_label", "prediction", "target"]].to_parquet(tmp_path / "targets.parquet", index=False)
    row = {"slug": "two", "attack": "multi_class_optimised", "parameters": {"max_iterations": 9}}
    row["parameters"] |= MULTIPLIERS["multi_class"]
    folders = (results / "models" / "two", tmp_path / "targets.parquet", results / "data" / "digits")
    run_attacks(*folders, [row], tmp_path / "out", tmp_path / "store", 3, "cpu", 12, 5, True)
    found = pd.read_parquet(tmp_path / "out" / "two" / "records.parquet")
    assert found["success_8bit"].tolist() == (ends["prediction"] == ends["target"]).tolist()
    assert found["success"].tolist() == (ends["float_prediction_two"] == ends["target"]).tolist()
    assert 0 < found["success"].mean() < 1, "some end at the second class"


def test_an_image_that_stays_is_told_again_at_every_step():
    """Two images: one is seen at steps 0 to 3, the other once, as nothing moved it."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).requires_grad_(False)
    classifiers = {"own": Classifier(network, OneHot(3)), "other": Classifier(network, OneHot(3))}
    starts = torch.full((2, 1, 2, 2), 0.5)
    starts = starts * 256 / 255
    watch = Watch(classifiers, "own", starts, 3, [0, 2, 3], 2)
    for step, index in enumerate(([0, 1], [0], [0], [0])):
        images = starts[index] + 25 * step / 255
        watch(Observation(torch.full((len(index),), step), torch.tensor(index), images, network(images)))
    lines = watch.frame()
    assert lines["position"].tolist() == [0] * 4 + [1] * 4
    assert lines["step"].tolist() == [0, 1, 2, 3] * 2
    assert lines["moved"].tolist() == [False, True, True, True, False, False, False, False]
    assert lines["l2"].tolist() == pytest.approx([0, 50 / 255, 100 / 255, 150 / 255, 0, 0, 0, 0], abs=1e-6)
    assert (lines.iloc[4:]["activation"] == lines["activation"][4]).all()
    assert np.unique(watch.pictures[1]).tolist() == [128]
    assert watch.pictures[0, :, 0, 0, 0].tolist() == [128, 178, 203]


def test_a_step_without_a_number_is_left_out_and_an_image_without_any_is_told():
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).requires_grad_(False)
    classifiers = {"own": Classifier(network, OneHot(3)), "other": Classifier(network, OneHot(3))}
    starts = torch.full((2, 1, 2, 2), 0.5)
    watch = Watch(classifiers, "own", starts, 1, [0, 1], 1)
    logits = network(starts)
    watch(Observation(torch.tensor([0, 0]), torch.tensor([0, 1]), starts, logits * torch.tensor([[1.0], [torch.nan]])))
    with pytest.raises(ValueError, match="model own is not finite on image 1"):
        watch.frame()
    with pytest.raises(ValueError, match="model own is not finite on any image"):
        Watch(classifiers, "own", starts, 1, [0, 1], 1).frame()


def test_pictures_are_kept_at_the_first_and_the_last_step_and_between():
    assert shown_steps(1) == [0, 1]
    assert shown_steps(9) == list(range(10))
    long = shown_steps(500)
    assert (long[:4], long[-1]) == ([0, 1, 2, 3], 500)
    assert 20 <= len(long) <= 25


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": 400}, r"only \d+ of 360 test images of digits are classified correctly by all of one, two, three"),
        ({"models": ["one"]}, "'tiny' needs at least two models"),
        ({"models": ["one", "two", "one"]}, "the classifier 'one' is given twice"),
        ({"models": ["one", "labels"]}, "has other labels than"),
        ({"models": ["one", "code"]}, "model code has 16 outputs of the encoding Codebook"),
        ({"over_optimised": {"max_iterations": 3}}, "over_optimised takes multiplier, not 'max_iterations'"),
        ({"multi_class": {"multiplier": 0.01}}, "smaller_multiplier must be at most the multiplier"),
        ({"over_optimised": {"multiplier": -1}}, "multiplier must be > 0"),
        ({"iterations": 0}, "max_iterations must be > 0"),
    ],
)
def test_what_cannot_be_had_is_refused_before_the_attacks(results, tmp_path, monkeypatch, change, message):
    monkeypatch.setattr(stage, "_watched", lambda *_: pytest.fail("attacked before the check"))
    with pytest.raises(ValueError, match=message):
        write_softmax(SPEC | change, results, tmp_path / "out", 3, "cpu")
    assert not (tmp_path / "out").exists()


def test_a_missing_model_is_named(results, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"four.*is no trained classifier"):
        write_softmax(SPEC | {"models": ["one", "four"]}, results, tmp_path / "out", 3, "cpu")


def test_finished_attacks_are_kept_and_parts_of_the_images_give_the_same(results, finished, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "_make", lambda *_: pytest.fail("attacked again"))
    write_softmax(SPEC, results, tmp_path / "again", 3, "cpu")
    pd.testing.assert_frame_equal(records_of(tmp_path / "again"), records_of(finished))
    monkeypatch.undo()
    monkeypatch.setitem(NETWORKS, "linear", Linear)
    monkeypatch.setattr(stage, "_TOGETHER", 5)
    write_softmax(SPEC, results, tmp_path / "parts", 3, "cpu")
    parts, whole = records_of(tmp_path / "parts"), records_of(finished)
    names = ["kind", "source", "image_id", "step", "target", "second"]
    pd.testing.assert_frame_equal(parts[names], whole[names])
    # Where two classes are level, rounding decides which of them is helped.
    one = parts["kind"] == "over_optimised"
    pd.testing.assert_frame_equal(parts.loc[one, ["activation", "l2"]], whole.loc[one, ["activation", "l2"]], rtol=1e-3)
    pieces = list((results / "store").glob("*/one-*"))
    assert len(pieces) == 2 * (1 + 3), "for both kinds once all 12 images together, once 5, 5 and 2"
