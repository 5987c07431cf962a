"""The linear-algebra heart: Jacobians and least-norm perturbations into a linearised region."""

from wolfe.linear.jacobian import dense_jacobian
from wolfe.linear.least_norm import LeastNormSolution, least_norm

__all__ = ["LeastNormSolution", "dense_jacobian", "least_norm"]
