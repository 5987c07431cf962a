"""Products with Jacobians: against plain products in double precision, whatever the size of the blocks."""

import pytest
import torch

from wolfe.linear import products
from wolfe.linear.finite import all_finite


@pytest.fixture(params=[1, 50, 1 << 18], ids=["value by value", "small blocks", "one block"])
def jacobian(request, monkeypatch):
    """Of 3 images of 2x5x4 values and 4 logits, in single precision."""
    monkeypatch.setattr(products, "_BLOCK", request.param)
    return torch.randn(3, 4, 2, 5, 4, generator=torch.Generator().manual_seed(0))


def test_gram_matrix_is_the_product_in_double_precision(jacobian):
    flat = jacobian.flatten(2).double()
    found = products.gram_matrix(jacobian)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, flat @ flat.mT, rtol=1e-13, atol=1e-13)


def test_pull_back_gives_the_sum_of_rows_and_where_it_leads(jacobian):
    weights = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    pulled, pushed = products.pull_back(jacobian, weights)
    flat = jacobian.flatten(2).double()
    expected = torch.einsum("bn,bnm->bm", weights, flat)
    assert pulled.dtype == torch.float32
    assert pulled.shape == (3, 2, 5, 4)
    torch.testing.assert_close(pulled.flatten(1), expected.float())
    torch.testing.assert_close(pushed, torch.einsum("bnm,bm->bn", flat, expected), rtol=1e-12, atol=1e-12)


def test_pull_back_does_not_hide_values_that_are_not_finite(jacobian):
    jacobian[1, 2, 0, 0, 0] = torch.nan
    pulled, pushed = products.pull_back(jacobian, torch.ones(3, 4, dtype=torch.float64))
    assert pulled.flatten(1).isfinite().all(dim=1).tolist() == [True, False, True]
    assert pushed.isfinite().all(dim=1).tolist() == [True, False, True]


def test_all_finite_tells_large_sums_from_infinite_values():
    values = torch.zeros(5, 2, 3)
    values[1, 0, 0] = torch.nan
    values[2, 1, 2] = torch.inf
    values[3, 0] = 3e38
    values[4, 0, 0], values[4, 0, 1] = torch.inf, -torch.inf
    assert all_finite(values).tolist() == [True, False, False, True, False]


def test_no_images_are_no_trouble():
    empty = torch.zeros(0, 4, 2, 5, 4)
    assert products.gram_matrix(empty).shape == (0, 4, 4)
    assert all_finite(empty).tolist() == []
    assert products.pull_back(empty, torch.zeros(0, 4, dtype=torch.float64))[0].shape == (0, 2, 5, 4)
