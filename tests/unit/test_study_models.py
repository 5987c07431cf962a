"""What a study's models may be: losses, bottoms and published weights that fit together, said before any work."""

from __future__ import annotations

import pytest
import yaml
from typer.testing import CliRunner

from tests.unit.test_study import small_study
from wolfe.cli import app
from wolfe.study import Study, StudyError

CLIP = {"name": "timm", "architecture": "vit_base_patch16_clip_224.openai", "pretrained": True, "img_size": "image"}
VGG16 = {"name": "vgg16", "weights": "IMAGENET1K_V1", "weights_root": "weights"}
HEAD = {"name": "frozen_features", "hidden": 512}


def with_model(name, change):
    """The small study, one of its models changed: None takes a key away."""
    document = small_study()
    model = {**document["models"][name], **change}
    document["models"][name] = {key: value for key, value in model.items() if value is not None}
    return document


@pytest.mark.parametrize(
    ("name", "change"),
    [
        *(("labels", {"loss": loss}) for loss in ("hinge", "categorical_hinge", "asymmetric")),
        ("labels", {"training": {"epochs": 1, "precision": "bf16"}}),
        ("labels", {"network": {"name": "vgg16", **VGG16}}),
        ("labels", {"network": {**VGG16, "name": "vgg16_ensemble", "branches_from_bottom": True}}),
        ("head", {"bottom": None, "network": {**HEAD, "backbone": CLIP}}),
        ("head", {"bottom": None, "network": {**HEAD, "projection": True, "backbone": CLIP}}),
        ("head", {"bottom": None, "network": {**HEAD, "backbone": VGG16}}),
        ("ecoc", {"network": {"name": "vgg16_ensemble", "width": 0.1, "branches_from_bottom": True}}),
    ],
)
def test_models_of_the_papers_are_allowed(name, change):
    document = with_model(name, change)
    if name == "labels":
        del document["models"]["head"]  # its bottom
    planned = Study.from_config(document).models[name]
    assert {key: planned[key] for key in change if key != "bottom"} == {
        k: v for k, v in change.items() if k != "bottom"
    }


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "vgg",
            {"loss": "asymmetric"},
            "models.vgg.loss: 'asymmetric' does not fit a one_hot encoding; allowed",
        ),
        ("labels", {"loss": "cross_entropy"}, "allowed: binary_cross_entropy, hinge, categorical_hinge, asymmetric"),
        ("labels", {"training": {"epochs": 1, "precision": "fp16"}}, "unknown precision 'fp16'; .*float32, tf32, bf16"),
        (
            "vgg",
            {"network": VGG16},
            "vgg.network: published weights take colour images; those of digits are grey",
        ),
        (
            "labels",
            {"network": {**VGG16, "width": 0.5}},
            "width: published weights are of a vgg16 with 1, not 0.5",
        ),
        (
            "labels",
            {"network": {"name": "inception_v3", "weights": "IMAGENET1K_V1", "blocks": [2, 1, 1]}},
            r"network.blocks: published weights are of a inception_v3 with \[3, 4, 2\], not \[2, 1, 1\]",
        ),
        (
            "labels",
            {"network": {"name": "alexnet", "weights": "IMAGENET1K_V1"}},
            "labels.network.weights: unknown",
        ),
        ("head", {"network": {**HEAD, "backbone": CLIP}}, "has backbone that are published; give it one of the two"),
        (
            "ecoc",
            {"network": {**VGG16, "name": "vgg16_ensemble"}},
            "ecoc.bottom: the network has weights that are",
        ),
        ("head", {"bottom": None}, "'bottom' is missing: frozen_features uses the layers of a trained vgg16 or"),
        (
            "head",
            {"bottom": None, "network": {**HEAD, "backbone": {"name": "vgg16"}}},
            "models.head.network.backbone: needs published weights .weights, pretrained.; for a trained",
        ),
        (
            "head",
            {"bottom": None, "network": {**HEAD, "backbone": {"name": "torchvision", "architecture": "resnet50"}}},
            "models.head.network.backbone.name: .*allowed: vgg16, inception_v3, timm",
        ),
        ("head", {"network": {**HEAD, "projection": True}}, "network.projection: only a backbone of timm's that is"),
        (
            "head",
            {"bottom": None, "network": {**HEAD, "projection": True, "backbone": VGG16}},
            "models.head.network.projection: only a backbone of timm's",
        ),
        (
            "head",
            {"bottom": None, "network": {**HEAD, "backbone": CLIP}, "training": {"epochs": 0}},
            "models.head.training.epochs: 0 takes published weights as they are; frozen_features has none here",
        ),
        (
            "ecoc",
            {"network": {"name": "vgg16_ensemble", "width": 0.2}},
            "models.ecoc.network.width: must be that of the bottom vgg, 0.1, not 0.2",
        ),
        (
            "ecoc",
            {"network": {"name": "vgg16_ensemble", "width": 0.1, "batch_norm": False}},
            "models.ecoc.network.batch_norm: must be that of the bottom vgg, True, not False",
        ),
        (
            "ecoc",
            {"network": {"name": "vgg16_ensemble", "width": 0.1, "branch_width": 0.05, "branches_from_bottom": True}},
            "network.branch_width: branches_from_bottom needs 0.1, the width, not 0.05",
        ),
    ],
)
def test_models_that_cannot_be_are_refused_with_the_study(name, change, message):
    with pytest.raises(StudyError, match=message):
        Study.from_config(with_model(name, change))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "labels",
            {"network": {**VGG16, "weights": "IMAGENET1K_V9"}},
            "models.labels.network: network: torchvision's vgg16_bn has no weights 'IMAGENET1K_V9'; it has",
        ),
        (
            "head",
            {"bottom": None, "network": {**HEAD, "backbone": {**CLIP, "architecture": "vit_base_patch16_225"}}},
            "models.head.network: timm has no architecture 'vit_base_patch16_225'; near it: vit_base_patch16_224",
        ),
        (
            "head",
            {"bottom": None, "network": {**HEAD, "backbone": {**CLIP, "architecture": "vit_base_patch16_224.openai"}}},
            "models.head.network: timm has no weights for 'vit_base_patch16_224.openai'; of vit_base_patch16_224 it",
        ),
        (
            "head",
            {
                "bottom": None,
                "network": {**HEAD, "projection": True, "backbone": {**CLIP, "architecture": "resnet18.a1_in1k"}},
            },
            "models.head.network: projection: the last layer of resnet18.a1_in1k is no projection",
        ),
    ],
)
def test_names_that_libraries_do_not_have_are_refused_by_validate(name, change, message, tmp_path):
    """A study alone, as Snakemake plans it, does not ask the libraries."""
    document = with_model(name, change)
    if name == "labels":
        del document["models"]["head"]
    Study.from_config(document)
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(document))
    result = CliRunner().invoke(app, ["validate", str(tmp_path / "study.yaml")])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert result.stderr.startswith(f"Error: {message}")
