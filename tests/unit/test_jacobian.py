"""Products with Jacobians: every way to them is the derivative, also where layers lack one and memory is short."""

from dataclasses import replace

import pytest
import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from wolfe.linear import Linearisation, lazy_least_norm, least_norm
from wolfe.linear import memory as memory_module
from wolfe.linear.calibration import FIXED, Calibration, in_force
from wolfe.linear.memory import out_of_memory, rows_that_fit
from wolfe.region import ClassRegion

TWICE = replace(FIXED, push="double_backward")


class Cube(torch.autograd.Function):
    """x^3 with a backward pass that is differentiable, but no forward derivative."""

    @staticmethod
    def forward(context, values) -> torch.Tensor:
        context.save_for_backward(values)
        return values**3

    @staticmethod
    def backward(context, slopes) -> torch.Tensor:
        (values,) = context.saved_tensors
        return 3 * values**2 * slopes


class HiddenCube(Cube):
    """Its backward pass hides half of what it does from autograd."""

    @staticmethod
    def backward(context, slopes) -> torch.Tensor:
        (values,) = context.saved_tensors
        return 3 * values**2 * (0.5 * slopes + 0.5 * slopes.detach())


class OnceCube(Cube):
    """Its backward pass cannot be differentiated."""

    @staticmethod
    @once_differentiable
    def backward(context, slopes) -> torch.Tensor:
        (values,) = context.saved_tensors
        return 3 * values**2 * slopes


def cubes(layer, seed=0, images=3, outputs=6):
    """A function with the layer in it, images in double precision and the Jacobian (B, n, 16)."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, 16, dtype=torch.float64, generator=generator)
    inputs = torch.rand(images, 1, 4, 4, dtype=torch.float64, generator=generator)
    jacobian = weight * 3 * inputs.flatten(1)[:, None] ** 2
    return lambda x: layer.apply(x).flatten(1) @ weight.T, inputs, jacobian


def attention(images):
    """Values (B, 5) of images (B, 1, 6, 8) by torch's fused attention."""
    tokens = images.transpose(1, 2).reshape(len(images), 1, 6, 8)
    mixed = functional.scaled_dot_product_attention(tokens, tokens.roll(1, 2), tokens.flip(3))
    return mixed.flatten(1)[:, :5] ** 2


@pytest.mark.parametrize("way", ["forward", "double_backward"])
@pytest.mark.parametrize("kind", ["convolution", "attention"])
def test_both_ways_to_a_product_are_the_derivative(way, kind):
    torch.manual_seed(3)
    convolution = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.GELU(), torch.nn.AvgPool2d(2), torch.nn.Flatten(), torch.nn.Linear(24, 5)
    )
    function = attention if kind == "attention" else convolution.double()
    images, directions = torch.rand(2, 4, 1, 6, 8, dtype=torch.float64)
    local = Linearisation(function, images)
    expected = torch.einsum("bnchw,bchw->bn", local.jacobian(), directions)
    for _ in range(2):
        torch.testing.assert_close(local.push_by(way, directions), expected)
    local.use(replace(FIXED, push=way))
    torch.testing.assert_close(local.push(directions), expected)
    assert not local.push(directions).requires_grad


@pytest.mark.parametrize("calibration", [FIXED, TWICE])
def test_a_layer_without_forward_derivative_is_taken_by_two_backward_passes(calibration):
    function, images, jacobian = cubes(Cube)
    local = Linearisation(function, images)
    local.use(calibration)
    with pytest.raises(RuntimeError):
        local.push_by("forward", images)
    torch.testing.assert_close(local.push(images), torch.einsum("bnm,bm->bn", jacobian, images.flatten(1)))
    torch.testing.assert_close(local.push(images), torch.einsum("bnm,bm->bn", jacobian, images.flatten(1)))


@pytest.mark.parametrize("layer", [OnceCube, HiddenCube])
def test_a_layer_with_neither_derivative_gives_no_wrong_product(layer):
    function, images, jacobian = cubes(layer)
    local = Linearisation(function, images)
    with pytest.raises(RuntimeError):
        local.push(images)
    torch.testing.assert_close(local.jacobian().flatten(2), jacobian)


@pytest.mark.parametrize("layer", [Cube, HiddenCube, OnceCube])
def test_lazy_solutions_do_not_depend_on_the_derivatives_that_layers_have(layer):
    function, images, jacobian = cubes(layer, seed=5, images=4, outputs=12)
    local = Linearisation(function, images)
    region = ClassRegion(torch.arange(4), 12)
    found = lazy_least_norm(local, local.values, region)
    expected = least_norm(jacobian[:, :, None, None], local.values, region)
    assert found.forward_mode == (layer is Cube)
    assert (found.jvps > 0).any() == (layer is Cube)
    torch.testing.assert_close(found.solution.perturbation.flatten(1), expected.perturbation.flatten(1))


def test_values_that_do_not_depend_on_the_images_have_no_derivative():
    bias = torch.ones(3, requires_grad=True)
    for function in (lambda images: bias.expand(len(images), -1), lambda images: torch.ones(len(images), 3)):
        local = Linearisation(function, torch.rand(2, 1, 4, 4))
        for way in ("forward", "double_backward"):
            assert torch.equal(local.push_by(way, torch.rand(2, 1, 4, 4)), torch.zeros(2, 3))


