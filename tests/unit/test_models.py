"""Networks and their files: sizes, the ensemble's own Jacobian, what is refused."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from wolfe.classifier import Classifier
from wolfe.encoding import Codebook, MultiLabel, OneHot, hadamard
from wolfe.models import NETWORKS, build_network, load_classifier, load_description, save_classifier
from wolfe.models.ensemble import VGG16Ensemble
from wolfe.models.frozen_features import FrozenFeatures
from wolfe.models.vgg import PLAN, VGG16, convolutions, dense_size

TIMM = {"name": "timm", "architecture": "resnet10t", "channels": [8, 8, 8, 16], "stem_width": 8}
INCEPTION = {"name": "inception_v3", "width": 0.125, "blocks": [2, 1, 1], "small_images": True}
FROZEN = {"name": "frozen_features", "hidden": 16, "backbone": TIMM}


def warmed(network):
    """The network in evaluation mode, with batch statistics that are not the first ones."""
    generator = torch.Generator().manual_seed(3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(0.1 * torch.randn(module.running_mean.shape, generator=generator))
            module.running_var.copy_(0.5 + torch.rand(module.running_var.shape, generator=generator))
    return network.eval()


def ensemble():
    torch.manual_seed(5)
    return warmed(VGG16Ensemble(1, 4, 32, width=1 / 32))


def test_vgg16_has_the_classical_sizes():
    plain = convolutions(PLAN, 3, batch_norm=False)
    assert sum(p.numel() for p in plain.parameters()) == 14_714_688
    assert sum(isinstance(layer, nn.Conv2d) for layer in plain) == 13
    normalised = VGG16(3, 10, 32, width=1.0)
    assert sum(p.numel() for p in normalised.features.parameters()) == 14_714_688 + 2 * 4224
    assert [layer.out_features for layer in normalised.dense if isinstance(layer, nn.Linear)] == [
        4096,
        4096,
        10,
    ]
    assert dense_size(224, 1.0) == 25_088


def test_vgg16_bottom_ends_at_the_second_pooling():
    net = VGG16(1, 10, 32, width=0.125)
    bottom = net.bottom()
    assert sum(isinstance(layer, nn.Conv2d) for layer in bottom) == 4
    assert bottom(torch.rand(2, 1, 32, 32)).shape == (2, 16, 8, 8)
    assert bottom[0] is net.features[0]


def test_vgg16_refuses_sizes_that_five_poolings_do_not_halve():
    with pytest.raises(ValueError, match="multiple of 32, got 40"):
        VGG16(1, 10, 40)


def test_ensemble_branches_are_separate_networks():
    net = ensemble()
    x = torch.rand(3, 1, 32, 32)
    before = net(x)
    with torch.no_grad():
        channels = net.branches[0].out_channels // 4
        net.branches[0].weight[2 * channels : 3 * channels] += 0.3
    changed = (net(x) - before).abs().max(dim=0).values > 1e-7
    assert changed.tolist() == [False, False, True, False]


def test_ensemble_jacobian_is_the_derivative():
    net = ensemble().double()
    x = torch.rand(3, 1, 32, 32, dtype=torch.float64)
    local = net.linearise(x, lambda images: images)
    logits, jacobian = local.values, local.jacobian()
    expected = torch.func.vmap(torch.func.jacrev(lambda image: net(image[None])[0]))(x)
    assert torch.equal(logits, net(x).detach())
    assert not logits.requires_grad and not jacobian.requires_grad
    torch.testing.assert_close(jacobian, expected, rtol=1e-10, atol=1e-14)
    assert jacobian.abs().max() > 1e-6
    weights = torch.randn(3, 2, 4, dtype=torch.float64)
    torch.testing.assert_close(local.rows(weights), torch.einsum("bkn,bnchw->bkchw", weights, expected))
    torch.testing.assert_close(local.push(x), torch.einsum("bnchw,bchw->bn", expected, x))


def test_classifier_uses_the_ensemble_jacobian():
    classifier = Classifier(ensemble(), Codebook(hadamard(4, 3)), [0.3], [0.4])
    x = torch.rand(2, 1, 32, 32)
    _, jacobian = classifier.logits_and_jacobian(x)
    expected = torch.func.vmap(torch.func.jacrev(lambda image: classifier(image[None])[0]))(x)
    torch.testing.assert_close(jacobian, expected, rtol=1e-3, atol=1e-6)


def test_ensemble_jacobian_is_much_faster_than_one_pass_a_logit():
    torch.manual_seed(0)
    net = VGG16Ensemble(1, 16, 32, width=1 / 16).eval()
    x = torch.rand(8, 1, 32, 32)

    def row_by_row():
        inputs = x.clone().requires_grad_()
        logits = net(inputs)
        return [torch.autograd.grad(logits[:, i].sum(), inputs, retain_graph=True)[0] for i in range(16)]

    def fastest(work):
        times = []
        for _ in range(4):
            started = time.process_time()
            work()
            times.append(time.process_time() - started)
        return min(times)

    classifier = Classifier(net, Codebook(hadamard(16, 10)))
    assert 2 * fastest(lambda: classifier.logits_and_jacobian(x)) < fastest(row_by_row)


def test_ensemble_keeps_its_bottom_frozen_in_training_mode():
    source = warmed(VGG16(1, 10, 32, width=1 / 32))
    net = VGG16Ensemble(1, 4, 32, width=1 / 32)
    net.copy_bottom(source)
    kept = {key: value.clone() for key, value in net.bottom.state_dict().items()}
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net(torch.rand(8, 1, 32, 32)).square().sum().backward()
    optimizer.step()
    assert net.branches.training and not any(module.training for module in net.bottom.modules())
    assert all(torch.equal(value, kept[key]) for key, value in net.bottom.state_dict().items())
    x = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(net.bottom(x), source.bottom()(x))


def test_ensemble_refuses_a_bottom_of_another_width():
    with pytest.raises(ValueError, match="same width"):
        ensemble().copy_bottom(VGG16(1, 10, 32, width=1 / 16))


def test_ensemble_branches_may_have_a_width_of_their_own():
    net = VGG16Ensemble(1, 4, 32, width=1 / 8, branch_width=1 / 16)
    net.copy_bottom(VGG16(1, 10, 32, width=1 / 8))
    assert net.branches[0].weight.shape == (4 * 16, 16, 3, 3)
    assert net.dense[0].weight.shape == (4, 32, 256)
    assert net(torch.rand(2, 1, 32, 32)).shape == (2, 4)


@pytest.mark.parametrize("batch_norm", [True, False])
def test_branches_may_begin_as_the_network_that_gives_the_bottom(batch_norm):
    torch.manual_seed(4)
    options = {"width": 1 / 32, "batch_norm": batch_norm}
    source = warmed(VGG16(3, 10, 64, **options))
    net = VGG16Ensemble(3, 4, 64, **options, branches_from_bottom=True)
    last = net.dense[-1].weight.detach().clone()
    net.copy_bottom(source)
    net.eval()
    x, seen = torch.rand(2, 3, 64, 64), []
    source.dense[-1].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    net.dense[-1].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    source(x), net(x)
    assert seen[1].shape == (4, 2, 128) and seen[0].abs().max() > 0.1
    torch.testing.assert_close(seen[1], seen[0].expand(4, 2, 128), rtol=1e-4, atol=1e-5)
    assert torch.equal(net.dense[-1].weight, last) and len(net(x)[0].unique()) == 4, "the last layers are fresh"
    fresh = VGG16Ensemble(3, 4, 64, **options)
    fresh.copy_bottom(source)
    assert not torch.allclose(fresh(x), net(x)) and torch.equal(fresh.bottom(x), net.bottom(x))


def test_branches_from_the_bottom_need_its_width_and_images():
    with pytest.raises(ValueError, match=r"needs branches of the bottom's width 0.125, not of 0.0625: leave"):
        VGG16Ensemble(3, 4, 64, width=0.125, branch_width=0.0625, branches_from_bottom=True)
    net = VGG16Ensemble(3, 4, 64, width=1 / 32, branch_width=1 / 32, branches_from_bottom=True)
    with pytest.raises(ValueError, match="has other layers: give both the same width"):
        net.copy_bottom(VGG16(3, 10, 32, width=1 / 32))


def test_inception_is_timms_at_full_width():
    timm = pytest.importorskip("timm")
    theirs = timm.create_model("inception_v3", num_classes=7, aux_logits=False, device="meta")
    ours = build_network({"name": "inception_v3"}, 3, 7, 299)
    expected = {key: value.shape for key, value in theirs.state_dict().items()}
    assert {key: value.shape for key, value in ours.state_dict().items()} == expected
    own_padding = {key: part.padding for key, part in theirs.named_modules() if isinstance(part, nn.Conv2d)}
    assert {key: part.padding for key, part in ours.named_modules() if isinstance(part, nn.Conv2d)} == own_padding
    assert not any(value.is_meta for value in ours.state_dict().values())


def test_inception_computes_what_timm_computes():
    timm = pytest.importorskip("timm")
    ours = warmed(build_network({"name": "inception_v3"}, 3, 7, 75))
    theirs = timm.create_model("inception_v3", num_classes=7, aux_logits=False).eval()
    theirs.load_state_dict(ours.state_dict())
    x = torch.rand(1, 3, 75, 75)
    assert torch.equal(ours(x), theirs(x))


def test_inception_at_an_eighth_has_an_eighth_of_each_count():
    narrow = build_network({**INCEPTION, "blocks": [3, 4, 2]}, 1, 7, 64)
    full = build_network({"name": "inception_v3"}, 1, 7, 299)
    counts = [part.out_channels for part in narrow.modules() if isinstance(part, nn.Conv2d)]
    assert [8 * count for count in counts] == [p.out_channels for p in full.modules() if isinstance(p, nn.Conv2d)]
    assert narrow.fc.in_features == 256 and narrow.fc.out_features == 7
    shortest = build_network(INCEPTION, 1, 7, 29)
    assert [
        name for name, part in shortest.named_children() if name[:5] == "Mixed" and isinstance(part, nn.Identity)
    ] == [*("Mixed_5d", "Mixed_6c", "Mixed_6d", "Mixed_6e", "Mixed_7c")]
    assert shortest.eval()(torch.rand(1, 1, 29, 29)).shape == (1, 7)


@pytest.mark.parametrize(
    "backbone", [{"name": "vgg16", "width": 1 / 32}, INCEPTION, TIMM], ids=lambda spec: spec["name"]
)
def test_frozen_features_are_those_of_the_trained_network(backbone):
    source = warmed(build_network(backbone, 3, 10, 64))
    last = [part for part in source.modules() if isinstance(part, nn.Linear)][-1]
    x, seen = torch.rand(2, 3, 64, 64), []
    last.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    source(x)
    net = FrozenFeatures(3, 5, 64, backbone=backbone, hidden=16)
    net.copy_bottom(source)
    torch.testing.assert_close(net.features(x), seen[0])
    assert net.head[1].in_features == last.in_features
    assert net(x).shape == (2, 5)


def test_frozen_features_do_not_change_in_training():
    net = FrozenFeatures(3, 5, 64, backbone=TIMM, hidden=16)
    kept = {key: value.clone() for key, value in net.features.state_dict().items()}
    net.train()
    assert net.head.training and not any(module.training for module in net.features.modules())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    before = net.head[1].weight.clone()
    net(torch.rand(8, 3, 64, 64)).square().sum().backward()
    optimizer.step()
    assert not torch.equal(net.head[1].weight, before)
    assert all(torch.equal(value, kept[key]) for key, value in net.features.state_dict().items())


def test_frozen_features_refuse_another_network():
    net = FrozenFeatures(3, 5, 64, backbone=TIMM)
    with pytest.raises(ValueError, match="is not the backbone described"):
        net.copy_bottom(build_network({**TIMM, "channels": [8, 8, 8, 8]}, 3, 10, 64))
    with pytest.raises(ValueError, match="features of a vgg16, inception_v3 or timm network, not VGG16Ensemble"):
        FrozenFeatures(3, 5, 64, backbone={"name": "vgg16_ensemble", "width": 1 / 32})


# torch's own table of derivatives for forward mode is still a script.
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    ("spec", "channels", "outputs", "size"),
    [
        ({"name": "vgg16", "width": 1 / 32}, 1, 10, 32),
        ({"name": "vgg16_ensemble", "width": 1 / 32}, 3, 8, 64),
        (TIMM, 3, 20, 64),
        (INCEPTION, 3, 20, 64),
        (FROZEN, 3, 20, 64),
    ],
)
def test_networks_give_logits_and_work_in_torch_func(spec, channels, outputs, size):
    net = build_network(spec, channels, outputs, size).eval()
    x, direction = torch.rand(2, channels, size, size), torch.rand(2, channels, size, size)
    logits, change = torch.func.jvp(net, (x,), (direction,))
    assert logits.shape == change.shape == (2, outputs)
    value, pull = torch.func.vjp(net, x)
    (gradient,) = pull(torch.ones_like(value))
    torch.testing.assert_close((gradient * direction).sum(), change.sum(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "vgg61"}, "unknown network 'vgg61'; there are alexnet, vgg16, vgg16_ensemble, inception_v3"),
        ({"name": "vgg16", "widht": 1}, "vgg16 has no option 'widht'; it has width, batch_norm, dropout"),
        ({"name": "timm"}, "needs the option 'architecture'"),
        ({"name": "timm", "architecture": "resnet10x"}, "no architecture 'resnet10x'.*resnet10t"),
        ({"name": "timm", "architecture": "resnet10t", "stem_widht": 8}, "resnet10t does not take"),
        ({**INCEPTION, "width": 0.1}, "width must be a multiple of 1/16, at least 1/16, got 0.1"),
        ({**INCEPTION, "width": 1 / 32}, "width must be a multiple of 1/16"),
        ({**INCEPTION, "blocks": [1, 1, 1]}, "three counts, 2 to 3 A, 1 to 4 C, 1 to 2 E, got .1, 1, 1."),
        ({**INCEPTION, "blocks": [3, 4]}, "blocks are three counts"),
        ({**INCEPTION, "small_images": False}, "at least 75 pixels, or 29 with small_images, got 64"),
        ({"name": "frozen_features"}, "needs the option 'backbone'"),
    ],
)
def test_a_wrong_network_says_what_is_allowed(spec, message):
    with pytest.raises(ValueError, match=message):
        build_network(spec, 3, 10, 64)


def test_a_new_network_is_a_function_and_a_name(monkeypatch):
    def build_linear(in_channels, outputs, image_size, *, bias=True):
        return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size**2, outputs, bias=bias))

    monkeypatch.setitem(NETWORKS, "linear", build_linear)
    assert build_network({"name": "linear", "bias": False}, 1, 5, 8)(torch.rand(2, 1, 8, 8)).shape == (2, 5)


def saved(folder, spec, encoding, shape):
    torch.manual_seed(1)
    classifier = Classifier(warmed(build_network(spec, shape[0], encoding.size, shape[1])), encoding, [0.3], [0.5])
    names = [str(i) for i in range(encoding.size)]
    save_classifier(
        classifier,
        folder,
        {"network": spec, "image_shape": list(shape), "class_names": names, "dataset": "some"},
    )
    return classifier


@pytest.mark.parametrize(
    ("spec", "encoding", "shape"),
    [
        ({"name": "vgg16", "width": 1 / 32}, OneHot(10), (1, 32, 32)),
        ({"name": "vgg16_ensemble", "width": 1 / 32}, Codebook(hadamard(8, 5)), (1, 32, 32)),
        (TIMM, MultiLabel(20), (3, 64, 64)),
        (INCEPTION, MultiLabel(20), (3, 64, 64)),
        (FROZEN, MultiLabel(20), (3, 64, 64)),
    ],
)
def test_a_classifier_comes_back_as_it_was(spec, encoding, shape, tmp_path):
    classifier = saved(tmp_path, spec, encoding, shape).eval()
    state = torch.get_rng_state()
    loaded = load_classifier(tmp_path)
    assert torch.equal(torch.get_rng_state(), state), "loading must not draw from the caller's generator"
    x = torch.rand(3, *shape)
    assert torch.equal(loaded(x), classifier(x))
    assert torch.equal(loaded.decide(x), classifier.decide(x))
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    assert load_description(tmp_path)["encoding"] == encoding.to_dict()


def test_damaged_files_are_refused_by_name(tmp_path):
    saved(tmp_path, {"name": "vgg16", "width": 1 / 32}, OneHot(10), (1, 32, 32))
    weights = tmp_path / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ValueError, match=r"weights\.safetensors is damaged"):
        load_classifier(tmp_path)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"weights\.safetensors is missing"):
        load_classifier(tmp_path)
    (tmp_path / "classifier.json").write_text('{"network": {}}')
    with pytest.raises(ValueError, match=r"classifier\.json is damaged: it lacks encoding"):
        load_classifier(tmp_path)
    (tmp_path / "classifier.json").unlink()
    with pytest.raises(FileNotFoundError, match="is no trained classifier"):
        load_classifier(tmp_path)


def test_device_names(tmp_path):
    from wolfe.models.storage import resolve_device

    assert resolve_device("cpu") == "cpu"
    assert resolve_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ValueError, match="auto, cpu or cuda, got 'gpu'"):
        resolve_device("gpu")


def test_lazy_names():
    import wolfe.models

    with pytest.raises(AttributeError, match="it offers"):
        wolfe.models.load_model  # noqa: B018


STEM = [[8, 2], [8, 1], [16, 2]]
TRANSFORMERS = {
    "vit": {"architecture": "vit_tiny_patch16_224", "depth": 1, "num_heads": 2},
    "swin": {"architecture": "swin_tiny_patch4_window7_224", "window_size": 4, "depths": [1, 1], "num_heads": [2, 2]},
}


@pytest.mark.parametrize("kind", list(TRANSFORMERS))
def test_a_stem_takes_the_place_of_the_patches_and_gives_as_many_tokens(kind):
    spec = {"name": "timm", "img_size": "image", "patch_size": 4, "embed_dim": 16, **TRANSFORMERS[kind]}
    plain, stemmed = (build_network({**spec, **more}, 3, 5, 32).eval() for more in ({}, {"stem": STEM}))
    images = torch.rand(2, 3, 32, 32)
    assert stemmed.patch_embed(images).shape == plain.patch_embed(images).shape
    assert stemmed(images).shape == (2, 5)
    convolutions = [layer for layer in stemmed.patch_embed.modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.stride[0] for layer in convolutions] == [2, 1, 2, 1]
    # A pixel far away is nothing to a token: the stem looks at the image place by place.
    changed = images.clone()
    changed[:, :, -8:, -8:] = 0
    first = [stemmed.patch_embed(item).reshape(2, -1, 16)[:, 0] for item in (images, changed)]
    assert torch.equal(*first)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"architecture": "resnet10t", "stem": STEM}, "ResNet has no embedding of patches"),
        ({"architecture": "vit_tiny_patch16_224", "img_size": 32, "stem": STEM}, "to the patch size, 16, not to 4"),
        ({"architecture": "vit_tiny_patch16_224", "img_size": 32, "num_heads": 7}, "does not take these options"),
    ],
)
def test_stems_that_do_not_fit_are_refused(spec, message):
    with pytest.raises(ValueError, match=message):
        build_network({"name": "timm", **spec}, 3, 5, 32)
