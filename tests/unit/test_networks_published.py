"""AlexNet, and networks with published weights: the same layers, the weights' own normalisation, what is refused."""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from huggingface_hub import errors
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from wolfe.data import build_dataset
from wolfe.files import read_json, sha256
from wolfe.models import build_network, load_classifier, train_model
from wolfe.models.adopting import load_weights
from wolfe.models.alexnet import AlexNet
from wolfe.models.fresh import make_encoding
from wolfe.models.pretrained import check_names, find_weights, keeps_head, same_classes, without_weights

# The smallest of torchvision's networks; its published weights stay away, any others of the same shapes will do.
SMALL = {"name": "torchvision", "architecture": "squeezenet1_1", "weights": "IMAGENET1K_V1"}
CATEGORIES = models.SqueezeNet1_1_Weights.IMAGENET1K_V1.meta["categories"]
UNIQUE = [name if CATEGORIES.count(name) == 1 else f"{name} (n{index:08d})" for index, name in enumerate(CATEGORIES)]


def test_alexnet_at_full_width_is_torchvisions():
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in models.alexnet().state_dict().items()}
        own = {key: value.shape for key, value in AlexNet(3, 1000, 224).state_dict().items()}
    assert list(own.items()) == list(shapes.items())
    assert sum(shape.numel() for shape in own.values()) == 61_100_840


def test_alexnet_computes_what_torchvisions_does():
    torch.manual_seed(0)
    theirs, own = models.alexnet(num_classes=7).eval(), AlexNet(3, 7, 224).eval()
    own.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(own(images), theirs(images))
        larger = AlexNet(3, 7, 256).eval()
        larger.load_state_dict(theirs.state_dict())
        images = torch.randn(1, 3, 256, 256)
        torch.testing.assert_close(larger(images), theirs(images))


@pytest.mark.parametrize(("size", "small", "places"), [(64, True, 3), (32, True, 1), (64, False, 1), (224, False, 6)])
def test_alexnet_has_a_share_of_the_channels(size, small, places):
    net = AlexNet(3, 5, size, width=1 / 16, small_images=small)
    channels = [layer.out_channels for layer in net.features if isinstance(layer, nn.Conv2d)]
    assert channels == [4, 12, 24, 16, 16]
    dense = [layer for layer in net.classifier if isinstance(layer, nn.Linear)]
    assert [layer.in_features for layer in dense] == [16 * places**2, 256, 256]
    assert net(torch.rand(2, 3, size, size)).shape == (2, 5)


@pytest.mark.parametrize(("size", "small"), [(62, False), (28, True)])
def test_alexnet_refuses_images_that_are_too_small(size, small):
    with pytest.raises(ValueError, match=f"at least 63 pixels, or 29 with small_images, got {size}"):
        AlexNet(3, 5, size, width=1 / 16, small_images=small)
    assert AlexNet(3, 5, size + 1, width=1 / 16, small_images=small)(torch.rand(1, 3, size + 1, size + 1)).shape == (
        1,
        5,
    )


def test_alexnet_normalises_only_where_asked():
    norms = [
        sum(isinstance(layer, nn.BatchNorm2d) for layer in AlexNet(3, 5, 64, 1 / 16, batch_norm=wanted).features)
        for wanted in (False, True)
    ]
    assert norms == [0, 5]


def test_torchvision_networks_are_built_by_name():
    net = build_network(without_weights(SMALL), 3, 11, 64)
    assert net(torch.rand(2, 3, 64, 64)).shape == (2, 11)
    for wrong, message in (
        ({"architecture": "resnet5"}, "no architecture 'resnet5'.*near it: .*resnet50"),
        ({"architecture": "inception_v3"}, "no architecture 'inception_v3' that can be used here"),
        ({}, "needs the option 'architecture'"),
    ):
        with pytest.raises(ValueError, match=message):
            build_network({"name": "torchvision", **wrong}, 3, 11, 64)
    with pytest.raises(ValueError, match="takes images of 3 channels, got 1"):
        build_network(without_weights(SMALL), 1, 11, 64)


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    """Tensors of the small network, with logits that differ from image to image."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_file(models.squeezenet1_1().state_dict(), path)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A handful of pictures of a thousand classes, in the hub's layout, as a built data set."""
    folder = tmp_path_factory.mktemp("data")
    write_set(folder / "hub", UNIQUE)
    splits = {"train": "validation[:4]", "validation": "validation[4:8]", "test": "validation[8:]"}
    entry = {"source": "hub", "collection": "imagenet", "size": 64, "splits": splits, "partial": True}
    build_dataset("some", {**entry, "data_root": str(folder / "hub")}, folder / "set", 0)
    return folder / "set"


def write_set(folder, names):
    random = np.random.default_rng(0)
    cells = []
    for _ in range(12):
        stream = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(stream, format="PNG")
        cells.append({"bytes": stream.getvalue(), "path": None})
    features = {"label": {"names": names, "_type": "ClassLabel"}}
    table = pa.table({"image": cells, "label": list(range(0, 960, 80))})
    folder.mkdir(parents=True)
    pq.write_table(
        table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})}),
        folder / "validation-0.parquet",
    )


