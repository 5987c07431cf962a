import doctest
import importlib
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from tests.conftest import ENCODINGS
from wolfe.linear import Linearisation, dense_jacobian, least_norm
from wolfe.linear.calibration import FIXED
from wolfe.linear.dual import _lawson_hanson, solve_dual
from wolfe.region import BitRegion


def judge(rows, demand):
    """Lawson and Hanson's least-distance programme through SciPy: min ||x|| s.t. rows x >= demand; None if none."""
    augmented = np.vstack([rows.T, demand])
    right = np.zeros(len(augmented))
    right[-1] = 1
    solution, _ = nnls(augmented, right, maxiter=10_000)
    remainder = 1 - demand @ solution
    return None if remainder < 1e-10 else rows.T @ solution / remainder


@st.composite
def problems(draw):
    """Random row systems: full rank, rank-deficient, duplicated, opposed, with zero rows, one row."""
    seed = draw(st.integers(0, 2**32 - 1))
    count, width = draw(st.integers(1, 20)), draw(st.integers(1, 30))
    kind = draw(st.sampled_from(["random", "duplicated", "opposed", "zero", "scaled"]))
    generator = np.random.default_rng(seed)
    rows, demand = generator.standard_normal((count, width)), generator.standard_normal(count)
    if kind == "duplicated" and count > 1:
        rows[0] = rows[-1]
    if kind == "opposed" and count > 1:
        rows[0] = -rows[-1]
    if kind == "zero":
        rows[0] = 0
    if kind == "scaled":
        rows *= 10.0 ** generator.uniform(-4, 4, (count, 1))
    return rows, demand


@settings(max_examples=300, deadline=None)
@given(problems())
def test_dual_equals_an_independent_solver(problem):
    rows, demand = problem
    expected = judge(rows, demand)
    gram = torch.from_numpy(rows @ rows.T)[None]
    solution = solve_dual(gram, torch.from_numpy(demand)[None])
    found = rows.T @ solution.multipliers[0].numpy()
    largest = max((demand / np.maximum(np.linalg.norm(rows, axis=1), 1e-300)).max(), 0)
    if expected is None or np.linalg.norm(expected) > 1e4 * largest:
        # On the edge of infeasibility either word is right, a wrong solution is not.
        assert solution.infeasible.item() or (solution.converged.item() and np.linalg.norm(found) > 1e3 * largest)
        return
    norm = np.linalg.norm(expected)
    assert not solution.infeasible.item()
    assert solution.converged.item()
    assert solution.residual.item() <= 1e-8
    assert np.linalg.norm(found - expected) <= 1e-6 * max(norm, 1e-3)


def test_batch_equals_one_by_one():
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(50, 12, 9, dtype=torch.float64, generator=generator)
    demand = torch.randn(50, 12, dtype=torch.float64, generator=generator) - 0.3
    gram = rows @ rows.mT
    together = solve_dual(gram, demand)
    for i in range(50):
        alone = solve_dual(gram[i : i + 1], demand[i : i + 1])
        assert alone.infeasible.item() == together.infeasible[i].item()
        left, right = rows[i].T @ alone.multipliers[0], rows[i].T @ together.multipliers[i]
        assert torch.allclose(left, right, rtol=1e-8, atol=1e-10)


def test_active_set_method_alone_is_exact():
    """The method of last resort is right by itself, not only where block pivoting has prepared the ground."""
    generator = np.random.default_rng(4)
    for _ in range(20):
        rows, right = generator.standard_normal((8, 20)), generator.standard_normal(20)
        expected, _ = nnls(rows.T, right)
        found = _lawson_hanson(torch.from_numpy(rows @ rows.T), torch.from_numpy(rows @ right))
        assert np.allclose(found.numpy(), expected, atol=1e-9)


