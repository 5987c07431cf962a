"""Timm's published weights under any head, for images of any size, and below a head on frozen features."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.unit.test_networks_full_size import entry, weights_of
from tests.unit.test_training import bars
from wolfe.data.writer import write_source
from wolfe.files import read_json
from wolfe.models import build_network, load_classifier, train_model
from wolfe.models.adopting import load_weights
from wolfe.models.frozen_features import without_last_layer
from wolfe.models.pretrained import check_channels, find_weights, without_weights

# A transformer of timm's for tests, as published for 160 pixels; any weights of its shapes will do.
VIT = {"name": "timm", "architecture": "test_vit.r160_in1k", "pretrained": True}
RESNET = {"name": "timm", "architecture": "test_resnet.r160_in1k", "pretrained": True}
# The smallest of timm's image encoders of CLIP.
CLIP = {"name": "timm", "architecture": "vit_xsmall_patch16_clip_224.tinyclip_yfcc15m", "pretrained": True}
TRAINING = {"epochs": 1, "batch_size": 32, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data in colours and in grey, and weights of the small transformer and residual network."""
    base = tmp_path_factory.mktemp("published")
    write_source("bars", "bars", bars(1, "single", channels=3), base / "colour")
    write_source("bars", "bars", bars(1, "single"), base / "grey")
    for network in (VIT, RESNET):
        architecture = network["architecture"]
        full = build_network({"name": "timm", "architecture": architecture}, 3, 1000, 160)
        weights_of(full, base / f"{architecture}.safetensors")
    return base


def test_weights_whose_outputs_are_no_classes_are_found(tmp_path):
    for architecture, classes, mean in (
        ("vit_base_patch16_clip_224.openai", 0, 0.48145466),
        ("vit_base_patch16_224.augreg_in21k", 21843, 0.5),
        ("swin_base_patch4_window7_224.ms_in22k_ft_in1k", 1000, 0.485),
        ("resnet50.a1_in1k", 1000, 0.485),
        ("inception_v3.tv_in1k", 1000, 0.5),
    ):
        (tmp_path / f"{architecture}.safetensors").write_bytes(b"")
        network = {"name": "timm", "architecture": architecture, "pretrained": True, "weights_root": str(tmp_path)}
        weights = find_weights(network)
        assert (len(weights.classes), weights.mean[0]) == (classes, pytest.approx(mean))
        assert find_weights({"name": "frozen_features", "backbone": network}).classes == ()


@pytest.mark.parametrize("network", [VIT, RESNET], ids=lambda network: network["architecture"])
def test_timms_weights_get_a_new_last_layer(network, folder):
    weights = find_weights({**network, "weights_root": str(folder)})
    torch.manual_seed(0)
    own = build_network(without_weights(network), 3, 7, 160).eval()
    head = own.get_classifier().weight.detach().clone()
    load_weights(own, weights, new_head=True)
    full = build_network(without_weights(network), 3, 1000, 160).eval()
    full.load_state_dict(load_file(weights.file))
    images = torch.rand(2, 3, 160, 160)
    torch.testing.assert_close(
        own.forward_head(own.forward_features(images), pre_logits=True),
        full.forward_head(full.forward_features(images), pre_logits=True),
    )
    assert torch.equal(own.get_classifier().weight, head) and own(images).shape == (2, 7)


