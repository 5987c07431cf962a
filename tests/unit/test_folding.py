"""Classifiers made faster for attacks compute what they did."""

import copy

import pytest
import torch
from torch import nn

from wolfe import Classifier, MultiLabel
from wolfe.models import build_network
from wolfe.models.folding import for_attack

NETWORKS = {
    "vgg": {"name": "vgg16", "width": 0.0625},
    "ensemble": {"name": "vgg16_ensemble", "width": 0.0625},
    "resnet": {"name": "timm", "architecture": "resnet10t", "channels": [8, 8, 8, 16], "stem_width": 8},
    "inception": {"name": "inception_v3", "width": 0.125, "blocks": [2, 1, 1], "small_images": True},
    "vit": {
        "name": "timm", "architecture": "vit_tiny_patch16_224", "img_size": "image", "patch_size": 4, "embed_dim": 16,
        "depth": 1, "num_heads": 2, "stem": [[8, 2], [16, 2]],
    },
}  # fmt: skip


def learned(network: nn.Module) -> Classifier:
    """A classifier whose normalisations are not those of the start."""
    generator = torch.Generator().manual_seed(2)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            shape = module.running_mean.shape
            module.running_mean.copy_(0.3 * torch.randn(shape, generator=generator))
            module.running_var.copy_(0.5 + torch.rand(shape, generator=generator))
            module.weight.data.copy_(0.5 + torch.rand(shape, generator=generator))
            module.bias.data.copy_(0.3 * torch.randn(shape, generator=generator))
    return Classifier(network, MultiLabel(4), mean=[0.5], std=[0.25]).eval()


@pytest.mark.parametrize("name", list(NETWORKS))
def test_logits_and_jacobians_stay_what_they_were_and_no_normalisation_is_left(name):
    torch.manual_seed(0)
    classifier = learned(build_network(NETWORKS[name], 3, 4, 32))
    before = copy.deepcopy(classifier.state_dict())
    images = torch.rand(3, 3, 32, 32)
    faster = for_attack(classifier, images)
    assert faster is not classifier
    assert not any(isinstance(module, nn.BatchNorm2d) for module in faster.modules())
    other = torch.rand(5, 3, 32, 32)
    for left, right in zip(classifier.logits_and_jacobian(other), faster.logits_and_jacobian(other), strict=True):
        assert torch.allclose(left, right, rtol=1e-3, atol=1e-4 * float(left.abs().max()))
    assert all(torch.equal(value, before[key]) for key, value in classifier.state_dict().items())
    assert not any(parameter.requires_grad for parameter in faster.parameters())


class UsedTwice(nn.Module):
    """A convolution whose output goes round the normalisation too."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 4)

    def forward(self, x):
        x = self.convolution(x)
        return self.head((x + self.norm(x)).mean(dim=(2, 3)))


def test_what_cannot_be_folded_is_left_alone():
    torch.manual_seed(0)
    images = torch.rand(2, 3, 8, 8)
    twice = learned(UsedTwice())
    assert for_attack(twice, images) is twice
    plain = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), MultiLabel(4)).eval()
    assert for_attack(plain, images) is plain
