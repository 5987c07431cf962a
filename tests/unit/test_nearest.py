"""The nearest point of half-spaces and a box: by hand, and against a general solver."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import LinearConstraint, minimize

from wolfe.linear.nearest import _Dual, nearest_point


def nearest(point, rows, bounds, low=0.0, high=1.0):
    """One image; numbers for the whole box are allowed."""
    point, rows, bounds = (torch.tensor(value, dtype=torch.float64)[None] for value in (point, rows, bounds))
    box = (torch.full_like(point, value) for value in (low, high))
    return nearest_point(point, rows, bounds, *box)


def test_one_half_space_by_hand():
    found = nearest([0.5, 0.5], [[1.0, 1.0]], [0.6])
    assert found.point[0].tolist() == pytest.approx([0.3, 0.3])
    assert found.multipliers[0].tolist() == pytest.approx([0.2])


def test_the_box_takes_part_in_the_problem():
    """Without the box (-0.1, 0.4); a clamp afterwards would leave the half-space."""
    found = nearest([0.1, 0.6], [[1.0, 1.0]], [0.3])
    assert found.point[0].tolist() == pytest.approx([0.0, 0.3])
    assert found.multipliers[0].tolist() == pytest.approx([0.3])


def test_a_point_inside_stays():
    found = nearest([0.2, 0.9], [[1.0, 0.0], [0.0, 0.0]], [0.5, 1.0])
    assert found.point[0].tolist() == [0.2, 0.9]
    assert found.multipliers[0].tolist() == [0, 0]
    assert found.residual.item() == 0


def test_no_common_point_is_told():
    assert not nearest([0.5, 0.5], [[1.0, 0.0], [-1.0, 0.0]], [0.2, -0.4]).converged.item()
    beyond = nearest([0.5, 0.5], [[1.0, 1.0]], [-0.5])
    assert not beyond.converged.item()
    assert beyond.residual.item() == pytest.approx(0.5 / 2**0.5)
    assert beyond.point[0].tolist() == pytest.approx([0, 0], abs=1e-6)


def test_rows_of_zeros():
    """With room they ask for nothing; without, nothing meets them."""
    found = nearest([0.5, 0.5], [[1.0, 1.0], [0.0, 0.0]], [0.6, 0.0])
    assert found.converged.item() and found.point[0].tolist() == pytest.approx([0.3, 0.3])
    assert not nearest([0.5, 0.5], [[1.0, 1.0], [0.0, 0.0]], [0.6, -0.1]).converged.item()


def by_general_solver(point, rows, bounds):
    """By sequential quadratic programming."""
    answer = minimize(
        lambda y: 0.5 * ((y - point) ** 2).sum(),
        np.clip(point, 0, 1),
        jac=lambda y: y - point,
        bounds=[(0, 1)] * len(point),
        constraints=[LinearConstraint(rows, -np.inf, bounds)],
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    return answer.x if answer.success else None


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(2, 12), st.booleans())
def test_agrees_with_a_general_solver(seed, count, size, repeated):
    random = np.random.default_rng(seed)
    rows = random.normal(size=(count, size))
    if repeated:
        rows[-1] = rows[0]
    point, inside = random.uniform(-0.3, 1.3, size), random.uniform(size=size)
    bounds = rows @ inside + random.uniform(0, 0.2, count)
    expected = by_general_solver(point, rows, bounds)
    found = nearest(point, rows, bounds)
    assert found.converged.item()
    assert found.point.min() >= 0 and found.point.max() <= 1
    if expected is not None:
        ours, theirs = (np.linalg.norm(y - point) for y in (found.point[0].numpy(), expected))
        assert ours <= theirs + 1e-6


def random_problems(images, count, size, seed):
    """Point, rows, bounds and the unit box of problems that have a point."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(images, count, size, dtype=torch.float64, generator=generator)
    point = torch.rand(images, size, dtype=torch.float64, generator=generator)
    bounds = (rows @ torch.rand(images, size, 1, dtype=torch.float64, generator=generator))[:, :, 0]
    return point, rows, bounds, torch.zeros_like(point), torch.ones_like(point)


def test_batched_is_one_by_one():
    point, rows, bounds, low, high = random_problems(5, 3, 8, seed=0)
    together = nearest_point(point, rows, bounds, low, high)
    for image in range(5):
        one = slice(image, image + 1)
        alone = nearest_point(point[one], rows[one], bounds[one], low[one], high[one])
        torch.testing.assert_close(together.point[one], alone.point, rtol=1e-6, atol=1e-8)


def test_an_empty_problem_is_told_long_before_the_last_round(monkeypatch):
    """The dual grows beyond what any point of the box could cost."""
    rounds = []
    newton = _Dual.newton
    monkeypatch.setattr(_Dual, "newton", lambda self, *given: rounds.append(1) or newton(self, *given))
    found = nearest([0.5, 0.5], [[1.0, 0.3], [-1.0, 0.2]], [-1.0, -1.0])
    assert not found.converged.item() and len(rounds) < 15


def test_single_precision_gives_the_same_points():
    point, rows, bounds, low, high = random_problems(6, 4, 50, seed=1)
    exact = nearest_point(point, rows, bounds, low, high)
    single = nearest_point(point.float(), rows.float(), bounds, low.float(), high.float(), 1e-5)
    assert exact.converged.all() and single.converged.all()
    assert single.point.dtype == torch.float32
    torch.testing.assert_close(single.point.double(), exact.point, rtol=0, atol=1e-4)


def test_it_may_begin_anywhere():
    """From another problem's multipliers, or far from any, to the same point."""
    point, rows, bounds, low, high = random_problems(4, 5, 30, seed=2)
    bounds = bounds - 0.1
    cold = nearest_point(point, rows, bounds, low, high)
    for start in (cold.multipliers * 1.3, torch.full_like(bounds, 5.0)):
        warm = nearest_point(point, rows, bounds, low, high, start=start)
        assert warm.converged.all()
        torch.testing.assert_close(warm.point, cold.point, rtol=0, atol=1e-6)
