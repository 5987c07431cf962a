"""What the paper on losses says of telling adversarial images from genuine ones, and of what becomes of them elsewhere.

Section V-C of the paper that `losses_statements` names. Detectors are judged by what they say of the test images
under 8-bit rounding: of an image's adversarial versions and of itself, one half each. Bounds are chosen here where
the paper gives words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wolfe.report import losses_detection_measures as judged
from wolfe.report.losses_intervals import FEWEST
from wolfe.report.losses_measures import CE, LOGIT, MARGIN, PERTURBATION, SIGN
from wolfe.report.losses_runs import LOSSES, loss_of, setting_of, stops
from wolfe.report.losses_statements import Claim, Statement

CHANCE, ENOUGH = 0.6, 0.9
"""A detector below the first has learnt nothing to speak of; one above the second is effective."""


def detection_statements(experiment: Mapping[str, Any]) -> list[Statement]:
    """Statements about a detection experiment, in the paper's order.

    Args:
        experiment: resolved, with `learn`, `detectors` and, where detectors learn single attacks, `single`.
    """
    detectors = [str(detector["name"]) for detector in experiment["detectors"]]
    labels = labels_of(experiment)
    scarce = Claim("V-C", 1, "With little data the outcome is inconsistent: some detectors stay near chance")
    works = Claim("V-C", 2, "Adversarial retraining is an effective way to detect adversarial images")
    found = "pooled training, right on genuine and adversarial"
    return [
        Statement(scarce, "worst-detector", f"{found}, worst detector", judged.worst_detector(detectors), below=CHANCE),
        Statement(
            works, "best-detector", f"{found}, detector chosen on validation", judged.chosen_detector(detectors), ENOUGH
        ),
        *_capability(detectors),
        *_by_attack(labels, bool(experiment.get("single"))),
        *_against_compression(labels),
    ]


def labels_of(experiment: Mapping[str, Any]) -> dict[str, str]:
    """The label of the learnt attack with each loss, at equal perturbation where there are both settings."""
    rows = [row for row in experiment["learn"]["rows"] if row["attack"] == "gradient"]
    found: dict[str, str] = {}
    for row in sorted(rows, key=lambda row: setting_of(row) != PERTURBATION):
        found.setdefault(loss_of(row), str(row["label"]))
    return found


def _capability(detectors: Sequence[str]) -> list[Statement]:
    # Of fewer networks no order says anything.
    if len(detectors) < FEWEST:
        return []
    claim = Claim("V-C", 3, "The more capable the network, the better it tells adversarial from genuine")
    words = f"rank correlation of capability ({', '.join(detectors)}) and share right, over the networks"
    return [Statement(claim, "capability", words, judged.capability_order(detectors), 0.0)]


def _by_attack(labels: Mapping[str, str], single: bool) -> list[Statement]:
    """Which attacks are found more often than others."""
    easiest = Claim("V-C", 4, "CE-sign is the easiest to detect")
    hardest = Claim("V-C", 4, "Trained on all attacks, detectors find CE and M-logit the hardest")
    pairs = [(easiest, "easiest", SIGN, loss) for loss in (CE, LOGIT, MARGIN)]
    pairs += [(hardest, f"harder-than-{other}", other, loss) for other in (LOGIT, SIGN) for loss in (CE, MARGIN)]
    pooled = [
        Statement(
            claim,
            f"{name}-{loss}",
            f"found after pooled training, {LOSSES[first]} minus {LOSSES[loss]}",
            judged.found_more(labels[first], labels[loss]),
            0.0,
        )
        for claim, name, first, loss in pairs
        if first in labels and loss in labels
    ]
    alone = [
        Statement(
            easiest,
            f"easiest-alone-{loss}",
            f"right after training on that attack alone, CE-sign minus {LOSSES[loss]}",
            judged.right_alone(labels[SIGN], labels[loss]),
            0.0,
        )
        for loss in (CE, LOGIT, MARGIN)
        if single and SIGN in labels and loss in labels
    ]
    return [*alone, *pooled]


def _against_compression(labels: Mapping[str, str]) -> list[Statement]:
    claim = Claim("V-C", 5, "CE examples suffer more from transformed input (there total variation or blur; here JPEG)")
    return [
        Statement(
            claim,
            f"jpeg-{loss}",
            f"still at the target after JPEG, {LOSSES[loss]} minus CE",
            judged.left_after_jpeg(labels[loss], labels[CE]),
            0.0,
        )
        for loss in (LOGIT, MARGIN)
        if loss in labels and CE in labels
    ]


def transfer_statements(part: Mapping[str, Any]) -> list[Statement]:
    """Statements about the transfer of the runs that a table of losses sums up, at equal perturbation."""
    slugs = {loss_of(row): str(row["slug"]) for row in part["rows"] if _whole_budget(row)}
    claim = Claim("V-C", 5, "CE examples are less likely to transfer to other models")
    return [
        Statement(
            claim,
            f"transfer-{kind}-{loss}",
            f"{kind} transfer when the budget ends, {LOSSES[loss]} minus CE (equal perturbation)",
            judged.transfers_more(part, slugs[loss], slugs[CE], kind),
            0.0,
        )
        for loss in (LOGIT, MARGIN)
        for kind in ("targeted", "untargeted")
        if loss in slugs and CE in slugs
    ]


def _whole_budget(row: Mapping[str, Any]) -> bool:
    return row["attack"] == "gradient" and not stops(row) and setting_of(row) == PERTURBATION
