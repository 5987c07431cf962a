"""What all models say at every step of an attack on one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from wolfe.attacks import Observation
from wolfe.classifier import Classifier


class Watch:
    """Observes an attack on a classifier of classes and asks others too, at every step.

    They are asked about the image in whole grey levels, which is the one that an attacker could hand on. Of each image
    and step one line is kept:

    - step: how often the image has moved; 0 as it came.
    - moved: whether it moved to get here. An image that a step left where it was stays: its line is repeated.
    - activation: the attacked model's highest logit, `highest_class` its class; `activation_2` and `activation_3` the
      next ones.
    - softmax: the highest softmax value in the working precision, which rounds to exactly 1.
    - log_odds: log(p / (1 - p)) of that value p, from the same logits in double precision; it does not round to 1.
    - margin: the highest logit less the second.
    - distance: margin over the L2 norm of its gradient by the image: how far behind the boundary between the two
      classes the image lies, to first order; infinite where the gradient is zero.
    - l2, linf: from the image as it came, in units of [0, 1].
    - float_activation, float_softmax: of the image before rounding.
    - prediction_<model>: what each model decides, the attacked one too.

    Args:
        classifiers: name to classifier, all ready for attack.
        source: the name of the attacked one.
        starts: the images (N, C, H, W) as they came.
        steps: how many the attack makes at most.
        shown_steps: steps whose pictures are kept, rising.
        shown: of how many images, the first ones.

    Attributes:
        pictures: (shown images, shown steps, C, H, W), bytes.
    """

    def __init__(
        self,
        classifiers: Mapping[str, Classifier],
        source: str,
        starts: Tensor,
        steps: int,
        shown_steps: Sequence[int],
        shown: int,
    ) -> None:
        self._classifiers, self._source, self._steps = classifiers, source, steps
        self._starts = starts.to(classifiers[source].device)
        self._shown_steps = np.asarray(shown_steps)
        self._parts: list[dict[str, NDArray[np.generic]]] = []
        shape = (min(shown, len(starts)), len(shown_steps), *starts.shape[1:])
        self.pictures = np.zeros(shape, np.uint8)

    def __call__(self, seen: Observation) -> None:
        """Takes down one step; images on which the attacked model is not finite leave nothing."""
        finite = seen.logits.isfinite().all(dim=1)
        index, levels = seen.index[finite], (255 * seen.images[finite]).round()
        if len(index) == 0:
            return
        steps = torch.as_tensor(seen.step, device=finite.device).expand(len(finite))[finite]
        self._keep_pictures(index, steps, levels)
        rounded = levels / 255
        moved = (rounded - self._starts[index]).flatten(1).double()
        logits = seen.logits[finite]
        found = {
            "position": index,
            "step": steps,
            **self._strength(rounded),
            "l2": moved.norm(dim=1),
            "linf": moved.abs().amax(dim=1),
            "float_activation": logits.amax(dim=1),
            "float_softmax": logits.softmax(dim=1).amax(dim=1),
            **self._others(rounded),
        }
        self._parts.append({name: values.cpu().numpy() for name, values in found.items()})

    def _strength(self, images: Tensor) -> dict[str, Tensor]:
        """How strong images (b, C, H, W) look to the attacked model."""
        with torch.enable_grad():
            inputs = images.detach().requires_grad_(True)
            logits = self._classifiers[self._source](inputs)
            best, classes = logits.topk(3, dim=1)
            (slope,) = torch.autograd.grad((best[:, 0] - best[:, 1]).sum(), inputs)
        logits, best = logits.detach(), best.detach()
        margin = best[:, 0].double() - best[:, 1].double()
        others = logits.double().scatter(1, classes[:, :1], -torch.inf)
        return {
            "activation": best[:, 0],
            "highest_class": classes[:, 0],
            "activation_2": best[:, 1],
            "activation_3": best[:, 2],
            "softmax": logits.softmax(dim=1).amax(dim=1),
            "log_odds": best[:, 0].double() - others.logsumexp(dim=1),
            "margin": margin,
            "distance": _over(margin, slope.flatten(1).double().norm(dim=1)),
            f"prediction_{self._source}": classes[:, 0],
        }

    @torch.no_grad()
    def _others(self, images: Tensor) -> dict[str, Tensor]:
        """What the other models decide on images (b, C, H, W)."""
        return {
            f"prediction_{name}": one.decide(images) for name, one in self._classifiers.items() if name != self._source
        }

    def _keep_pictures(self, index: Tensor, steps: Tensor, levels: Tensor) -> None:
        """Keeps the pictures of this step, for all later ones too until the next one comes."""
        chosen = index < len(self.pictures)
        values = levels[chosen].to(torch.uint8).cpu().numpy()
        for position, step, value in zip(index[chosen].tolist(), steps[chosen].tolist(), values, strict=True):
            self.pictures[position, self._shown_steps >= step] = value

    def frame(self) -> pd.DataFrame:
        """All lines, of every image the same number: `position` (of the image), `step`, and the rest.

        Raises:
            ValueError: there is an image that was never seen, as the attacked model is not finite on it.
        """
        if not self._parts:
            raise ValueError(f"model {self._source} is not finite on any image: train it again")
        columns = {name: np.concatenate([part[name] for part in self._parts]) for name in self._parts[0]}
        lines = pd.DataFrame(columns).sort_values(["position", "step"], kind="stable", ignore_index=True)
        counts = np.bincount(lines["position"], minlength=len(self._starts))
        if (counts == 0).any():
            raise ValueError(
                f"model {self._source} is not finite on image {int((counts == 0).argmax())}: train it again"
            )
        missing = self._steps + 1 - counts
        last = np.cumsum(counts) - 1
        repeats = np.ones(len(lines), dtype=int)
        repeats[last] += missing
        whole = lines.loc[lines.index.repeat(repeats)].reset_index(drop=True)
        steps = np.tile(np.arange(self._steps + 1), len(self._starts))
        whole.insert(2, "moved", (whole["step"].to_numpy() == steps) & (steps > 0))
        return whole.assign(step=steps)


def _over(margin: Tensor, slope: Tensor) -> Tensor:
    """Margins (b,) over slopes; infinite where a slope is zero."""
    return torch.where(slope > 0, margin / slope, torch.inf)
