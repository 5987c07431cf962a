import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from wolfe.linear import max_norm

SOLVERS = ("highs", "dual")


def judge(rows, limits):
    """The dense linear programme in (r, q), written down independently; None where it has no solution."""
    count, width = rows.shape
    ones = np.ones((width, 1))
    solved = linprog(
        [0.0] * width + [1.0],
        A_ub=np.block([[rows, np.zeros((count, 1))], [np.eye(width), -ones], [-np.eye(width), -ones]]),
        b_ub=[*limits, *[0.0] * (2 * width)],
        bounds=[(-1, 1)] * width + [(0, None)],
        method="highs-ds",
    )
    return solved.fun if solved.status == 0 else None


@st.composite
def problems(draw):
    """Random systems: full rank, rank-deficient, duplicated, opposed, with zero rows, badly scaled, infeasible."""
    seed = draw(st.integers(0, 2**32 - 1))
    count, width = draw(st.integers(1, 20)), draw(st.integers(1, 40))
    kind = draw(st.sampled_from(["random", "dependent", "duplicated", "opposed", "zero", "scaled"]))
    generator = np.random.default_rng(seed)
    rows, limits = generator.standard_normal((count, width)), generator.standard_normal(count)
    limits *= draw(st.sampled_from([0.01, 0.3, 1.0, 10.0]))
    if kind == "dependent":
        rows = generator.standard_normal((count, 2)) @ generator.standard_normal((2, width))
    if kind == "duplicated" and count > 1:
        rows[0] = rows[-1]
    if kind == "opposed" and count > 1:
        rows[0] = -rows[-1]
    if kind == "zero":
        rows[0] = 0
    if kind == "scaled":
        factor = 10.0 ** generator.uniform(-4, 4, count)
        rows, limits = rows * factor[:, None], limits * factor
    return rows, limits


@pytest.mark.parametrize("solver", SOLVERS)
@settings(max_examples=150, deadline=None)
@given(problem=problems())
def test_both_solvers_equal_the_dense_programme_and_their_certificate_holds(solver, problem):
    rows, limits = problem
    expected = judge(rows, limits)
    solution = max_norm(torch.from_numpy(rows), torch.from_numpy(limits), solver=solver)
    if expected is None or expected > 1 - 2e-3:
        # On the edge of infeasibility either word is right.
        assert solution.infeasible or (expected is not None and solution.size >= expected * (1 - 1e-6))
        return
    assert not solution.infeasible
    found = solution.perturbation.numpy()
    norms = np.abs(rows).sum(axis=1)
    assert (rows @ found - limits <= 1e-5 * norms * max(expected, 1e-9)).all()
    assert solution.size == pytest.approx(np.abs(found).max())
    assert solution.lower_bound <= expected * (1 + 1e-6) + 1e-12
    assert expected * (1 - 1e-5) - 1e-12 <= solution.size <= expected * (1 + 1.1e-3) + 1e-9
    assert solution.gap <= 1.1e-3
    assert solution.gap == pytest.approx(1 - solution.lower_bound / solution.size if solution.size else 0.0)


@pytest.mark.parametrize("solver", SOLVERS)
def test_by_hand_in_the_plane(solver):
    """2 r_1 - r_2 <= -0.6 alone asks for q = 0.2 at (-0.2, 0.2); with r_2 <= 0.1 for (-0.25, 0.1)."""
    one = max_norm(torch.tensor([[2.0, -1.0]]), torch.tensor([-0.6]), solver=solver)
    assert one.perturbation.tolist() == pytest.approx([-0.2, 0.2])
    rows, limits = torch.tensor([[2.0, -1.0], [0.0, 1.0]]), torch.tensor([-0.6, 0.1])
    two = max_norm(rows, limits, solver=solver, gap=1e-9)
    assert two.perturbation.tolist() == pytest.approx([-0.25, 0.1])
    assert two.size == pytest.approx(0.25)
    assert two.gap <= 1e-6


@pytest.mark.parametrize("solver", SOLVERS)
def test_where_all_constraints_hold_nothing_moves(solver):
    solution = max_norm(torch.randn(3, 5), torch.tensor([0.0, 1.0, 2.0]), solver=solver)
    assert not solution.infeasible
    assert (solution.size, solution.gap) == (0.0, 0.0)
    assert solution.perturbation.tolist() == [0.0] * 5


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    ("rows", "limits"),
    [
        ([[0.0, 0.0]], [-1.0]),
        ([[1.0, 0.0], [-1.0, 0.0]], [-0.1, -0.1]),
        ([[0.5, 0.5]], [-1.1]),
        ([[1.0, 1.0], [1.0, -1.0]], [-1.5, -1.5]),
    ],
    ids=["no gradient", "opposed", "one row beyond the box", "two rows beyond the box"],
)
def test_no_solution_is_said_and_is_no_garbage(solver, rows, limits):
    solution = max_norm(torch.tensor(rows), torch.tensor(limits), solver=solver)
    assert solution.infeasible
    assert solution.perturbation.abs().max() == 0
    assert solution.lower_bound > 1


def test_a_tighter_gap_comes_nearer():
    generator = torch.Generator().manual_seed(3)
    rows, limits = torch.randn(15, 2000, generator=generator), -0.3 * torch.rand(15, generator=generator)
    exact = max_norm(rows, limits, solver="highs").size
    loose, tight = (max_norm(rows, limits, gap=gap) for gap in (1e-2, 1e-6))
    assert tight.size == pytest.approx(exact, rel=2e-6)
    assert exact * (1 - 1e-6) <= loose.size <= exact * 1.0101
    assert loose.rounds <= tight.rounds


def test_few_rounds_suffice_for_many_rows():
    generator = torch.Generator().manual_seed(4)
    rows, limits = torch.randn(60, 5000, generator=generator), torch.rand(60, generator=generator) - 0.3
    solution = max_norm(rows, 100 * limits)
    assert solution.gap <= 1e-3
    assert solution.rounds <= 100


@pytest.mark.parametrize(
    ("rows", "limits", "solver", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(3), "dual", r"are not \(n, m\) and \(n,\)"),
        (torch.full((2, 3), torch.nan), torch.zeros(2), "dual", "finite"),
        (torch.zeros(2, 3), torch.zeros(2), "simplex", "solver must be highs or dual"),
    ],
)
def test_what_cannot_be_solved_is_refused(rows, limits, solver, message):
    with pytest.raises(ValueError, match=message):
        max_norm(rows, limits, solver=solver)
