"""NaN in one image, or in what the network says of one: that image is marked, the others go on as without it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

from wolfe.data.image_set import ImageSet
from wolfe.experiments import attack_run
from wolfe.experiments.attack_run import run_attacks
from wolfe.models.storage import load_classifier
from wolfe.report.records import read_rows
from wolfe.report.summary import summarise
from wolfe.study import load_study

from .conftest import Undisturbed
from .stages import RESULTS, STUDY

ATTACKS = ("jma", "ml_deepfool", "mla_lp", "sema_ml", "ml_carlini_wagner")
BROKEN = 1


class Spoiled(nn.Module):
    """A network that returns NaN for one picture, however an attack has changed it a little."""

    def __init__(self, net: nn.Module, picture: torch.Tensor) -> None:
        super().__init__()
        self.net, self.picture = net, picture

    def forward(self, images):
        near = (images - self.picture).flatten(1).abs().amax(dim=1, keepdim=True) < 1e-6
        return torch.where(near, torch.nan, self.net(images))


def attacked(folder: Path, out: Path, batch_size: int) -> dict[str, pd.DataFrame]:
    """The records of all attacks, run on the study's network and images."""
    rows = [{"slug": name, "attack": name, "parameters": {"max_iterations": 3}} for name in ATTACKS]
    results = folder / RESULTS
    targets = results / "targets" / "net" / "flip_bits_1_any.parquet"
    model, data = results / "models" / "net", results / "data" / "scenes"
    run_attacks(model, targets, data, rows, out, out / "store", 3, "cpu", shard_size=4, batch_size=batch_size)
    return {name: pd.read_parquet(out / name / "records.parquet") for name in ATTACKS}


def victim(folder: Path) -> str:
    """The name of the image that is to be spoiled."""
    targets = pd.read_parquet(folder / RESULTS / "targets" / "net" / "flip_bits_1_any.parquet")
    return str(targets["image_id"][BROKEN])


def marked_alone(spoiled: dict[str, pd.DataFrame], whole: dict[str, pd.DataFrame]) -> None:
    for name, records in spoiled.items():
        assert records["status"][BROKEN] == "not_finite", name
        assert not records["success"][BROKEN]
        assert not records["success_8bit"][BROKEN]
        kept = ["image_id", "status", "success", "iterations"]
        pd.testing.assert_frame_equal(records[kept].drop(BROKEN), whole[name][kept].drop(BROKEN))


@pytest.mark.parametrize("place", ["image", "output"])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_one_image_is_marked(place, batch_size, undisturbed: Undisturbed, tmp_path, monkeypatch) -> None:
    whole = attacked(undisturbed.folder, tmp_path / "whole", batch_size)
    name = victim(undisturbed.folder)
    if place == "image":
        read = ImageSet.images

        def images(self, indices):
            chosen = list(indices)
            pictures = read(self, chosen)
            pictures[[self.ids[index] == name for index in chosen], 0, 0, 0] = torch.nan
            return pictures

        monkeypatch.setattr(ImageSet, "images", images)
    else:
        spoil_network(undisturbed.folder, name, monkeypatch)
    marked_alone(attacked(undisturbed.folder, tmp_path / "spoiled", batch_size), whole)
    # The table of such records is one of numbers.
    spec = json.loads(json.dumps(load_study(STUDY).tables["flips"]))
    spec["rows"] = [{**spec["rows"][0], "slug": name} for name in ATTACKS]
    table = summarise(spec, read_rows(spec, tmp_path / "spoiled"))
    assert table[["asr", "asr_8bit"]].notna().all(axis=None)


def spoil_network(folder, name, monkeypatch):
    """Has attack runs load a network that returns NaN for an image, as a class that no other layer is folded into."""

    def loaded(model, device):
        from wolfe.data.image_set import open_split

        test = open_split(folder / RESULTS / "data" / "scenes", "test")
        classifier = load_classifier(model, device)
        picture = test.images([test.ids.index(name)])
        classifier.net = Spoiled(classifier.net, (picture - classifier.mean) / classifier.std)
        return classifier

    monkeypatch.setattr(attack_run, "load_classifier", loaded)


@pytest.mark.parametrize("target", [0, 1])
def test_nan_is_no_decision_for_any_target(target) -> None:
    """The largest of NaN is the first, and NaN is below every threshold: neither is a success."""
    from wolfe import MultiLabel, OneHot

    nothing = torch.full((1, 3), torch.nan)
    assert not OneHot(3).reached(nothing, torch.tensor([target])).any()
    assert not MultiLabel(3).reached(nothing, torch.full((1, 3), target)).any()