def test_by_hand_in_the_plane():
    """X + y <= -2 and x <= 0 from the origin: the nearest point is (-1, -1), one constraint active."""
    jacobian = torch.tensor([[[1.0, 1.0], [1.0, 0.0]]])
    values = torch.tensor([[2.0, 0.0]])
    solution = least_norm(jacobian, values, BitRegion(torch.tensor([[-1.0, -1.0]])))
    assert torch.allclose(solution.perturbation, torch.tensor([[-1.0, -1.0]]))
    assert torch.allclose(solution.multipliers, torch.tensor([[1.0, 0.0]], dtype=torch.float64))


def test_the_example_of_the_documentation_holds():
    results = doctest.testmod(importlib.import_module("wolfe.linear.least_norm"))
    assert (results.attempted > 0, results.failed) == (True, 0)


def test_margin_moves_the_plane():
    solution = least_norm(torch.tensor([[[2.0]]]), torch.tensor([[1.0]]), BitRegion(torch.tensor([[-1.0]])), margin=3.0)
    assert solution.perturbation.item() == pytest.approx(-2.0)


def test_inside_the_region_nothing_moves():
    solution = least_norm(torch.ones(1, 1, 4), torch.tensor([[-1.0]]), BitRegion(torch.tensor([[-1.0]])))
    assert solution.perturbation.abs().max() == 0
    assert solution.converged.all()


def test_no_jacobian_means_infeasible():
    solution = least_norm(torch.zeros(1, 2, 4), torch.ones(1, 2), BitRegion(-torch.ones(1, 2)))
    assert solution.infeasible.all()
    assert solution.perturbation.abs().max() == 0


def test_contradicting_rows_mean_infeasible_for_that_image_alone():
    jacobian = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])
    signs = torch.tensor([[1.0, -1.0], [1.0, -1.0]])
    solution = least_norm(jacobian, torch.tensor([[-1.0, 1.0], [-1.0, 1.0]]), BitRegion(signs))
    assert solution.infeasible.tolist() == [True, False]
    assert torch.allclose(solution.perturbation[1], torch.tensor([1.0, -1.0]))


def test_solution_is_in_the_linearised_region(encoding):
    generator = torch.Generator().manual_seed(2)
    jacobian = torch.randn(8, encoding.size, 30, dtype=torch.float64, generator=generator)
    values = torch.randn(8, encoding.size, dtype=torch.float64, generator=generator)
    target = encoding.decide(torch.randn(8, encoding.size, generator=generator))
    region = encoding.region(target)
    solution = least_norm(jacobian, values, region)
    moved = values + torch.einsum("bnm,bm->bn", jacobian, solution.perturbation)
    assert solution.converged.all()
    assert region.violations(moved).max() <= 1e-9
    # The certificate: the perturbation is the multipliers' combination of the rows.
    combined = -torch.einsum("bnm,bn->bm", jacobian, region.pull(solution.multipliers))
    assert torch.allclose(combined, solution.perturbation)


def test_shapes_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="differ in batch or outputs"):
        least_norm(torch.zeros(2, 3, 4), torch.zeros(2, 4), BitRegion(torch.ones(2, 4)))


def test_dense_jacobian_equals_autograd():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3))
    images = torch.rand(4, 3, 2, 2)
    logits, jacobian = dense_jacobian(network, images)
    expected = torch.stack([torch.func.jacrev(lambda x: network(x[None])[0])(image) for image in images])
    assert torch.allclose(jacobian, expected, atol=1e-6)
    assert torch.equal(logits, network(images).detach())


@pytest.mark.parametrize("together", [1, 64, 200, 1 << 21])
def test_rows_do_not_depend_on_how_many_are_taken_together(together):
    torch.manual_seed(1)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(), torch.nn.Linear(3, 11)
    )
    images = torch.rand(5, 1, 4, 4)
    expected = torch.stack([torch.autograd.functional.jacobian(network, image[None])[0, :, 0] for image in images])
    local = Linearisation(network, images)
    local.use(replace(FIXED, together=together, vectorised_from=1))
    jacobian = local.jacobian()
    assert torch.allclose(jacobian, expected, atol=1e-6)


