"""The lazy solver: the same solutions as the dense one and an independent one, for a few rows of the Jacobian."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd.function import once_differentiable
from torch.utils._python_dispatch import TorchDispatchMode

from tests.unit.test_linear import judge
from wolfe.linear import Linearisation, lazy_least_norm, least_norm
from wolfe.region import BitRegion, ClassRegion


@dataclasses.dataclass
class Case:
    """Linear problems: v = values at images 0, J (B, n, m), a region each."""

    jacobian: torch.Tensor
    values: torch.Tensor
    region: BitRegion | ClassRegion
    margin: float = 0.0

    def around(self, part):
        """The linearisation of some of the images."""
        jacobian, values = self.jacobian[part], self.values[part]
        images = torch.zeros(len(values), 1, 1, jacobian.shape[2], dtype=values.dtype)
        return Linearisation(lambda x: torch.einsum("bnm,bm->bn", jacobian, x.flatten(1)) + values, images)

    def select(self, part):
        return Case(self.jacobian[part], self.values[part], self.region.select(part), self.margin)

    def dense(self):
        return least_norm(self.jacobian[:, :, None, None], self.values, self.region, self.margin)

    def lazy(self, start=None, again=True):
        local = self.around(torch.arange(len(self.values)))
        around = self.around if again else None
        return lazy_least_norm(local, self.values, self.region, self.margin, start=start, again=around)


def draw_case(seed, kind, images, outputs, width, region, margin=0.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    jacobian = torch.randn(images, outputs, width, dtype=dtype, generator=generator)
    values = torch.randn(images, outputs, dtype=dtype, generator=generator)
    if kind == "low rank":
        rank = max(1, outputs // 3)
        jacobian = jacobian[:, :, :1] * 0 + torch.randn(images, outputs, rank, dtype=dtype, generator=generator) @ (
            jacobian[:, :rank] if rank <= outputs else jacobian
        )
    if kind == "duplicated":
        jacobian[:, 0] = jacobian[:, -1]
    if kind == "opposed" and outputs > 1:
        jacobian[:, 0] = -jacobian[:, -1]
    if kind == "zero":
        jacobian[:, 0] = 0
    target = torch.randint(outputs, (images,), generator=generator)
    if region == "classes":
        return Case(jacobian, values, ClassRegion(target, outputs), margin)
    if region == "code":
        words = (2.0 * torch.randint(2, (2 * outputs, outputs), generator=generator) - 1).to(dtype)
        return Case(jacobian, values, ClassRegion(target, 2 * outputs, words), margin)
    return Case(jacobian, values, BitRegion(2.0 * torch.randint(2, values.shape, generator=generator) - 1), margin)


@st.composite
def cases(draw):
    return draw_case(
        draw(st.integers(0, 2**31 - 1)),
        draw(st.sampled_from(["random", "low rank", "duplicated", "opposed", "zero"])),
        draw(st.integers(1, 4)),
        draw(st.integers(2, 40)),
        draw(st.integers(1, 40)),
        draw(st.sampled_from(["classes", "code", "bits"])),
        draw(st.sampled_from([0.0, 0.3])),
    )


def expected(case, image):
    """The least-norm point of one image by SciPy, None if there is none; and the largest distance to a plane."""
    rows = (case.region.dense(case.values)[image] @ case.jacobian[image]).numpy()
    demand = (case.region.violations(case.values)[image] + case.margin).numpy()
    distance = (demand / np.maximum(np.linalg.norm(rows, axis=1), 1e-300)).max()
    found = judge(rows, demand)
    return None if found is None else -found, max(distance, 0)


@settings(max_examples=300, deadline=None)
@given(cases())
def test_lazy_equals_dense_equals_an_independent_solver(case):
    lazy, dense = case.lazy(), case.dense()
    for image in range(len(case.values)):
        right, distance = expected(case, image)
        found = lazy.solution.perturbation[image].flatten().numpy()
        infeasible = bool(lazy.solution.infeasible[image])
        if right is None or np.linalg.norm(right) > 1e3 * distance:
            # On the edge of infeasibility either word is right, a wrong solution is not.
            assert infeasible or np.linalg.norm(found) > 1e2 * distance
            continue
        assert not infeasible
        assert bool(lazy.solution.converged[image])
        assert lazy.solution.residual[image] <= 1e-8
        scale = max(np.linalg.norm(right), 1e-3)
        assert np.linalg.norm(found - right) <= 1e-6 * scale
        assert np.linalg.norm(found - dense.perturbation[image].flatten().numpy()) <= 1e-6 * scale


@settings(max_examples=60, deadline=None)
@given(cases())
def test_the_certificate_is_that_of_all_constraints(case):
    """The perturbation is the multipliers' combination of the rows, and no constraint is left violated."""
    lazy = case.lazy()
    combined = -torch.einsum("bnm,bn->bm", case.jacobian, case.region.pull(lazy.solution.multipliers))
    assert torch.allclose(combined, lazy.solution.perturbation.flatten(1), atol=1e-9, rtol=1e-7)
    assert lazy.solution.multipliers.min() >= 0
    moved = case.values + torch.einsum("bnm,bm->bn", case.jacobian, lazy.solution.perturbation.flatten(1))
    left = case.region.violations(moved) + case.margin
    solved = lazy.solution.converged
    size = 1 + case.values.abs().amax(dim=1) + (moved - case.values).abs().amax(dim=1)
    assert (left.amax(dim=1)[solved] <= 1e-6 * size[solved]).all()
    assert torch.equal(lazy.forwards >= 0, lazy.finite)


