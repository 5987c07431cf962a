"""What the paper on losses says of their perturbations, as statements that measured figures can confirm or refute.

Ozbulak, Gasparyan, De Neve, Van Messem: "Perturbation Analysis of Gradient-based Adversarial Attacks", Pattern
Recognition Letters 2020: Sections IV-A and IV-B, and the list in Section V-B. A claim often comes down to several
comparisons; each is a statement of its own. Where the paper says "substantial" or "limited", bounds are chosen here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from wolfe.report import losses_measures as measures
from wolfe.report.losses_measures import CE, FADED, LOGIT, MARGIN, MULTIPLIER, PERTURBATION, SIGN, Measure
from wolfe.report.losses_runs import LOSSES, SETTINGS


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper in other words: where it stands, which one of its list it is (0 outside lists)."""

    section: str
    bullet: int
    text: str


@dataclass(frozen=True)
class Statement:
    """A figure that speaks for or against a claim.

    Attributes:
        claim: what it is about.
        slug: its name.
        words: what is measured.
        measure: the figure.
        above, below: between which it has to lie for the claim to hold.
    """

    claim: Claim
    slug: str
    words: str
    measure: Measure
    above: float = -math.inf
    below: float = math.inf


def statements() -> list[Statement]:
    """All statements about perturbations, in the paper's order."""
    return [*_subspaces(), *_sign(), *_magnitudes(), *_speed(), *_limits(), *_two_logits(), *_time(), *_norms()]


def _subspaces() -> list[Statement]:
    first = Claim("IV-A", 0, "While another class is certain (S1), CE pushes it down and the target up at once")
    second = Claim("IV-A", 0, "While no class is certain (S2), the factor 1 - softmax of the target slows CE down")
    third = Claim("IV-A", 0, "Once the target is certain (S3), the CE gradient fades and the logit's does not")
    ending, share = "of the images that end in S3, those whose", f"gradient is below {FADED} of its first length"
    return [
        Statement(
            first,
            "s1-both",
            f"{_length(CE, MARGIN)}, first step in S1",
            measures.lengths_at_start(CE, MARGIN),
            0.9,
            1.1,
        ),
        Statement(
            first, "s1-longer", f"{_length(CE, LOGIT)}, first step in S1", measures.lengths_at_start(CE, LOGIT), 1.0
        ),
        Statement(
            second, "s2-slower", "CE gradient length, mean in S2 / first step", measures.length_between, below=1.0
        ),
        Statement(third, "s3-ce", f"{ending} CE {share}", measures.faded(CE), 0.5),
        Statement(
            third,
            "s3-logit",
            f"{ending} Logit {share}",
            measures.faded(LOGIT),
            below=0.5,
        ),
    ]


def _sign() -> list[Statement]:
    limited = Claim("IV-B", 0, "In limited precision the sign of the CE gradient vanishes too and cannot go on in S3")
    coarse = Claim("IV-B", 0, "Without the rates of change the sign needs more total perturbation than the gradient")
    words = "of the images whose softmax of the target is exactly 1 in the end, those whose CE-sign step is zero"
    return [
        Statement(limited, "sign-vanishes", words, measures.zero_at_end(SIGN), 0.5),
        _farther(coarse, "sign-farther", PERTURBATION, CE, SIGN),
    ]


def _magnitudes() -> list[Statement]:
    differs = Claim("V-B", 1, "With the same multiplier the losses add very different amounts: no test of speed")
    boosted = Claim("V-B", 2, "With the same multiplier CE-sign adds far more than the others and so looks fast")
    return [
        Statement(
            differs, "amounts", "longest / shortest first step of the four losses", measures.first_step_extremes, 2.0
        ),
        Statement(boosted, "sign-adds-more", "CE-sign first step / longest of the others", measures.sign_boost, 2.0),
        *(_later(boosted, f"sign-looks-fast-{loss}", MULTIPLIER, SIGN, loss) for loss in (CE, LOGIT, MARGIN)),
    ]


