"""The short form of `make test-faults`: NaN, changed run files and full disks, without processes that are killed."""

from __future__ import annotations

import errno
import json

import pytest
import torch
from typer.testing import CliRunner

from wolfe import Classifier, MultiLabel, OneHot
from wolfe.attacks import Context
from wolfe.attacks.base import Status
from wolfe.attacks.jma import JMA
from wolfe.cli import app
from wolfe.experiments.not_finite import attack_finite
from wolfe.files import content_checksum, sha256
from wolfe.report.records import verified_run
from wolfe.seeding import torch_generator

from ..conftest import Affine


@pytest.mark.parametrize("target", [0, 1, 2])
def test_nan_is_no_decision_for_any_target(target):
    """The largest of NaN is the first, and NaN is below every threshold: neither is a success."""
    nothing = torch.full((1, 3), torch.nan)
    assert not OneHot(3).reached(nothing, torch.tensor([target])).any()
    assert not MultiLabel(3).reached(nothing, torch.full((1, 3), target % 2)).any()


@pytest.mark.parametrize("broken", [[], [1], [0, 2], [0, 1, 2]])
@pytest.mark.parametrize("batch_size", [None, 1])
def test_images_that_are_not_finite_are_marked(broken, batch_size):
    weight = torch.randn(3, 16, generator=torch_generator(1, "weight"))
    classifier = Classifier(Affine(weight, torch.zeros(3)), OneHot(3))
    images = 0.4 + 0.2 * torch.rand(3, 1, 4, 4, generator=torch_generator(1, "images"))
    targets = (classifier.decide(images) + 1) % 3
    seen = []
    context = Context(image_ids=["a", "b", "c"], labels=targets, observer=lambda step: seen.extend(step.index.tolist()))
    whole = attack_finite(JMA(step_size=0.5), classifier, images, targets, context, None, batch_size)
    seen.clear()
    spoiled = images.clone()
    spoiled[broken, 0, 1, 1] = torch.nan
    result = attack_finite(JMA(step_size=0.5), classifier, spoiled, targets, context, None, batch_size)
    others = [image for image in range(3) if image not in broken]
    assert [result.status[image] for image in broken] == [Status.NOT_FINITE] * len(broken)
    assert not result.success[broken].any()
    assert [result.status[image] for image in others] == [whole.status[image] for image in others]
    assert torch.equal(result.adversarials[others], whole.adversarials[others])
    assert torch.equal(result.iterations[others], whole.iterations[others])
    assert result.adversarials[broken].isnan().flatten(1).sum(dim=1).tolist() == [1] * len(broken)
    assert set(seen) == set(others)


def test_a_run_file_that_was_changed_is_refused(tmp_path):
    (tmp_path / "records.parquet").write_bytes(b"records")
    content = {"device": "CPU", "outputs": {"records.parquet": sha256(tmp_path / "records.parquet")}}
    file = tmp_path / "run.json"
    file.write_text(json.dumps(content | {"sha256": content_checksum(content)}))
    assert verified_run(tmp_path, ["records.parquet"], "run this attack row")["device"] == "CPU"
    file.write_text(file.read_text().replace("CPU", "GPU"))
    with pytest.raises(ValueError, match=r"run.json is damaged .* run this attack row again"):
        verified_run(tmp_path, ["records.parquet"], "run this attack row")
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"run.json is damaged .* run this attack row again"):
        verified_run(tmp_path, ["records.parquet"], "run this attack row")


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, 2), (errno.EROFS, 2), (errno.ECHILD, 1)])
def test_a_full_disk_that_another_error_hides_is_told_in_one_line(number, code, monkeypatch):
    """A library that tidies up after a failed write fails once more, by an error that says nothing of it."""

    def fails(*arguments: object):
        try:
            raise OSError(number, "the reason")
        finally:
            raise AttributeError("tidied up")

    monkeypatch.setattr("wolfe.report.tables.write_table", fails)
    ended = CliRunner().invoke(app, ["table", "--spec", "{}", "--attacks", ".", "--out", "table"])
    assert ended.exit_code == code
    assert ("the reason" in ended.output) == (code == 2)