@settings(max_examples=60, deadline=None)
@given(cases(), st.booleans())
def test_batched_equals_one_by_one(case, again):
    together = case.lazy(again=again)
    for image in range(len(case.values)):
        alone = case.select(torch.tensor([image])).lazy()
        if bool(alone.solution.converged) and alone.solution.perturbation.norm() < 1e3:
            assert bool(together.solution.converged[image])
            assert torch.allclose(
                alone.solution.perturbation[0], together.solution.perturbation[image], atol=1e-7, rtol=1e-6
            )


@pytest.mark.parametrize("region", ["classes", "code", "bits"])
def test_what_an_image_costs_does_not_depend_on_the_batch(region):
    """Forward passes excepted; and where rows are dependent, rounding decides which of equal constraints join."""
    case = draw_case(11, "random", 8, 24, 40, region)
    together, carried = case.lazy(), case.lazy(again=False)
    alone = [case.select(torch.tensor([image])).lazy() for image in range(8)]
    for costs in ("vjps", "jvps"):
        assert torch.equal(torch.cat([getattr(one, costs) for one in alone]), getattr(together, costs))
        assert torch.equal(getattr(carried, costs), getattr(together, costs))
    assert carried.forwards.sum() == sum(one.forwards.sum() for one in alone) == 0


@settings(max_examples=60, deadline=None)
@given(cases(), st.integers(0, 2**31 - 1))
def test_any_first_working_set_leads_to_the_same_solution(case, seed):
    cold = case.lazy()
    generator = torch.Generator().manual_seed(seed)
    width = min(4, case.region.count)
    guessed = torch.stack([torch.randperm(case.region.count, generator=generator)[:width] for _ in case.values])
    guessed[torch.rand(guessed.shape, generator=generator) < 0.3] = -1
    for start in (guessed, cold.working, guessed[:, :0]):
        warm = case.lazy(start=start)
        solved = cold.solution.converged & (cold.solution.perturbation.flatten(1).norm(dim=1) < 1e3)
        assert warm.solution.converged[solved].all()
        difference = warm.solution.perturbation - cold.solution.perturbation
        assert difference[solved].abs().sum() <= 1e-6 * max(1, cold.solution.perturbation[solved].norm())


def test_the_working_set_of_the_same_problem_needs_no_other_rows():
    case = draw_case(3, "random", 5, 200, 300, "classes")
    cold = case.lazy()
    warm = case.lazy(start=cold.working)
    assert torch.equal(warm.vjps, (cold.solution.multipliers > 0).sum(dim=1))
    assert warm.vjps.sum() < cold.vjps.sum()
    assert (warm.jvps == 1).all()