def _speed() -> list[Statement]:
    slowest = Claim("V-B", 2, "At equal perturbation CE-sign is the slowest")
    fastest = Claim("V-B", 3, "At equal perturbation CE changes the prediction first")
    nearest = Claim("V-B", 3, "At equal perturbation CE needs the least total perturbation (L2)")
    others = (SIGN, LOGIT, MARGIN)
    return [
        *(_later(slowest, f"sign-slower-than-{loss}", PERTURBATION, loss, SIGN) for loss in (CE, LOGIT, MARGIN)),
        *(_later(fastest, f"ce-faster-than-{loss}", PERTURBATION, CE, loss) for loss in others),
        *(_farther(nearest, f"ce-nearer-than-{loss}", PERTURBATION, CE, loss) for loss in others),
    ]


def _limits() -> list[Statement]:
    fades = Claim("V-B", 4, "Even with the same multiplier the CE gradient gets shorter as the optimisation goes on")
    shrunk = Statement(fades, "ce-fades", "CE gradient length, end / first step", measures.shrunk, below=1.0)
    claim = Claim("V-B", 5, "CE and CE-sign have a limited optimisation space: their target logit stays behind")
    limits = [
        Statement(
            claim,
            f"limit-{setting}-{loss}",
            f"target logit when the budget ends, Logit minus {LOSSES[loss]} ({SETTINGS[setting]})",
            measures.further_logit(setting, loss),
            0.0,
        )
        for setting in SETTINGS
        for loss in (CE, SIGN)
    ]
    return [shrunk, *limits]


def _two_logits() -> list[Statement]:
    slower = {
        setting: Claim("V-B", 6, f"M-logit takes more steps than Logit (95 and 80, setting unsaid): {words}")
        for setting, words in SETTINGS.items()
    }
    nearer = Claim("V-B", 6, "The total perturbation of M-logit is smaller than Logit's")
    return [
        *(_later(claim, f"m-logit-slower-{setting}", setting, LOGIT, MARGIN) for setting, claim in slower.items()),
        *(_farther(nearer, f"m-logit-nearer-{setting}", setting, MARGIN, LOGIT) for setting in SETTINGS),
    ]


def _time() -> list[Statement]:
    most = Claim("V-B", 7, "M-logit takes the most time for a step")
    little = Claim("V-B", 7, "The time that losses take for a step differs little")
    step = "time of a step, M-logit /"
    return [
        Statement(most, "m-logit-time-most", f"{step} slowest of the others", measures.time_of_a_step(max), 1.0),
        Statement(
            little, "m-logit-time-little", f"{step} fastest of the others", measures.time_of_a_step(min), below=1.5
        ),
    ]


def _norms() -> list[Statement]:
    together = Claim("V-B", 8, "L2 and Linf of the perturbations go together")
    apart = Claim("V-B", 8, "CE-sign is the exception: its Linf is much smaller than the others'")
    found = "rank correlation of L2 and Linf at the first change (equal perturbation)"
    return [
        *(
            Statement(together, f"norms-{loss}", f"{found}, {LOSSES[loss]}", measures.norms_together(loss), 0.0)
            for loss in (CE, LOGIT, MARGIN)
        ),
        *(_farther(apart, f"linf-{loss}", PERTURBATION, SIGN, loss, "linf") for loss in (CE, LOGIT, MARGIN)),
    ]


def _later(claim: Claim, slug: str, setting: str, first: str, second: str) -> Statement:
    """One loss takes more steps to the first change than another."""
    words = f"steps to the first change, {LOSSES[second]} minus {LOSSES[first]} ({SETTINGS[setting]})"
    return Statement(claim, slug, words, measures.steps_between(setting, first, second), 0.0)


def _farther(claim: Claim, slug: str, setting: str, near: str, far: str, name: str = "l2") -> Statement:
    """One loss has moved an image farther at its first change than another."""
    words = f"{name.capitalize()} at the first change, {LOSSES[far]} / {LOSSES[near]} ({SETTINGS[setting]})"
    return Statement(claim, slug, words, measures.distances_ratio(setting, near, far, name), 1.0)


def _length(first: str, second: str) -> str:
    return f"gradient length, {LOSSES[first]} / {LOSSES[second]}"