def test_values_that_are_not_finite_pass_through_both_ways():
    images = torch.rand(2, 1, 2, 2)
    images[1] = torch.nan
    local = Linearisation(lambda x: x.flatten(1) ** 2, images)
    for way in ("forward", "double_backward"):
        assert local.push_by(way, torch.ones_like(images)).isfinite().all(dim=1).tolist() == [True, False]


class Narrow(TorchDispatchMode):
    """A device on which a product of more than so many numbers exceeds the memory."""

    def __init__(self, numbers, error) -> None:
        super().__init__()
        self.numbers, self.error, self.seen = numbers, error, []

    def __torch_dispatch__(self, function, types, arguments=(), named=None) -> object:
        made = function(*arguments, **(named or {}))
        if function is torch.ops.aten.mul.Tensor:
            self.seen.append(made.numel())
            if made.numel() > self.numbers:
                raise self.error
        return made


MEMORY = [(torch.OutOfMemoryError, "CUDA out of memory"), (RuntimeError, "DefaultCPUAllocator: can't allocate memory")]


@pytest.mark.parametrize(("error", "message"), MEMORY)
@pytest.mark.parametrize(("most", "passes"), [(16, [16]), (8, [16, 8]), (3, [16, 8, 4, 2]), (1, [16, 8, 4, 2, 1])])
def test_rows_that_exceed_memory_are_taken_in_halves(error, message, most, passes):
    torch.manual_seed(1)
    weight, weights, images = torch.randn(5, 16), torch.randn(3, 16, 5), torch.rand(3, 1, 4, 4)
    local = Linearisation(lambda x: (2 * x.flatten(1)) @ weight.T, images)
    expected = 2 * (weights @ weight).unflatten(2, (1, 4, 4))
    with Narrow(most * images.numel(), error(message)) as device:
        first = local.rows(weights)
        rows = [numbers // images.numel() for numbers in device.seen]
        device.seen.clear()
        second = local.rows(weights)
    torch.testing.assert_close(first, expected)
    torch.testing.assert_close(second, expected)
    assert list(dict.fromkeys(rows)) == passes
    assert sum(size for size in rows if size <= most) == 16
    assert max(device.seen) <= device.numbers, "what did not fit is not tried again"
    with Narrow(images.numel() - 1, error(message)), pytest.raises(error, match=message):
        local.rows(weights)


@pytest.mark.parametrize(("error", "message"), MEMORY)
def test_memory_that_does_not_suffice_for_one_row_or_a_product_is_said(error, message):
    class Greedy(torch.autograd.Function):
        @staticmethod
        def forward(context, values) -> torch.Tensor:
            return values.clone()

        @staticmethod
        def backward(context, slopes) -> torch.Tensor:
            raise error(message)

        @staticmethod
        def jvp(context, tangent) -> torch.Tensor:
            raise error(message)

    local = Linearisation(lambda x: Greedy.apply(x).flatten(1), torch.rand(2, 1, 2, 2))
    for product in (lambda: local.rows(torch.ones(2, 9, 4)), lambda: local.push(torch.ones(2, 1, 2, 2))):
        with pytest.raises(error, match=message):
            product()
    with pytest.raises(error, match=message):
        lazy_least_norm(local, local.values, ClassRegion(torch.tensor([0, 1]), 4))


def test_an_error_is_one_of_memory_by_its_class_or_its_words():
    assert out_of_memory(torch.OutOfMemoryError("full"))
    assert out_of_memory(MemoryError())
    assert out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate"))
    assert not out_of_memory(RuntimeError("derivative for aten::_scaled_dot_product is not implemented"))
    assert not out_of_memory(ValueError("not enough memory"))


def test_rows_are_bounded_by_the_memory_that_is_free_on_a_gpu(monkeypatch):
    """1,000 bytes are free and 200 held for tensors to come: four fifths of that are 960."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 10_000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 500)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 300)
    gpu = torch.device("cuda")
    assert [rows_that_fit(row, gpu) for row in (100, 320, 5000)] == [9, 3, 1]
    assert memory_module.allocated(gpu) == 300
    assert rows_that_fit(100, torch.device("cpu")) > 1 << 30


def test_a_calibration_holds_on_its_kind_of_device_alone():
    measured = Calibration("cuda", "2.13.0", together=9, vectorised_from=None, push="double_backward", push_cost=2.5)
    here = replace(measured, device="cpu")
    assert in_force(measured, torch.device("cpu")) is FIXED
    assert in_force(None, torch.device("cpu")) is FIXED
    assert in_force(here, torch.device("cpu")) is here
    assert in_force(measured, torch.device("cuda", 1)) is measured
    local = Linearisation(lambda x: x.flatten(1), torch.rand(1, 1, 2, 2))
    assert local.push_cost == FIXED.push_cost
    local.use(here)
    assert local.push_cost == 2.5
    local.use(measured)
    assert local.calibration is FIXED