def test_by_hand_in_the_plane():
    """X + y <= -2 and x <= 0 from the origin: (-1, -1) for one row and one product."""
    case = Case(
        torch.tensor([[[1.0, 1.0], [1.0, 0.0]]]), torch.tensor([[2.0, 0.0]]), BitRegion(torch.tensor([[-1.0, -1.0]]))
    )
    found = case.lazy()
    assert torch.allclose(found.solution.perturbation.flatten(), torch.tensor([-1.0, -1.0]))
    assert torch.allclose(found.solution.multipliers, torch.tensor([[1.0, 0.0]], dtype=torch.float64))
    assert (found.vjps.item(), found.jvps.item(), found.working.tolist()) == (1, 1, [[0]])


def test_images_inside_their_region_cost_nothing():
    case = Case(torch.ones(2, 1, 4), torch.tensor([[-1.0], [1.0]]), BitRegion(torch.tensor([[-1.0], [-1.0]])))
    found = case.lazy()
    assert found.vjps.tolist() == found.jvps.tolist() == [0, 1]
    assert found.solution.perturbation.flatten(1).norm(dim=1).tolist() == [0, 0.5]
    assert found.solution.converged.all()
    assert found.working.tolist() == [[-1], [0]]


def test_contradictions_and_missing_rows_are_infeasible_for_their_image_alone():
    jacobian = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]], [[0.0, 0.0], [0.0, 1.0]]])
    values = torch.tensor([[-1.0, 1.0]]).expand(3, -1)
    found = Case(jacobian, values, BitRegion(torch.tensor([[1.0, -1.0]]).expand(3, -1))).lazy().solution
    assert found.infeasible.tolist() == [True, False, True]
    assert found.converged.tolist() == [False, True, False]
    assert torch.allclose(found.perturbation[1].flatten(), torch.tensor([1.0, -1.0]))
    assert found.perturbation[[0, 2]].abs().max() == 0


@pytest.mark.parametrize("where", ["values", "rows", "product"])
def test_what_is_not_finite_marks_its_image_alone(where):
    case = draw_case(6, "random", 3, 30, 20, "classes")
    local = case.around(torch.arange(3))
    values = case.values.clone()
    if where == "values":
        values[1, 2] = torch.nan
    name = {"values": "rows", "rows": "rows", "product": "push"}[where]
    plain = getattr(local, name)

    def poisoned(weights):
        result = plain(weights)
        result[1] = torch.nan
        return result

    if where != "values":
        setattr(local, name, poisoned)
    found = lazy_least_norm(local, values, case.region)
    assert found.finite.tolist() == [True, False, True]
    assert found.solution.converged.tolist() == [True, False, True]
    assert found.solution.perturbation[1].abs().max() == 0
    assert torch.allclose(found.solution.perturbation[[0, 2]], case.dense().perturbation[[0, 2]])


class Watched(ClassRegion):
    """A region that notes how many rows it is asked for, and has none to give all at once."""

    def __init__(self, target, classes, asked) -> None:
        super().__init__(target, classes)
        self.asked = asked

    def rows(self, index):
        self.asked.append(index.shape[1])
        return super().rows(index)

    def select(self, index):
        return Watched(self.target[index], self.classes, self.asked)

    def dense(self, like):
        raise AssertionError


def test_a_thousand_classes_need_few_rows_at_a_time_and_in_all():
    largest, total = {}, {}
    for classes in (100, 1000):
        case = draw_case(7, "random", 4, classes, 400, "classes")
        asked = []
        watched = dataclasses.replace(case, region=Watched(case.region.target, classes, asked))
        found = watched.lazy()
        assert found.solution.converged.all()
        assert torch.allclose(found.solution.perturbation, case.dense().perturbation, atol=1e-9)
        largest[classes], total[classes] = max(asked), found.vjps.sum().item()
    assert largest[1000] <= 10
    assert total[1000] <= 4 * 40
    assert total[1000] <= 2 * total[100]