def entry(network, epochs=0):
    return {
        "dataset": "some",
        "network": network,
        "encoding": {"kind": "one_hot"},
        "loss": "cross_entropy",
        "training": {"epochs": epochs, "batch_size": 2},
    }


def test_published_weights_are_taken_as_they_are(weights_file, data, tmp_path):
    spec = entry({**SMALL, "weights_file": str(weights_file)})
    train_model("small", spec, data, tmp_path / "out", tmp_path / "store", 0, "cpu", quiet=True)
    classifier = load_classifier(tmp_path / "out")
    # The normalisation is the weights', not the data's.
    assert classifier.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert classifier.std.flatten().tolist() == pytest.approx([0.229, 0.224, 0.225])
    theirs = models.squeezenet1_1().eval()
    theirs.load_state_dict(find_weights(spec["network"]) and load_tensors(weights_file))
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    shown = models.SqueezeNet1_1_Weights.IMAGENET1K_V1.transforms()
    normalised = (images - torch.tensor(shown.mean).view(3, 1, 1)) / torch.tensor(shown.std).view(3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(classifier(images), theirs(normalised), rtol=1e-4, atol=1e-4)
    description, metrics = (read_json(tmp_path / "out" / name) for name in ("classifier.json", "metrics.json"))
    assert description["network"] == {"name": "torchvision", "architecture": "squeezenet1_1"}
    assert description["weights"] == {
        "name": "torchvision squeezenet1_1 IMAGENET1K_V1",
        "sha256": sha256(weights_file),
    }
    assert description["class_names"] == UNIQUE
    assert metrics["epochs"] == metrics["best_epoch"] == 0 and metrics["counts"] == {"validation": 4, "test": 4}


def load_tensors(path):
    from safetensors.torch import load_file

    return load_file(path)


def test_where_the_weights_lie_does_not_matter(weights_file, data, tmp_path):
    (tmp_path / "other.safetensors").write_bytes(weights_file.read_bytes())
    changed = {key: value + 1 for key, value in load_tensors(weights_file).items()}
    torch.save(changed, tmp_path / "changed.pth")
    finished = []
    for path in (weights_file, tmp_path / "other.safetensors", tmp_path / "changed.pth"):
        spec = entry({**SMALL, "weights_file": str(path)})
        train_model("small", spec, data, tmp_path / "out", tmp_path / "store", 0, "cpu", quiet=True)
        finished.append(len(list((tmp_path / "store").iterdir())))
    assert finished == [1, 1, 2]
    loaded = load_classifier(tmp_path / "out").net.state_dict()
    assert all(torch.equal(value, changed[key]) for key, value in loaded.items())


def test_other_classes_get_a_layer_of_their_own(weights_file):
    weights = find_weights({**SMALL, "weights_file": str(weights_file)})
    torch.manual_seed(1)
    net = build_network(without_weights(SMALL), 3, 2, 64)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    load_weights(net, weights, new_head=True)
    tensors = load_tensors(weights_file)
    kept = {key for key, value in net.state_dict().items() if torch.equal(value, before[key])}
    assert {"classifier.1.weight", "classifier.1.bias"} <= kept
    assert all(torch.equal(net.state_dict()[key], tensors[key]) for key in before if not key.startswith("classifier"))
    with pytest.raises(ValueError, match=r"small.safetensors does not fit.* 2 have another shape .*classifier.1"):
        load_weights(net, weights, new_head=False)


def test_training_goes_on_from_published_weights(weights_file, data, tmp_path):
    spec = entry({**SMALL, "weights_file": str(weights_file)}, epochs=1)
    spec["training"]["learning_rate"] = 1e-9
    train_model("small", spec, data, tmp_path / "out", tmp_path / "store", 0, "cpu", quiet=True)
    classifier, tensors = load_classifier(tmp_path / "out"), load_tensors(weights_file)
    for key, value in classifier.net.state_dict().items():
        torch.testing.assert_close(value, tensors[key], rtol=0, atol=1e-6)
    assert read_json(tmp_path / "out" / "metrics.json")["epochs"] == 1


def test_classes_must_be_the_datas(weights_file, data, tmp_path):
    weights = find_weights({**SMALL, "weights_file": str(weights_file)})
    assert same_classes(weights, UNIQUE)
    assert same_classes(weights, [f"{name.upper()}, and more" for name in UNIQUE])
    assert not same_classes(weights, UNIQUE[1:] + UNIQUE[:1])
    assert not same_classes(weights, UNIQUE[:999])
    one_hot = make_encoding({"encoding": {"kind": "one_hot"}}, 1000, "single")
    assert keeps_head("m", weights, one_hot, UNIQUE, as_it_is=True)
    assert not keeps_head("m", weights, one_hot, UNIQUE[::-1], as_it_is=False)
    with pytest.raises(ValueError, match=r"model 'm': torchvision squeezenet1_1 IMAGENET1K_V1 tells 1000 classes"):
        keeps_head("m", weights, one_hot, UNIQUE[::-1], as_it_is=True)
    with pytest.raises(ValueError, match="with epochs: 0 a network is taken as it is: give it published weights"):
        train_model("m", entry(without_weights(SMALL)), data, tmp_path / "out", tmp_path / "store", 0, "cpu")


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({**SMALL, "weights": "IMAGENET1K_V9"}, "has no weights 'IMAGENET1K_V9'; it has IMAGENET1K_V1"),
        (
            {"name": "alexnet", "weights": "IMAGENET1K_V1"},
            "alexnet has no published weights here; torchvision, timm, vgg16",
        ),
        ({"name": "torchvision", "architecture": "alexnet", "weights_root": "."}, "say also which"),
        ({"name": "timm", "architecture": "resnet50.nothing", "pretrained": True}, "timm has no weights for"),
    ],
)
def test_weights_that_do_not_exist_are_refused(network, message):
    with pytest.raises(ValueError, match=message):
        find_weights(network)
    assert find_weights({"name": "vgg16"}) is None


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({**SMALL, "weights": "IMAGENET1K_V9"}, "has no weights 'IMAGENET1K_V9'"),
        ({**SMALL, "architecture": "resnet51"}, "no architecture 'resnet51' .*near it: .*resnet50"),
        ({"name": "torchvision", "architecture": "resnet51"}, "no architecture 'resnet51'"),
        ({"name": "timm", "architecture": "resnet51"}, "timm has no architecture 'resnet51'; near it: .*resnet50"),
        (
            {"name": "timm", "architecture": "resnet18.openai"},
            "for 'resnet18.openai'; of resnet18 it has a1_in1k",
        ),
        ({"name": "timm", "pretrained": True}, "network timm needs the option 'architecture'"),
        ({"name": "timm", "architecture": "resnet10t", "pretrained": True, "weights_root": "."}, None),
        ({**SMALL, "weights_root": "nowhere"}, None),
        ({"name": "vgg16"}, None),
    ],
)
def test_names_are_checked_before_anything_is_read_or_fetched(network, message, tmp_path):
    if message is None:
        check_names(network)
        return
    for wrong in (network, {"name": "frozen_features", "backbone": {"weights": "X", **network}}):
        with pytest.raises(ValueError, match=message):
            check_names(wrong)
    with pytest.raises(ValueError, match=message):
        train_model("one", entry(network), tmp_path / "no data", tmp_path / "out", tmp_path / "store", 0, "cpu")


