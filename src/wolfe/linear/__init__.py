"""The linear-algebra heart: Jacobians and the least perturbations, in two norms, into a linearised region."""

from wolfe.linear.jacobian import Linearisation, dense_jacobian
from wolfe.linear.lazy import LazySolution, lazy_least_norm
from wolfe.linear.least_norm import LeastNormSolution, least_norm
from wolfe.linear.max_norm import MaxNormSolution, max_norm

__all__ = [
    "LazySolution",
    "LeastNormSolution",
    "Linearisation",
    "MaxNormSolution",
    "dense_jacobian",
    "lazy_least_norm",
    "least_norm",
    "max_norm",
]