class Largest(TorchDispatchMode):
    """Notes the largest tensor that an operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, function, types, arguments=(), named=None) -> object:
        made = function(*arguments, **(named or {}))
        if isinstance(made, torch.Tensor):
            self.numbers = max(self.numbers, made.numel())
        return made


def test_nothing_has_a_number_for_every_constraint_and_output():
    """No tensor comes near the B k n numbers of all rows, which the dense solver has."""
    torch.manual_seed(4)
    images, classes = 6, 300
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(400, classes))
    region = ClassRegion(torch.arange(images), classes)
    local = Linearisation(network, torch.rand(images, 1, 20, 20))
    with Largest() as seen:
        assert lazy_least_norm(local, local.values, region).solution.converged.all()
    assert seen.numbers <= 400 * classes
    with Largest() as seen:
        least_norm(local.jacobian(), local.values, region)
    assert seen.numbers >= images * classes * (classes - 1)


class Counted:
    """A linearisation that counts the images of its row passes."""

    def __init__(self, local, passes) -> None:
        self.local, self.passes = local, passes

    def rows(self, weights):
        self.passes.append(weights.shape[0] * weights.shape[1])
        return self.local.rows(weights)

    def push(self, directions):
        return self.local.push(directions)


def test_finished_images_are_not_carried_along():
    """One image of ten goes on for long: the rows worked out are nearly those that are needed."""
    case = draw_case(2, "random", 10, 300, 100, "classes")
    for image in range(1, 10):
        # One class is above the target, all others are far below.
        case.values[image] = -100
        case.values[image, case.region.target[image]] = 0
        case.values[image, (case.region.target[image] + 1) % 300] = 1
    everything, worked, carried = torch.arange(10), [], []
    found = lazy_least_norm(
        Counted(case.around(everything), worked),
        case.values,
        case.region,
        again=lambda part: Counted(case.around(part), worked),
    )
    lazy_least_norm(Counted(case.around(everything), carried), case.values, case.region)
    assert found.vjps[0] > 5
    assert (found.vjps[1:] == 1).all()
    assert sum(worked) <= 1.2 * found.vjps.sum()
    assert sum(carried) >= 4 * found.vjps.sum()
    assert found.forwards[0] == found.forwards.sum() >= 1


class BackwardOnly(torch.autograd.Function):
    """Doubles its input; it has a backward pass, but no forward derivative and no second one."""

    @staticmethod
    def forward(context: object, values: torch.Tensor) -> torch.Tensor:
        return 2 * values

    @staticmethod
    @once_differentiable
    def backward(context: object, slopes: torch.Tensor) -> torch.Tensor:
        return 2 * slopes


def test_without_forward_mode_all_rows_give_the_same_solutions():
    case = draw_case(9, "random", 4, 30, 20, "classes", margin=0.2)

    def around(part):
        jacobian, values = case.jacobian[part], case.values[part]
        images = torch.zeros(len(part), 1, 1, 20, dtype=values.dtype)
        return Linearisation(
            lambda x: torch.einsum("bnm,bm->bn", jacobian, BackwardOnly.apply(x).flatten(1)) + values, images
        )

    found = lazy_least_norm(around(torch.arange(4)), case.values, case.region, case.margin, again=around)
    twice = dataclasses.replace(case, jacobian=2 * case.jacobian).dense()
    assert not found.forward_mode
    assert torch.allclose(found.solution.perturbation, twice.perturbation, rtol=1e-9)
    assert torch.allclose(found.solution.multipliers, twice.multipliers, rtol=1e-6)
    assert (found.vjps >= 30).all()
    assert found.jvps.sum() == 0


def test_no_images_are_no_trouble():
    found = draw_case(1, "random", 3, 5, 6, "bits").select(torch.arange(0)).lazy()
    assert found.solution.perturbation.shape == (0, 1, 1, 6)
    assert found.working.shape[0] == 0
