"""Classifiers and weights from strangers: nothing is run, and sizes are known before memory is taken."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fuzz import files
from wolfe.files import read_json, write_json
from wolfe.models.adopting import _tensors
from wolfe.models.storage import load_classifier


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A small classifier of each encoding."""
    return files.write_classifiers(tmp_path_factory.mktemp("classifiers"))


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("network", "width"), 8, r"weights\.safetensors does not fit the network"),
        (("network", "width"), 10**9, "network is not what"),
        (("network", "name"), None, "network is not what"),
        (("network", "x"), "y" * 1_000, "network is not what"),
        (("network", "x"), [[[1]]], "network is not what"),
        (
            ("network",),
            {"name": "timm", "architecture": "resnet10t", "checkpoint_path": "evil.pth"},
            "network is not what",
        ),
        (
            ("network",),
            {"name": "timm", "architecture": "resnet10t", "pretrained_cfg": {"url": "x"}},
            "network is not what",
        ),
        (("network",), {"name": "timm", "architecture": "vit_tiny_patch16_224", "depth": 10**6}, "network is not what"),
        (("network",), {"name": "timm", "architecture": "hf-hub:somebody/something"}, "no architecture"),
        (
            ("network",),
            {"name": "frozen_features", "backbone": {"name": "frozen_features", "backbone": {}}},
            "network is not",
        ),
        (("encoding",), {"kind": "one_hot", "classes": 10**12}, "encoding is not what"),
        (("encoding",), {"kind": "one_hot", "classes": 100_000}, "does not fit the network"),
        (("encoding",), {"kind": "codebook", "codewords": [[1], [1, 2]], "activation": "tanh"}, "encoding is not what"),
        (("encoding",), {"kind": "one_hot"}, "encoding is not what"),
        (("image_shape",), [1, 10**6, 10**6], "image_shape is not what"),
        (("image_shape",), [1, 32], "image_shape is not what"),
        (("mean",), "x", "mean is not what"),
        (("std",), [0.0], "std is not what"),
        (("class_names",), {"a": 1}, "class_names is not what"),
        (("weights_sha256",), 3, "weights_sha256 is not what"),
    ],
)
def test_a_description_that_is_absurd_is_refused(
    classifiers: list[Path], tmp_path: Path, keys: tuple[str, ...], value: Any, message: str
) -> None:
    description = read_json(classifiers[0] / "classifier.json")
    place = description
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    write_json(tmp_path / "classifier.json", description)
    (tmp_path / "weights.safetensors").write_bytes((classifiers[0] / "weights.safetensors").read_bytes())
    with pytest.raises(ValueError, match=message):
        load_classifier(tmp_path)


def test_weights_are_compared_before_the_network_is_built(
    classifiers: list[Path], tmp_path: Path, monkeypatch: Any
) -> None:
    """The parameters of a network of width 8 would take gigabytes; on the meta device they take none."""
    description = read_json(classifiers[0] / "classifier.json")
    write_json(tmp_path / "classifier.json", {**description, "network": {**description["network"], "width": 8}})
    (tmp_path / "weights.safetensors").write_bytes((classifiers[0] / "weights.safetensors").read_bytes())
    monkeypatch.setattr("wolfe.models.storage.build_described", lambda *_: pytest.fail("the network was built"))
    with pytest.raises(ValueError, match="tensors are missing, too many or of another shape"):
        load_classifier(tmp_path)


def test_valid_classifiers_are_read(classifiers: list[Path]) -> None:
    for folder in classifiers:
        assert (
            load_classifier(folder)(torch.zeros(1, *read_json(folder / "classifier.json")["image_shape"]))
            .isfinite()
            .all()
        )


class Evil:
    """What runs a command where it is unpickled."""

    def __reduce__(self) -> Any:
        return os.system, ("touch pwned",)


def test_no_pickle_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"x": torch.zeros(1), "y": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="no tensors that can be read safely"):
        _tensors(tmp_path / "evil.pth")
    assert not (tmp_path / "pwned").exists()


def test_weights_hold_no_more_values_than_their_file(tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(1).expand(1 << 40)}, tmp_path / "wide.pth")
    with pytest.raises(ValueError, match="more values than the file has"):
        _tensors(tmp_path / "wide.pth")
    content = zipfile.ZipFile(io.BytesIO(files.weights_of_torch()))
    with zipfile.ZipFile(tmp_path / "packed.pth", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in content.namelist():
            packed.writestr(name, content.read(name))
    with pytest.raises(ValueError, match="its parts are compressed"):
        _tensors(tmp_path / "packed.pth")


@pytest.mark.parametrize(
    "value",
    [
        torch.sparse_coo_tensor([[0]], [1.0], (3,), check_invariants=True),
        torch.zeros(3, device="meta"),
    ],
    ids=["sparse", "meta"],
)
def test_weights_are_dense(tmp_path: Path, value: torch.Tensor) -> None:
    torch.save({"x": value}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth holds a tensor that is no plain array of numbers \(x\)"):
        _tensors(tmp_path / "other.pth")
