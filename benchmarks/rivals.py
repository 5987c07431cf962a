"""What an iteration of the rivals costs: beside peers that minimise the same loss, or beside the bare passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from benchmarks import problems
from benchmarks.problems import Case
from benchmarks.settings import Settings
from benchmarks.timing import interleaved, seconds, spread
from benchmarks.trial import runs
from wolfe.attacks import LOTS, Attack, AttackResult, CarliniWagner, Context, ECOCAttack, MLCarliniWagner
from wolfe.attacks.peers import AdvLibAttack, FoolboxAttack

FLOOR, OWN = "one forward and backward pass", " of wolfe"
Contestants = Mapping[str, Attack]


def measures(settings: Settings, notes: list[str]) -> Iterator[tuple[Case, dict[str, list[float]], str]]:
    """Cases, seconds an iteration and image of each contestant by rounds, and whom they are held against.

    That is the fastest peer where one has the loss, else a forward and a backward pass through the same network.
    """
    steps = settings.pick(5, 20)
    for case, contestants in _cases(settings, steps):
        measured = _measured(settings, case, contestants, notes)
        peers = [name for name in measured if name != FLOOR and not name.endswith(OWN)]
        yield case, measured, min(peers, key=lambda name: spread(measured[name]).median, default=FLOOR)


def _cases(settings: Settings, steps: int) -> Iterator[tuple[Case, Contestants]]:
    """Attacks by their losses, each on a network of the encoding that it is for; steps that nothing cuts short."""
    common: dict[str, Any] = {"initial_constant": 1.0, "search_steps": 1, "abort_early": False}
    classes = problems.classes(settings, 10, 16)
    theirs = {"binary_search_steps": 1, "initial_const": 1.0, "abort_early": False}
    yield (
        classes,
        {
            f"C&W{OWN}": CarliniWagner(max_iterations=steps, learning_rate=0.01, **common),
            "C&W of adv-lib": AdvLibAttack(attack="carlini_wagner_l2", options={**theirs, "max_iterations": steps}),
            "C&W of foolbox": FoolboxAttack(attack="L2CarliniWagnerAttack", options={**theirs, "steps": steps}),
        },
    )
    yield classes, {f"LOTS{OWN}": LOTS(max_iterations=steps, grey_levels=0.01, round=False)}
    yield problems.code(settings, 16), {f"ECOC attack{OWN}": ECOCAttack(max_iterations=steps, **common)}
    yield problems.labels(settings, 5, 16), {f"ML-C&W{OWN}": MLCarliniWagner(max_iterations=steps, **common)}


def _measured(settings: Settings, case: Case, attacks: Contestants, notes: list[str]) -> dict[str, list[float]]:
    """Seconds an iteration and image of the attacks that run, and of the floor, by interleaved rounds."""
    found: dict[str, Callable[[], float]] = {}
    for name, attack in attacks.items():
        if runs(name, attack, case.part(1), notes, _context(case.part(1))):
            found[name] = _per_iteration(attack, case, settings.device)
    found[FLOOR] = lambda: _one_pass(case, settings.device)
    return interleaved(found, settings.pick(2, 7), warm=[])


def _context(case: Case) -> Context:
    """A point far away for the attack that walks towards one."""
    return Context(reference_logits=torch.full((len(case.images), case.classifier.encoding.size), 1e3))


def _per_iteration(attack: Attack, case: Case, device: str) -> Callable[[], float]:
    context = _context(case)

    def run() -> float:
        results: list[AttackResult] = []
        taken = seconds(
            lambda: results.append(attack(case.classifier, case.images, case.targets, context=context)), device
        )
        return taken / max(1, int(results[0].vjps.sum()))

    return run


def _one_pass(case: Case, device: str) -> float:
    def work() -> None:
        inputs = case.images.detach().requires_grad_(True)
        torch.autograd.grad(case.classifier(inputs).sum(), inputs)

    return min(seconds(work, device) for _ in range(3)) / len(case.images)