class NotVectorised(torch.autograd.Function):
    """A layer that nothing tells how to treat several backward passes at once."""

    @staticmethod
    def forward(context: object, values: torch.Tensor) -> torch.Tensor:
        return 2 * values

    @staticmethod
    def backward(context: object, slopes: torch.Tensor) -> torch.Tensor:
        assert float(slopes.sum()) == float(slopes.sum())
        return 2 * slopes


def test_layers_that_cannot_be_vectorised_are_taken_one_by_one():
    torch.manual_seed(2)
    linear = torch.nn.Linear(16, 6)
    images = torch.rand(3, 1, 4, 4)
    _, jacobian = dense_jacobian(lambda inputs: linear(NotVectorised.apply(inputs).flatten(1)), images)
    expected = 2 * linear.weight.view(1, 6, 1, 4, 4).expand(3, -1, -1, -1, -1)
    assert torch.allclose(jacobian, expected)


def test_dense_jacobian_of_a_constant_is_zero():
    logits, jacobian = dense_jacobian(lambda images: torch.ones(len(images), 3), torch.rand(2, 1, 4, 4))
    assert jacobian.shape == (2, 3, 1, 4, 4)
    assert jacobian.abs().max() == 0
    assert logits.shape == (2, 3)


def test_every_encoding_is_tested():
    assert {type(encoding).__name__ for encoding in ENCODINGS.values()} == {"OneHot", "Codebook", "MultiLabel"}


def test_dense_jacobian_of_a_network_that_ignores_its_images_is_zero():
    bias = torch.ones(3, requires_grad=True)
    _, jacobian = dense_jacobian(lambda images: bias.expand(len(images), -1), torch.rand(2, 1, 4, 4))
    assert jacobian.shape == (2, 3, 1, 4, 4)
    assert jacobian.abs().max() == 0


@pytest.mark.parametrize("place", ["jacobian", "values", "margin"])
@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_what_is_not_finite_stays_with_its_image(place, number):
    jacobian = torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(0))
    values, margin, region = -torch.ones(3, 2), torch.zeros(3, 2), BitRegion(torch.ones(3, 2))
    expected = least_norm(jacobian, values, region, margin)
    wrong = {"jacobian": jacobian.clone(), "values": values.clone(), "margin": margin.clone()}
    wrong[place][1].view(-1)[0] = number
    found = least_norm(wrong["jacobian"], wrong["values"], region, wrong["margin"])
    assert found.converged.tolist() == [True, False, True]
    assert found.residual[1] == math.inf and not found.infeasible.any()
    assert (found.perturbation[1] == 0).all()
    for image in (0, 2):
        assert torch.equal(found.perturbation[image], expected.perturbation[image])


def test_rows_of_very_different_size_are_rows_all_the_same():
    """X >= 1e-12 by a row of 1e-12, y >= 1 by one of 1, z >= 1e-12 by one of 1e12."""
    jacobian = torch.diag(torch.tensor([1e-12, 1.0, 1e12], dtype=torch.float64))[None]
    values = torch.tensor([[-1e-24, -1.0, -1.0]], dtype=torch.float64)
    found = least_norm(jacobian, values, BitRegion(torch.ones(1, 3)))
    assert found.converged.all()
    torch.testing.assert_close(found.perturbation[0].tolist(), [1e-12, 1.0, 1e-12], rtol=1e-6, atol=0)


def test_a_region_of_another_size_is_named():
    with pytest.raises(ValueError, match="do not fit the region"):
        least_norm(torch.ones(1, 2, 4), torch.ones(1, 2), BitRegion(torch.ones(1, 3)))
    with pytest.raises(ValueError, match="do not fit the region"):
        least_norm(torch.ones(1, 2, 4), torch.ones(1, 2), BitRegion(torch.ones(2, 2)))
