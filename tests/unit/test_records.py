"""Records: what is said of the hierarchy of labels."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from torch import nn

from wolfe.attacks import AttackResult
from wolfe.attacks.base import Status
from wolfe.classifier import Classifier
from wolfe.encoding import MultiLabel
from wolfe.experiments.records import make_records
from wolfe.label_graph import LabelGraph


@pytest.fixture
def attacked():
    """Three images whose two pixels decide two labels, attacked without any change."""
    layer = nn.Linear(64, 2)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, 0] = layer.weight[1, 1] = 1.0
        layer.bias.fill_(-0.5)
    classifier = Classifier(nn.Sequential(nn.Flatten(), layer), MultiLabel(2)).eval()
    images = torch.zeros(3, 1, 8, 8)
    images[:, 0, 0, :2] = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    labels = images[:, 0, 0, :2].long()
    counts = torch.zeros(3, dtype=torch.long)
    result = AttackResult(
        images,
        torch.ones(3, dtype=torch.bool),
        *[counts] * 5,
        torch.zeros(3),
        torch.zeros(3),
        [Status.ALREADY_THERE] * 3,
    )
    return classifier, ["a", "b", "c"], images, labels, labels, result


def test_decisions_are_held_against_the_hierarchy(attacked):
    frame = make_records(*attacked, LabelGraph((None, 0)))
    assert frame["consistent"].tolist() == [True, False, True]


def test_without_a_hierarchy_nothing_is_said(attacked, tmp_path):
    frame = make_records(*attacked)
    assert frame["consistent"].isna().all()
    frame.to_parquet(tmp_path / "records.parquet")
    with_hierarchy = make_records(*attacked, LabelGraph((None, None)))
    both = pd.concat([pd.read_parquet(tmp_path / "records.parquet"), with_hierarchy], ignore_index=True)
    assert both["consistent"].dtype == "boolean"
    assert both["consistent"].sum() == 3
