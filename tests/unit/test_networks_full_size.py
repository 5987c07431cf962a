"""Every network of the papers at its full size, and torchvision's weights in our own networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision import models

from tests.unit.test_training import bars
from wolfe.classifier import Classifier
from wolfe.data.writer import write_source
from wolfe.encoding import OneHot
from wolfe.files import read_json, sha256
from wolfe.models import build_network, catalogues, load_classifier, train_model
from wolfe.models.adopting import load_weights, put_tensors
from wolfe.models.ensemble import VGG16Ensemble
from wolfe.models.frozen_features import FrozenFeatures
from wolfe.models.inception import inception_v3
from wolfe.models.pretrained import find_weights, without_weights
from wolfe.models.vgg import VGG16, own_names

TRAINING = {"epochs": 1, "batch_size": 32, "learning_rate": 1e-3}


def weights_of(network, path):
    torch.manual_seed(2)
    tensors = {key: 0.05 * torch.randn(value.shape) for key, value in network.state_dict().items() if value.ndim}
    for key, value in network.state_dict().items():
        tensors.setdefault(key, value)
        if key.endswith("running_var"):
            tensors[key] = tensors[key].abs() + 0.5
    save_file({key: value.contiguous() for key, value in tensors.items()}, path)
    return tensors


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    base = tmp_path_factory.mktemp("published")
    write_source("bars", "bars", bars(1, "single", channels=3), base / "colour")
    return base


def entry(network, training=TRAINING):
    return {"network": network, "encoding": {"kind": "one_hot"}, "loss": "cross_entropy", "training": training}


# Every network at its full size -------------------------------------------------------------------------------------

VGG16_OF_1000 = 138_357_544
NORMALISED = 2 * 4224  # weights and biases of VGG16's batch normalisations


def count(network, outputs, size, channels=3):
    with torch.device("meta"):
        return sum(item.numel() for item in build_network(network, channels, outputs, size).parameters())


@pytest.mark.parametrize(
    ("network", "outputs", "size", "parameters"),
    [
        ({"name": "vgg16", "batch_norm": False}, 1000, 224, VGG16_OF_1000),
        ({"name": "vgg16"}, 1000, 224, VGG16_OF_1000 + NORMALISED),
        ({"name": "inception_v3"}, 1000, 299, 23_834_568),
        ({"name": "inception_v3"}, 20, 299, 23_834_568 - 980 * 2049),
        ({"name": "timm", "architecture": "resnet50.a1_in1k"}, 1000, 224, 25_557_032),
        ({"name": "torchvision", "architecture": "resnet50"}, 1000, 224, 25_557_032),
        ({"name": "timm", "architecture": "vit_base_patch16_224.augreg_in21k"}, 1000, 224, 86_567_656),
        ({"name": "timm", "architecture": "vit_base_patch16_224.augreg_in21k"}, 2000, 224, 86_567_656 + 769_000),
        ({"name": "timm", "architecture": "swin_base_patch4_window7_224.ms_in22k_ft_in1k"}, 1000, 224, 87_768_224),
    ],
)
def test_networks_have_the_published_number_of_parameters(network, outputs, size, parameters):
    assert count(network, outputs, size) == parameters


@pytest.mark.parametrize(
    "architecture", ["vit_base_patch16_clip_224.openai", "vit_base_patch16_clip_quickgelu_224.openai"]
)
def test_clips_image_encoder_has_the_published_number_of_parameters_under_a_head(architecture):
    backbone = {"name": "timm", "architecture": architecture}
    head = 768 * 512 + 512 + 512 * 20 + 20
    # The paper's image encoder also projects to 512 values, without a bias; the head stands before that.
    assert (
        count({"name": "frozen_features", "hidden": 512, "backbone": backbone}, 20, 224)
        == 86_192_640 - 768 * 512 + head
    )


@pytest.mark.parametrize(("channels", "size", "bits"), [(1, 32, 16), (3, 32, 16), (3, 64, 32)])
def test_an_ensemble_has_a_vgg16_a_bit_over_one_bottom(channels, size, bits):
    with torch.device("meta"):
        single = VGG16(channels, 1, size)
    whole, bottom = (sum(item.numel() for item in part.parameters()) for part in (single, single.bottom()))
    assert count({"name": "vgg16_ensemble"}, bits, size, channels) == bottom + bits * (whole - bottom)


# Torchvision's weights in our own networks ---------------------------------------------------------------------------


@pytest.mark.parametrize(("batch_norm", "theirs"), [(True, models.vgg16_bn), (False, models.vgg16)])
def test_vgg16_is_torchvisions_by_other_names(batch_norm, theirs):
    with torch.device("meta"):
        expected = {key: value.shape for key, value in own_names(theirs().state_dict()).items()}
        own = {key: value.shape for key, value in VGG16(3, 1000, 224, batch_norm=batch_norm).state_dict().items()}
    assert own == expected


def small_vgg16(batch_norm=True, outputs=10):
    """Torchvision's VGG16 at 1/32 of the width."""
    plan = [2, 2, "M", 4, 4, "M", 8, 8, 8, "M", 16, 16, 16, "M", 16, 16, 16, "M"]
    with torch.device("meta"):  # its dense layers, of the full width, are replaced
        network = models.VGG(nn.Identity())
    network.features = models.vgg.make_layers(plan, batch_norm=batch_norm)
    hidden = (nn.Linear(16 * 49, 128), nn.ReLU(), nn.Dropout(), nn.Linear(128, 128), nn.ReLU(), nn.Dropout())
    network.classifier = nn.Sequential(*hidden, nn.Linear(128, outputs))
    return network.eval()


