"""Targeted attacks of other libraries, run as attacks of ours.

Images, targets, the count of passes, the clock and the verdict are then the same for all, so that what is compared are
the attacks. The libraries are no dependency of this package: each is imported when one of its attacks runs.

- adversarial-library (J. Rony): DDN, FMN, ALMA, FAB, Carlini-Wagner, ...
- foolbox 3 (J. Rauber and others): DDN, FMN, Carlini-Wagner, ...
- torchattacks (H. Kim): FAB, Carlini-Wagner, ...
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from wolfe.attacks.base import Attack
from wolfe.attacks.problem import Problem
from wolfe.encoding import Encoding, OneHot
from wolfe.linear.finite import all_finite
from wolfe.seeding import seed_for


@dataclass(frozen=True, kw_only=True)
class PeerAttack(Attack):
    """An attack of another library, towards given classes of a one-hot classifier.

    Forward and backward passes through the classifier are counted where they happen. A library that runs a part of the
    batch does not say which: each image then counts its share, rounded up. `time_limit` cannot end a peer's attack.

    Attributes:
        attack: its name in the library.
        options: what the library's attack is given beside, by its own names.
    """

    package: ClassVar[str]
    module: ClassVar[str]

    attack: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def serves(self, encoding: Encoding) -> bool:
        """One-hot alone: peers take the largest logit for the decision."""
        return isinstance(encoding, OneHot)

    @abstractmethod
    def _adversarials(self, library: Any, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """The library's images (b, C, H, W) for images and target classes (b,)."""

    def _run(self, problem: Problem) -> None:
        library = _library(self.module, self.package, type(self).__name__)
        index = problem.unfinished()
        if len(index) == 0:
            return
        counted = _Counted(problem.classifier, problem.target[index]).eval()
        devices = [problem.start.device] if problem.start.is_cuda else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed_for(problem.context.seed, "peer", self.package, self.attack))
            found = self._adversarials(library, counted, problem.start[index].clone(), problem.target[index])
        problem.classifier.eval()  # some libraries put a mode back that was never set
        found = found.detach()
        finite = all_finite(found)
        problem.end(index[~finite], "not_finite")
        problem.keep(index[finite], found[finite])
        problem.forwards[index] += counted.share(counted.forwards)
        problem.vjps[index] += counted.share(counted.backwards)
        problem.iterations[index] = counted.share(counted.backwards)
        problem.first_success[index] = counted.first
        problem.tick(index)

    def _named(self, library: Any) -> Any:
        """The attack in its library.

        Raises:
            ValueError: the library has none of that name.
        """
        found = getattr(library, self.attack, None)
        if found is None:
            raise ValueError(f"{type(self).__name__}: {self.package} has no attack {self.attack!r}")
        return found