def test_a_transformer_for_other_images_interpolates_its_positions(folder):
    with pytest.raises(ValueError, match=r"takes images of 160 pixels, the data set's have 64: .* img_size: image"):
        build_network(without_weights(VIT), 3, 7, 64)
    weights = find_weights({**VIT, "weights_root": str(folder)})
    own = build_network({**without_weights(VIT), "img_size": "image"}, 3, 7, 64)
    load_weights(own, weights, new_head=True)
    published = load_file(weights.file)["pos_embed"]
    extra = own.num_prefix_tokens if published.shape[1] != (160 // 16) ** 2 else 0
    side = math.isqrt(own.pos_embed.shape[1] - extra)
    assert side == 4 and own(torch.rand(1, 3, 64, 64)).shape == (1, 7)
    grid = published[:, extra:].unflatten(1, (10, 10)).permute(0, 3, 1, 2)
    expected = nn.functional.interpolate(grid, size=4, mode="bicubic", antialias=True).flatten(2).transpose(1, 2)
    torch.testing.assert_close(own.pos_embed[:, extra:], expected)
    assert torch.equal(own.pos_embed[:, :extra], published[:, :extra])


def test_grey_images_and_published_weights_do_not_go_together(folder, tmp_path):
    network = {**VIT, "img_size": "image", "weights_root": str(folder)}
    message = r"model 'one': timm test_vit.r160_in1k takes images of 3 channels, the data set's have 1: train it"
    with pytest.raises(ValueError, match=message):
        train_model("one", entry(network), folder / "grey", tmp_path / "out", tmp_path / "store", 0, "cpu")
    assert not (tmp_path / "out").exists()
    check_channels("one", None, 1)


def test_other_tensors_are_refused_by_the_files_name(folder, tmp_path):
    other = {**VIT, "weights_file": str(folder / "test_resnet.r160_in1k.safetensors")}
    with pytest.raises(ValueError, match=r"test_resnet\.r160_in1k\.safetensors does not fit the network: "):
        load_weights(build_network(without_weights(VIT), 3, 7, 160), find_weights(other), new_head=True)
    tensors = load_file(folder / "test_vit.r160_in1k.safetensors")
    del tensors["blocks.0.attn.proj.weight"]
    save_file(tensors, tmp_path / "cut.safetensors")
    cut = find_weights({**VIT, "weights_file": str(tmp_path / "cut.safetensors")})
    with pytest.raises(ValueError, match=r"1 tensors are missing, .*for example blocks.0.attn.proj.weight"):
        load_weights(build_network(without_weights(VIT), 3, 7, 160), cut, new_head=True)


@pytest.mark.parametrize("place", ["vit_base_patch16_clip_quickgelu_224.openai", "vit_base_patch16_clip_224.openai"])
def test_weights_are_found_as_their_repository_has_them(place, tmp_path):
    architecture = "vit_base_patch16_clip_quickgelu_224.openai"
    network = {"name": "timm", "architecture": architecture, "pretrained": True, "weights_root": str(tmp_path)}
    looked = (
        rf"{architecture}.safetensors or .*{architecture}/model.safetensors or .*_clip_224.openai/model.safetensors"
    )
    with pytest.raises(FileNotFoundError, match=looked):
        find_weights(network)
    (tmp_path / place).mkdir()
    (tmp_path / place / "model.safetensors").write_bytes(b"")
    assert find_weights(network).file == tmp_path / place / "model.safetensors"


def test_weights_of_other_classes_are_refused(folder, tmp_path):
    """Under a layer of the data's own, any file of that architecture would fit."""
    for outputs in (10, 0):
        weights_of(build_network(without_weights(RESNET), 3, outputs, 160), tmp_path / "other.safetensors")
        weights = find_weights({**RESNET, "weights_file": str(tmp_path / "other.safetensors")})
        message = f"other.safetensors does not fit .*: its last layer, fc, has {outputs} outputs, .* published one 1000"
        for network in (without_weights(RESNET), {"name": "frozen_features", "backbone": without_weights(RESNET)}):
            with pytest.raises(ValueError, match=message):
                load_weights(build_network(network, 3, 7, 160), weights, new_head=True)


def test_a_head_stands_on_clips_features_as_they_are_or_projected(folder, tmp_path):
    """What CLIP compares with text is 512 numbers, whatever the width of its transformer (256 here)."""
    plain = {"name": "timm", "architecture": CLIP["architecture"], "img_size": "image"}
    full = build_network({"name": "timm", "architecture": CLIP["architecture"]}, 3, 512, 224)
    weights_of(full, tmp_path / f"{CLIP['architecture']}.safetensors")
    images, seen = torch.rand(2, 3, 32, 32), {}
    for projection, size in ((True, 512), (False, 256)):
        backbone = {**CLIP, "img_size": "image", "weights_root": str(tmp_path)}
        network = {"name": "frozen_features", "hidden": 8, "projection": projection, "backbone": backbone}
        train_model("head", entry(network), folder / "colour", tmp_path / "out", tmp_path / "store", 0, "cpu")
        description = read_json(tmp_path / "out" / "classifier.json")["network"]
        assert description == {**network, "backbone": plain}
        seen[size] = load_classifier(tmp_path / "out").net.features(images)
        assert seen[size].shape == (2, size)
    head = load_file(tmp_path / f"{CLIP['architecture']}.safetensors")
    torch.testing.assert_close(seen[512], seen[256] @ head["head.weight"].T + head["head.bias"])


@pytest.mark.parametrize("backbone", [RESNET, {"name": "vgg16"}], ids=lambda network: network["name"])
def test_classes_are_no_projection(backbone):
    network = {"name": "frozen_features", "projection": True, "backbone": without_weights(backbone)}
    with pytest.raises(ValueError, match=r"projection: the last layer of .* is no projection of features, as CLIP's"):
        build_network(network, 3, 7, 160)


@pytest.mark.parametrize("backbone", [VIT, RESNET], ids=lambda network: network["architecture"])
def test_a_head_learns_on_a_published_backbone(backbone, folder, tmp_path):
    size = {"img_size": "image"} if backbone is VIT else {}
    where = {"weights_root": str(folder)}
    network = {"name": "frozen_features", "hidden": 16, "backbone": {**backbone, **size, **where}}
    train_model("head", entry(network), folder / "colour", tmp_path / "out", tmp_path / "store", 0, "cpu")
    classifier, description = load_classifier(tmp_path / "out"), read_json(tmp_path / "out" / "classifier.json")
    plain = {**without_weights(backbone), **size}
    assert description["network"] == {"name": "frozen_features", "hidden": 16, "backbone": plain}
    source = build_network(plain, 3, 1000, 32)
    weights = find_weights({**backbone, **where})
    load_weights(source, weights, new_head=False)
    features = without_last_layer(source).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(classifier.net.features(images), features(images))
    assert classifier.mean.flatten().tolist() == pytest.approx(list(weights.mean))
    assert description["weights"]["name"] == f"timm {backbone['architecture']}"
    with pytest.raises(ValueError, match=r"tells outputs, which are not the data set's 3 .*train it"):
        spec = entry(network, training={**TRAINING, "epochs": 0})
        train_model("head", spec, folder / "colour", tmp_path / "o", tmp_path / "s", 0, "cpu")