@pytest.mark.parametrize("batch_norm", [True, False])
def test_vgg16_with_torchvisions_weights_computes_the_same(batch_norm, tmp_path):
    theirs, own = small_vgg16(batch_norm), VGG16(3, 10, 224, 1 / 32, batch_norm=batch_norm).eval()
    theirs.load_state_dict(weights_of(theirs, tmp_path / "w.safetensors"))
    put_tensors(own, theirs.state_dict(), new_head=False)
    images = torch.rand(2, 3, 224, 224)
    torch.testing.assert_close(own(images), theirs(images))


def test_vgg16s_dense_layers_are_taken_for_images_of_the_published_size():
    tensors = {key: value for key, value in small_vgg16().state_dict().items() if "num_batches" not in key}
    for size, taken in ((224, ("dense.1.weight", "dense.4.weight")), (64, ())):
        own = VGG16(3, 7, size, 1 / 32)
        before = {key: value.clone() for key, value in own.state_dict().items()}
        put_tensors(own, tensors, new_head=True)
        after = own.state_dict()
        same = [key for key in before if key.endswith("weight") and torch.equal(before[key], after[key])]
        dense = [f"dense.{place}.weight" for place in (1, 4, 7)]
        norms = [key for key in same if before[key].ndim == 1]  # ones there and here
        assert same == [*norms, *(key for key in dense if key not in taken)]
        for key, value in own_names(tensors).items():
            if key.startswith("features.") or key in taken:
                assert torch.equal(after[key], value)
    with pytest.raises(ValueError, match=r"0 are too many, 1 have another shape \(for example dense.1.weight"):
        put_tensors(VGG16(3, 10, 64, 1 / 32), tensors, new_head=False)
    with pytest.raises(ValueError, match="tensors are missing"):
        put_tensors(VGG16(3, 7, 64, 1 / 32, batch_norm=False), tensors, new_head=True)