@dataclass(frozen=True, kw_only=True)
class AdvLibAttack(PeerAttack):
    """An attack of adversarial-library by its function's name: "ddn", "fmn", "alma", "fab", "carlini_wagner_l2".

    FAB has no given target there: it is run on a network of two classes, all others against the target (see
    :class:`OthersOrTarget`), of which leaving the first is reaching the target. The option `norm` is 2 where the
    attack has it and nothing else is said.
    """

    package = "adv-lib"
    module = "adv_lib.attacks"

    def _adversarials(self, library: Any, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        run = self._named(library)
        options = {"norm": 2, **self.options} if self.attack in ("fmn", "fab") else dict(self.options)
        if self.attack == "fab":
            two = OthersOrTarget(network, targets).eval()
            found: Tensor = run(two, images, torch.zeros_like(targets), **options)
        else:
            found = run(network, images, targets, targeted=True, **options)
        return found


@dataclass(frozen=True, kw_only=True)
class FoolboxAttack(PeerAttack):
    """An attack of foolbox that minimises a distance, by its class: "L2CarliniWagnerAttack", "DDNAttack", ..."""

    package = "foolbox"
    module = "foolbox"

    def _adversarials(self, library: Any, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        attack = self._named(library.attacks)(**self.options)
        model = library.PyTorchModel(network, bounds=(0, 1), device=images.device)
        # `run` is the attack alone; calling it would add passes that judge the result, which is done here.
        found: Tensor = attack.run(model, images, library.criteria.TargetedMisclassification(targets))
        return found


@dataclass(frozen=True, kw_only=True)
class TorchattacksAttack(PeerAttack):
    """An attack of torchattacks by its class: "CW", "FAB" (in L2 unless `norm` says otherwise).

    Its FAB aims at a class but takes any wrong one for a success: it is run as :class:`AdvLibAttack` runs FAB. Its CW
    takes a class that it leaves out for one with the logit 0: it sees logits of which the smallest is 0.
    """

    package = "torchattacks"
    module = "torchattacks"

    def _adversarials(self, library: Any, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        kind, two = self._named(library), self.attack == "FAB"
        network = OthersOrTarget(network, targets).eval() if two else _Lifted(network).eval()
        # Its FAB drops what is farther than `eps`.
        options = {"norm": "L2", "eps": math.inf, "n_classes": 2, **self.options} if two else dict(self.options)
        attack = kind(network, **options)
        attack.set_device(images.device)
        if not two:
            attack.set_mode_targeted_by_label(quiet=True)
        found: Tensor = attack(images, torch.zeros_like(targets) if two else targets)
        return found


class OthersOrTarget(nn.Module):
    """Two logits: the largest of all classes but the target, and the target's.

    An untargeted attack away from the first is a targeted attack on the network.

    Args:
        network: images (b, C, H, W) to logits (b, n).
        targets: class indices (b,).
    """

    def __init__(self, network: nn.Module, targets: Tensor) -> None:
        super().__init__()
        self.network = network
        self.targets = targets

    def forward(self, images: Tensor) -> Tensor:
        """(b, 2) for all the images of the targets, in their order.

        Raises:
            ValueError: another number of images than targets.
        """
        if len(images) != len(self.targets):
            raise ValueError(f"{len(self.targets)} targets do not tell which of them {len(images)} images have")
        logits = self.network(images)
        place = self.targets[:, None]
        others = logits.scatter(1, place, -math.inf).amax(dim=1)
        return torch.stack([others, logits.gather(1, place)[:, 0]], dim=1)


class _Lifted(nn.Module):
    """A network whose logits are moved together, so that the smallest of an image is 0."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Logits (b, n), 0 or more."""
        logits: Tensor = self.network(images)
        return logits - logits.detach().amin(dim=1, keepdim=True)


class _Counted(nn.Module):
    """A network that counts the images that go through it forwards and backwards.

    Attributes:
        forwards, backwards: images, all passes together.
        first: (b,) the forward pass, from 1, at which an image first reached its target; 0 for never.
    """

    def __init__(self, network: nn.Module, targets: Tensor) -> None:
        super().__init__()
        self.network = network
        self.targets = targets
        self.forwards = self.backwards = self.passes = 0
        self.first = torch.zeros_like(targets)

    def forward(self, images: Tensor) -> Tensor:
        """The network's logits."""
        self.forwards += len(images)
        self.passes += 1
        logits: Tensor = self.network(images)
        if len(images) == len(self.targets):
            new = (logits.detach().argmax(dim=1) == self.targets) & (self.first == 0)
            self.first[new] = self.passes
        if logits.requires_grad:
            logits = _Mark.apply(logits, self)
        return logits

    def share(self, total: int) -> int:
        """Passes an image."""
        return math.ceil(total / max(1, len(self.targets)))


class _Mark(torch.autograd.Function):
    """The identity; notes every backward pass that comes through."""

    @staticmethod
    def forward(context: Any, logits: Tensor, counter: _Counted) -> Tensor:
        context.counter = counter
        return logits.view_as(logits)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        context.counter.backwards += len(gradients[0])
        return gradients[0], None


def _library(module: str, package: str, asked_by: str) -> Any:
    """A library that need not be there.

    Raises:
        ModuleNotFoundError: it is not; the message names the package to install.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{asked_by} needs {package}, or something that it needs ({error}): install {package}"
        ) from error