def test_damaged_files_are_refused(tmp_path):
    net = build_network(without_weights(SMALL), 3, 1000, 64)
    for name, content in (("a.safetensors", b"nothing"), ("b.pth", b"nothing")):
        (tmp_path / name).write_bytes(content)
        weights = find_weights({**SMALL, "weights_file": str(tmp_path / name)})
        with pytest.raises(ValueError, match=f"{name} holds no tensors"):
            load_weights(net, weights, new_head=False)
    torch.save([1, 2], tmp_path / "c.pth")
    with pytest.raises(ValueError, match=r"c.pth holds no tensors by name"):
        load_weights(net, find_weights({**SMALL, "weights_file": str(tmp_path / "c.pth")}), new_head=False)
    usual = models.SqueezeNet1_1_Weights.IMAGENET1K_V1.url.rsplit("/", 1)[-1]
    (tmp_path / usual).write_bytes(b"half a download")
    with pytest.raises(ValueError, match=r"is damaged: its checksum does not begin with"):
        find_weights({**SMALL, "weights_root": str(tmp_path)})


def test_without_a_network_the_remedy_is_named(tmp_path, monkeypatch):
    def refused(url, path, progress):
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refused)
    with pytest.raises(FileNotFoundError, match=r"cannot be fetched here .no network.*put squeezenet1_1-\w+.pth into"):
        find_weights(SMALL)
    with pytest.raises(FileNotFoundError, match=r"the weights torchvision squeezenet1_1 IMAGENET1K_V1, is missing"):
        find_weights({**SMALL, "weights_root": str(tmp_path)})


def test_without_a_network_timms_weights_have_a_remedy_too(monkeypatch):
    """Its client's errors need be no OSError."""

    def refused(repository, file):
        raise errors.HTTPError("no network")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refused)
    remedy = (
        r"cannot be fetched here .no network.: put resnet18.a1_in1k.safetensors or resnet18.a1_in1k/model.safetensors "
        "into a folder and name it as weights_root"
    )
    with pytest.raises(FileNotFoundError, match=remedy):
        find_weights({"name": "timm", "architecture": "resnet18.a1_in1k", "pretrained": True})


def test_timms_weights_know_their_classes(tmp_path):
    (tmp_path / "resnet50.a1_in1k.safetensors").write_bytes(b"")
    network = {"name": "timm", "architecture": "resnet50.a1_in1k", "pretrained": True, "weights_root": str(tmp_path)}
    weights = find_weights(network)
    assert weights.name == "timm resnet50.a1_in1k" and weights.mean == pytest.approx((0.485, 0.456, 0.406))
    # Two libraries, one order of classes.
    assert same_classes(weights, UNIQUE)
    assert without_weights(network) == {"name": "timm", "architecture": "resnet50.a1_in1k"}