@pytest.mark.parametrize("size", [224, 64])
def test_an_ensemble_takes_bottom_and_branches_from_published_weights(size):
    torch.manual_seed(0)
    theirs = small_vgg16()
    own, plain = (VGG16Ensemble(3, 4, size, 1 / 32, branches_from_bottom=wanted).eval() for wanted in (True, False))
    dense = own.dense[0].weight.detach().clone()
    # Older files do not count batches.
    tensors = {key: value for key, value in theirs.state_dict().items() if "num_batches" not in key}
    for network in (own, plain):
        put_tensors(network, tensors, new_head=True)
    images = torch.rand(2, 3, size, size)
    shared = theirs.features[:14](images)
    assert torch.equal(own.bottom(images), shared) and torch.equal(plain.bottom(images), shared)
    top = own.branches(shared.repeat(1, 4, 1, 1))
    torch.testing.assert_close(top, theirs.features(images).repeat(1, 4, 1, 1), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(plain.branches(shared.repeat(1, 4, 1, 1)), top)
    assert torch.equal(own.dense[0].weight, dense) == (size == 64), "hidden layers know the places of an image"
    if size == 224:
        hidden = own.dense[:6](top.reshape(2, 4, -1).transpose(0, 1))
        torch.testing.assert_close(hidden[3], theirs.classifier[:6](theirs.features(images).flatten(1)))
    with pytest.raises(ValueError, match="has other layers"):
        put_tensors(VGG16Ensemble(3, 4, size, 1 / 16), theirs.state_dict(), new_head=True)


def test_inception_with_torchvisions_weights_computes_the_same(tmp_path):
    """Torchvision changes its normalisation inside the network; ours is the weights'."""
    with torch.device("meta"):
        theirs = models.inception_v3(weights=None, init_weights=False, transform_input=True)
    theirs = theirs.to_empty(device="cpu").eval()
    theirs.load_state_dict(weights_of(theirs, tmp_path / "inception.safetensors"))
    network = {"name": "inception_v3", "weights": "IMAGENET1K_V1"}
    weights = find_weights({**network, "weights_file": str(tmp_path / "inception.safetensors")})
    own = build_network(without_weights(network), 3, 1000, 80)
    load_weights(own, weights, new_head=False)
    images, shown = torch.rand(2, 3, 80, 80), models.Inception_V3_Weights.IMAGENET1K_V1.transforms()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (shown.mean, shown.std))
    classifier = Classifier(own, OneHot(1000), weights.mean, weights.std).eval()
    with torch.no_grad():
        torch.testing.assert_close(classifier(images), theirs((images - mean) / std), rtol=1e-3, atol=1e-4)
    narrow = inception_v3(3, 20, 80, width=0.5)
    with pytest.raises(ValueError, match=r"inception.safetensors does not fit the network: .* have another shape"):
        load_weights(narrow, weights, new_head=True)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"name": "vgg16", "width": 0.5}, "published weights are of vgg16 with width: 1, not 0.5"),
        ({"name": "vgg16_ensemble", "width": 0.125}, "are of vgg16_ensemble with width: 1, not 0.125"),
        ({"name": "inception_v3", "blocks": [2, 1, 1]}, r"with blocks: \[3, 4, 2\], not \[2, 1, 1\]"),
        ({"name": "inception_v3", "small_images": True}, "with small_images: False, not True"),
        ({"name": "vgg16", "batch_norm": False, "weights": "V2"}, "vgg16 has no weights 'V2'; it has IMAGENET1K_V1"),
        ({"name": "vgg16", "weights": None, "pretrained": True}, "vgg16_bn has no weights None"),
        ({"name": "frozen_features", "backbone": {"name": "vgg16", "weights": None}}, "backbone .* needs published"),
    ],
)
def test_weights_of_another_network_are_refused(network, message):
    with pytest.raises(ValueError, match=message):
        find_weights({"weights": "IMAGENET1K_V1", **network})


@pytest.mark.parametrize("name", ["vgg16", "vgg16_ensemble"])
def test_training_goes_on_from_torchvisions_vgg16(name, folder, tmp_path, monkeypatch):
    # The narrow network stands for the published one, which would take gigabytes.
    monkeypatch.setattr(catalogues, "_refuse_changes", lambda *parts: None)
    theirs = small_vgg16()
    weights_of(theirs, tmp_path / "w.safetensors")
    branches = {"branches_from_bottom": True} if name == "vgg16_ensemble" else {}
    plain = {"name": name, "width": 1 / 32, **branches}
    network = {**plain, "weights": "IMAGENET1K_V1", "weights_file": str(tmp_path / "w.safetensors")}
    spec = entry(network, training={**TRAINING, "learning_rate": 1e-9})
    if branches:
        spec |= {"encoding": {"kind": "codebook", "code": "hadamard", "length": 4}, "loss": "hinge"}
    train_model("one", spec, folder / "colour", tmp_path / "out", tmp_path / "store", 0, "cpu")
    classifier, description = load_classifier(tmp_path / "out"), read_json(tmp_path / "out" / "classifier.json")
    assert description["network"] == plain
    assert description["weights"] == {
        "name": "torchvision vgg16_bn IMAGENET1K_V1",
        "sha256": sha256(tmp_path / "w.safetensors"),
    }
    first = getattr(classifier.net, "bottom" if branches else "features")[0].weight
    expected = load_file(tmp_path / "w.safetensors")["features.0.weight"]
    torch.testing.assert_close(first, expected, rtol=0, atol=1e-6)
    assert classifier.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    if branches:
        with pytest.raises(ValueError, match="takes no layers of a trained network"):
            train_model("o", spec, folder / "colour", tmp_path / "o", tmp_path / "s", 0, "cpu", bottom=tmp_path / "out")


def test_a_vgg16_below_a_head_takes_torchvisions_weights():
    theirs = small_vgg16()
    net = FrozenFeatures(3, 5, 224, backbone={"name": "vgg16", "width": 1 / 32}, hidden=8).eval()
    put_tensors(net, theirs.state_dict(), new_head=True)
    images = torch.rand(1, 3, 224, 224)
    expected = theirs.classifier[:6](theirs.features(images).flatten(1))
    np.testing.assert_allclose(net.features(images).detach(), expected.detach(), rtol=1e-4, atol=1e-6)
