"""The memory of a lazy solve: what grows with the number of classes are logits, not Jacobians."""

import weakref

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from wolfe.linear import Linearisation, lazy_least_norm
from wolfe.linear.memory import in_memory, out_of_memory
from wolfe.region import ClassRegion

IMAGES, PIXELS, FEATURES, FEW = 4, 256, 64, 500


class Live(TorchDispatchMode):
    """Counts the bytes of the tensors that operations have made and that are still alive, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, function, types, arguments=(), named=None) -> object:
        for given in tree_iter((arguments, named)):
            self._note(given, made=False)
        made = function(*arguments, **(named or {}))
        for part in tree_iter(made):
            self._note(part, made=True)
        return made

    def _note(self, value, made) -> None:
        """Counts the memory of a tensor, once for all its views; zeros that are only spoken of have none."""
        if not isinstance(value, torch.Tensor) or value.untyped_storage()._cdata in self.known:
            return
        storage = value.untyped_storage()
        size = storage.nbytes() if made and not value._is_zerotensor() else 0
        self.known.add(storage._cdata)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, storage._cdata, size)

    def _forget(self, address, size) -> None:
        self.known.discard(address)
        self.now -= size


def problem(classes):
    """A network whose last layer has so many classes, all beyond the first ones far below, and images."""
    generator = torch.Generator().manual_seed(0)
    body, head = nn.Linear(PIXELS, FEATURES), nn.Linear(FEATURES, classes)
    with torch.no_grad():
        body.weight.copy_(torch.randn(FEATURES, PIXELS, generator=generator) / 16)
        body.bias.zero_()
        head.weight.zero_()
        head.bias.fill_(-100)
        head.weight[:FEW].copy_(torch.randn(FEW, FEATURES, generator=generator) / 8)
        head.bias[:FEW].copy_(torch.randn(FEW, generator=generator))
    images = torch.rand(IMAGES, 1, 16, 16, generator=generator)
    return nn.Sequential(nn.Flatten(), body, nn.Tanh(), head).requires_grad_(False), images


def peaks(classes):
    """Peak bytes of a lazy solve and of the Jacobian alone, and what the former found."""
    network, images = problem(classes)
    region = ClassRegion(torch.arange(IMAGES), classes)
    with Live() as lazy:
        local = Linearisation(network, images)
        found = lazy_least_norm(local, local.values, region, 0.01)
    assert found.solution.converged.all()
    with Live() as whole:
        Linearisation(network, images).jacobian()
    return lazy.peak, whole.peak, found


def test_live_bytes_are_those_of_what_is_alive():
    given = torch.ones(1000)
    with Live() as live:
        made = given + 1
        assert live.now == 4000
        view = made.view(10, 100)
        del made
        assert live.now == 4000
        _ = given * 2 + given
        assert live.now == 8000
        del view
        assert live.now == 4000
    assert live.peak == 12_000


@pytest.mark.parametrize("classes", [1000, 4000])
def test_peak_memory_of_a_lazy_solve_grows_by_a_few_logits_for_every_class(classes):
    """Every round asks for at most ten rows of R, a weight for each logit, and holds them twice at most.

    All else that grows are values of constraints in double precision. A row of the Jacobian for every class is of as
    many numbers as an image has.
    """
    lazy, whole, found = peaks(FEW)
    more_lazy, more_whole, more_found = peaks(classes)
    for costs in ("vjps", "jvps", "working"):
        assert torch.equal(getattr(found, costs), getattr(more_found, costs)), "the same constraints are active"
    logits = (classes - FEW) * IMAGES * 4
    assert more_lazy - lazy <= 2 * 10 * logits
    assert more_whole - whole >= PIXELS * logits


@pytest.mark.parametrize(
    ("error", "used_up"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
        (torch.AcceleratorError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (torch.AcceleratorError("CUDA error: device-side assert triggered"), False),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_a_library_says_when_memory_is_used_up(error, used_up):
    assert out_of_memory(error) == used_up


def test_work_is_tried_with_half_as_much_until_it_fits():
    seen = []

    def work(size):
        seen.append(size)
        if size > 3:
            raise torch.OutOfMemoryError("full")
        return size * 10

    with pytest.warns(UserWarning, match="goes on with"):
        assert in_memory(work, 13) == 30
    assert seen == [13, 6, 3]


def test_other_errors_are_not_tried_again():
    seen = []

    def work(size):
        seen.append(size)
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        in_memory(work, 8)
    assert seen == [8]


def test_what_failed_lets_go_of_its_memory_before_the_next_try():
    kept = []

    def work(size):
        large = torch.zeros(size)
        assert all(reference() is None for reference in kept)
        kept.append(weakref.ref(large))
        if size > 1:
            raise MemoryError
        return size

    with pytest.warns(UserWarning):
        assert in_memory(work, 4) == 1
    assert len(kept) == 3
