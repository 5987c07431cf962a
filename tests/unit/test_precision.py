"""Attacks compute in full single precision, whatever is set around them, and leave the settings as they were."""

import pytest
import torch
from torch.backends import cuda, cudnn, mkldnn

from wolfe import Classifier, MultiLabel
from wolfe.attacks import JMA
from wolfe.classifier import ready_for_attack
from wolfe.precision import full_precision

SETTINGS = {
    "products": cuda.matmul,
    "convolutions": cudnn.conv,
    "recurrent": cudnn.rnn,
    "products on a processor": mkldnn.matmul,
    "convolutions on a processor": mkldnn.conv,
    "all": torch.backends,
}


def legacy():
    """What the older interface says; "raises" where it finds the two interfaces mixed."""
    said = []
    for read in (torch.get_float32_matmul_precision, lambda: cuda.matmul.allow_tf32, lambda: cudnn.allow_tf32):
        try:
            said.append(read())
        except RuntimeError:
            said.append("raises")
    return said


def state():
    return [setting.fp32_precision for setting in SETTINGS.values()], legacy()


AROUND = {
    "as torch starts": lambda: None,
    "high": lambda: torch.set_float32_matmul_precision("high"),
    "medium": lambda: torch.set_float32_matmul_precision("medium"),
    "older switches on": lambda: (setattr(cuda.matmul, "allow_tf32", True), setattr(cudnn, "allow_tf32", True)),
    "older switches off": lambda: (setattr(cuda.matmul, "allow_tf32", False), setattr(cudnn, "allow_tf32", False)),
    "newer switch of products": lambda: setattr(cuda.matmul, "fp32_precision", "tf32"),
    "newer switch of convolutions": lambda: setattr(cudnn.conv, "fp32_precision", "ieee"),
    "general switch": lambda: setattr(torch.backends, "fp32_precision", "tf32"),
    "bfloat16 on a processor": lambda: setattr(mkldnn.matmul, "fp32_precision", "bf16"),
}


@pytest.fixture
def as_before():
    """Puts all settings back after a test."""
    before = state()
    yield
    torch.backends.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")
    cudnn.allow_tf32 = True
    for setting, precision in zip(reversed(SETTINGS.values()), reversed(before[0]), strict=True):
        setting.fp32_precision = precision
    assert state() == before


@pytest.mark.parametrize("around", list(AROUND))
def test_tf32_is_off_inside_and_every_setting_is_back_afterwards(around, as_before):
    AROUND[around]()
    before = state()
    with pytest.raises(KeyError), full_precision(["cpu"]):
        inside = [setting.fp32_precision for name, setting in SETTINGS.items() if name != "all"]
        assert set(inside) == {"ieee"}
        assert torch.get_float32_matmul_precision() == "highest"
        assert not cuda.matmul.allow_tf32
        # Whatever could be read outside can be read inside.
        assert "raises" not in legacy() or "raises" in before[1] or around == "general switch"
        raise KeyError
    assert state() == before


def test_an_attack_inside_autocast_is_the_same_to_the_last_bit(convolutional):
    classifier, images, targets = convolutional
    attack = JMA(step_size=0.5, max_iterations=5)
    outside = attack(classifier, images, targets)
    with torch.autocast("cpu", torch.bfloat16):
        inside = attack(classifier, images, targets)
        assert torch.is_autocast_enabled("cpu")
        assert classifier(images).dtype == torch.bfloat16
    assert torch.equal(inside.adversarials, outside.adversarials)
    assert torch.equal(inside.iterations, outside.iterations)
    assert inside.adversarials.dtype == torch.float32


def test_a_classifier_in_bfloat16_stays_one():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    classifier = Classifier(network, MultiLabel(3)).to(torch.bfloat16)
    with ready_for_attack(classifier):
        logits, jacobian = classifier.logits_and_jacobian(torch.rand(2, 1, 4, 4, dtype=torch.bfloat16))
    assert logits.dtype == jacobian.dtype == torch.bfloat16
