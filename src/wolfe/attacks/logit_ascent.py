"""Ascents on logits, which do not stop at full confidence.

Ozbulak, De Neve, Van Messem: "How the Softmax Output is Misleading for Evaluating the Strength of Adversarial
Examples", NeurIPS Workshop on Security in Machine Learning 2018, Appendix B.

The paper prints both updates with a minus sign and means ascent. It does not say what the gradient is taken by; with
its multipliers an ascent by pixels from 0 to 255 would not move. Here it is the normalised input u = (x - mean) / std,
to which the step is added before it is mapped back, so that an image in [0, 1] moves by the multiplier times std^2
times its own gradient. How far that leads depends on the network: on a small one the published multipliers may do
little or too much. Values stay between the steps as they are; whole grey levels are for whoever evaluates the images.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from wolfe.attacks.gradient_steps import GradientSteps
from wolfe.attacks.problem import Problem
from wolfe.encoding import Encoding


@dataclass(frozen=True, kw_only=True)
class LogitAscent(GradientSteps):
    """Steps up a weighted sum of logits, clipped to [0, 1]; the observer is told them before they are clipped."""

    max_iterations: int = 500
    stop_at_success: bool = False

    def serves(self, encoding: Encoding) -> bool:
        """Encodings with a logit for each class."""
        return not encoding.multi_label and not encoding.bitwise

    def _source(self, problem: Problem, gradient: Tensor) -> Tensor:
        # The gradient by the normalised input is std times the one by the image, and std is the way back to the image.
        return -problem.classifier.std.square().to(gradient) * gradient

    def _moved(self, images: Tensor, source: Tensor, start: Tensor) -> Tensor:  # noqa: ARG002 (others look at it)
        return (images + source).clamp(0, 1)


def logit_of(logits: Tensor, classes: Tensor) -> Tensor:
    """The logit (b,) of one class (b,) of each image."""
    return logits.gather(1, classes[:, None])[:, 0]
