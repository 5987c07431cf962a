"""The table of claims: figures and verdicts by hand, detection and transfer among them."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from wolfe.files import sha256
from wolfe.report import losses_claims
from wolfe.report.derived import read_derived, write_derived
from wolfe.report.losses_detection_statements import detection_statements, labels_of
from wolfe.report.losses_intervals import (
    FAILS,
    FEWEST,
    HOLDS,
    UNDECIDED,
    Measured,
    correlation,
    mean,
    ratio,
    share,
    verdict,
)
from wolfe.report.losses_runs import LOSSES, SETTINGS

from ..conftest import rewrite_run
from .test_losses import STEPS, part_of, row, way, write_way
from .test_transfer_report import verdict as transfer_verdict
from .test_transfer_report import write_verdicts

ROWS = [row(loss, setting) for setting in SETTINGS for loss in LOSSES]
IMAGES = 8
FIRST = {"cross_entropy": 3, "cross_entropy_sign": 9, "logit": 5, "m_logit": 6}
"""The step of the first change under each loss."""
DETECTORS = ["Small", "Middle", "Large", "Larger", "Largest"]


def spec_of(**more: object):
    base = {"name": "losses_claims", "kind": "losses_claims", "title": "Claims", "part": part_of(ROWS)}
    return base | {"experiments": [], "transfers": []} | more


@pytest.fixture
def results(tmp_path):
    """Runs as the paper says they go: every image alike but for a little more or less."""
    for one in ROWS:
        loss, more = one["parameters"]["loss"], np.linspace(0.95, 1.05, IMAGES)
        first = (
            1 if loss == "cross_entropy_sign" and one["parameters"]["setting"] == "equal_multiplier" else FIRST[loss]
        )
        length = {"cross_entropy": [4.0] * 2 + [0.5] * 8 + [1e-4], "cross_entropy_sign": [90.0] * 10 + [0.0]}
        size = length.get(loss, [4.0 if loss == "m_logit" else 2.0] * (STEPS + 1))
        height = {"cross_entropy": 0.5, "cross_entropy_sign": 0.4, "logit": 3.0, "m_logit": 2.0}[loss]
        far = {"cross_entropy": 0.1, "cross_entropy_sign": 0.1, "logit": 0.1, "m_logit": 0.07}[loss]
        wide = 0.002 if loss == "cross_entropy_sign" else 0.05
        step = np.arange(STEPS + 1)
        ways = [
            way(first, gradient_magnitude=k * np.array(size), logit_target=k * height * step, l2=k * far * step)
            | {"linf": k * wide * step, "softmax_initial": np.where(step > 1, 0.4, 0.97)}
            | {"softmax_target": np.where(step >= first, 1.0 if loss == "cross_entropy_sign" else 0.97, 0.02)}
            for k in more
        ]
        write_way(tmp_path, one, ways, seconds=0.6 if loss == "m_logit" else 0.5)
    return tmp_path


def table_of(results, **more: object):
    return losses_claims.lines(spec_of(**more), results).set_index("slug")


def test_runs_as_the_paper_has_them_confirm_what_it_says_of_them(results):
    table = table_of(results)
    assert set(table["verdict"]) == {HOLDS}
    assert (table["images"] == IMAGES).all()
    text = losses_claims.findings(table.reset_index())
    assert text[0].startswith(f"Of 19 claims, in {len(table)} figures, 19 hold, 0 do not hold and 0 are undecided")
    assert len(text) == 1


def test_figures_by_hand(results):
    table = table_of(results)
    assert table["value"]["sign-slower-than-logit"] == 4
    assert (table["value_95_low"]["sign-slower-than-logit"], table["bullet"]["sign-slower-than-logit"]) == (4, 2)
    assert table["value"]["sign-looks-fast-m_logit"] == 5
    assert table["value"]["ce-nearer-than-logit"] == pytest.approx(5 / 3)
    assert table["value"]["m-logit-nearer-equal_perturbation"] == pytest.approx(0.5 / 0.42)
    assert table["value"]["s1-both"] == pytest.approx(1)
    assert table["value"]["s1-longer"] == pytest.approx(2)
    assert table["value"]["s2-slower"] == pytest.approx(0.5 / 4)
    assert table["value"]["amounts"] == pytest.approx(45)
    assert table["value"]["sign-adds-more"] == pytest.approx(22.5)
    assert table["value"]["ce-fades"] == pytest.approx(1e-4 / 4)
    assert table["value"]["limit-equal_perturbation-cross_entropy"] == pytest.approx(25)
    assert table["value"]["linf-logit"] == pytest.approx(0.25 / 0.018)
    assert table["value"]["m-logit-time-most"] == pytest.approx(1.2)
    assert (table["value"]["sign-vanishes"], table["value"]["s3-ce"], table["value"]["s3-logit"]) == (1, 1, 0)
    assert table["value"]["norms-logit"] == pytest.approx(1)


def test_a_sign_whose_loss_never_reaches_its_limit_is_undecided(results):
    write_way(results, row("cross_entropy_sign"), [way(9)] * IMAGES)
    table = table_of(results)
    assert (table["images"]["sign-vanishes"], table["verdict"]["sign-vanishes"]) == (0, UNDECIDED)


def test_the_opposite_is_said_to_not_hold(results):
    """CE as slow as no other loss, and without a limit."""
    one = row("cross_entropy")
    slow = [way(10, logit_target=10.0 * np.arange(STEPS + 1), l2=np.arange(STEPS + 1.0)) for _ in range(IMAGES)]
    write_way(results, one, slow)
    table = table_of(results)
    for slug in ("ce-faster-than-logit", "ce-nearer-than-m_logit", "limit-equal_perturbation-cross_entropy", "s3-ce"):
        assert table["verdict"][slug] == FAILS
    assert table["verdict"]["ce-faster-than-cross_entropy_sign"] == FAILS
    text = " ".join(losses_claims.findings(table.reset_index()))
    assert "Does not hold here: At equal perturbation CE changes the prediction first (V-B, 3). Measured: steps" in text
    five = "-5.00"
    assert f"Logit minus CE (equal perturbation): {five} [{five}, {five}] (holds if > 0)" in text


def test_images_that_never_change_count_the_budget_and_have_no_distance(results):
    ways = [way(5)] * 6 + [way(None)] * 2
    write_way(results, row("logit"), ways)
    table = table_of(results)
    assert table["value"]["ce-faster-than-logit"] == pytest.approx((6 * 5 + 2 * STEPS) / 8 - 3)
    assert (table["images"]["ce-faster-than-logit"], table["images"]["ce-nearer-than-logit"]) == (8, 6)


def test_lines_are_where_the_study_expects_them_and_are_read_back(results, tmp_path):
    out = tmp_path / "tables" / "losses_claims"
    write_derived(spec_of(stands_in=""), results, out)
    back = read_derived(spec_of(), out.with_suffix(".csv"))
    again = losses_claims.lines(spec_of(), results)
    pd.testing.assert_frame_equal(back, again, check_dtype=False)
    assert losses_claims.findings(back) == losses_claims.findings(again)
    text = out.with_suffix(".md").read_text()
    assert "| V-B, 3" in text
    assert "Left out: the claims about detection and transfer" in text


def test_a_missing_loss_is_named(results):
    with pytest.raises(ValueError, match="no row of the loss m_logit with equal_multiplier and stop_at_success false"):
        losses_claims.lines(spec_of(part=part_of([one for one in ROWS if one["slug"] != ROWS[3]["slug"]])), results)


# Detection ------------------------------------------------------------------------------------------------------------


def experiment_of(single=("Large",)):
    rows = [one | {"label": LOSSES[one["parameters"]["loss"]]} for one in ROWS[4:]]
    learn = part_of(rows) | {"table": "detection_attacks"}
    detectors = [{"name": name, "network": {"name": "vgg16"}} for name in DETECTORS]
    more = {"learn": learn, "tested": [], "detectors": detectors, "single": list(single)}
    return {"name": "detection", "kind": "detection", "dataset": "pictures", "source": "net"} | more


def said(detector, version, image, right, trained_on="pooled", transform="8bit", split="test", reaches=True):
    """One line of a detector that is right or not."""
    adversarial = int(version != "genuine")
    score = 1.0 if right == bool(adversarial) else -1.0
    line = {"detector": detector, "trained_on": trained_on, "selected_on": "validation", "version": version}
    line |= {"table": "", "slug": "", "learnt": True, "transform": transform, "split": split}
    line |= {"image_id": f"{split}-{image:05d}", "true_label": 0, "adversarial": adversarial}
    return line | {"reaches_target": reaches and bool(adversarial), "score": score, "l2": 1.0}


RECALL = {"Small": 4, "Middle": 8, "Large": 10, "Larger": 10, "Largest": 10}
"""Of ten images those whose adversarial versions a detector finds; M-logit's only half as often."""


@pytest.fixture
def detection(results):
    """Ten images: genuine ones always known, adversarial ones as `RECALL` says; JPEG undoes half of CE's."""
    lines = []
    for image in range(10):
        for detector, found in RECALL.items():
            lines.append(said(detector, "genuine", image, right=True))
            for label in LOSSES.values():
                seen = {"M-logit": image < found // 2, "CE": image < found - 2, "CE-sign": True}.get(
                    label, image < found
                )
                lines.append(said(detector, label, image, right=seen))
                undone = label == "CE" and image % 2 == 0
                lines.append(said(detector, label, image, right=seen, transform="jpeg", reaches=not undone))
            lines.append(said(detector, "genuine", image, right=detector == "Middle", split="validation"))
            lines.append(said(detector, "CE", image, right=detector == "Middle", split="validation"))
        for label in LOSSES.values():
            alone = {"trained_on": label}
            lines.append(said("Large", label, image, right=label == "CE-sign" or image < 4, **alone))
            lines.append(said("Large", "genuine", image, right=True, **alone))
    folder = results / "experiments" / "detection"
    folder.mkdir(parents=True)
    pd.DataFrame(lines).to_parquet(folder / "records.parquet", index=False)
    pd.DataFrame({"detector": DETECTORS}).to_parquet(folder / "detectors.parquet", index=False)
    names = ("records.parquet", "detectors.parquet")
    rewrite_run(folder, {"outputs": {name: sha256(folder / name) for name in names}})
    return results


def test_claims_about_detection_by_hand(detection):
    table = table_of(detection, experiments=[experiment_of()])
    # Recall of the four attacks of Small: 2, 10, 4 and 2 of ten; genuine images are all known.
    assert table["value"]["worst-detector"] == pytest.approx((18 / 40 + 1) / 2)
    # Chosen on the validation part is Middle: 6, 10, 8 and 4 of ten.
    assert table["value"]["best-detector"] == pytest.approx((28 / 40 + 1) / 2)
    assert table["value"]["capability"] == pytest.approx(stats.spearmanr(range(5), [1, 2, 3, 3, 3]).statistic)
    # Five networks leave such a correlation open.
    assert (table["verdict"]["capability"], table["images"]["capability"]) == (UNDECIDED, 10)
    assert table["value"]["harder-than-logit-cross_entropy"] == pytest.approx(0.2)
    assert table["value"]["harder-than-logit-m_logit"] == pytest.approx((2 + 4 + 5 + 5 + 5) / 50)
    assert table["value"]["easiest-logit"] == pytest.approx((6 + 2) / 50)
    assert table["value"]["easiest-alone-m_logit"] == pytest.approx(0.3)
    assert table["value"]["jpeg-logit"] == pytest.approx(0.5)
    assert (table["verdict"]["jpeg-logit"], table["verdict"]["harder-than-logit-m_logit"]) == (HOLDS, HOLDS)
    assert set(table["table"][table["section"] == "V-C"]) == {"detection_attacks"}
    assert "the claims about transfer" in losses_claims.reading(table.reset_index())


def test_what_an_experiment_does_not_ask_is_left_out():
    slugs = [statement.slug for statement in detection_statements(experiment_of(single=()))]
    assert not [slug for slug in slugs if slug.startswith("easiest-alone")]
    two = experiment_of() | {"detectors": experiment_of()["detectors"][:2]}
    assert "capability" not in [statement.slug for statement in detection_statements(two)]


def test_the_labels_of_equal_perturbation_speak_where_there_are_both_settings():
    rows = [one | {"label": one["slug"]} for one in ROWS]
    experiment = experiment_of() | {"learn": part_of(rows)}
    assert labels_of(experiment) == {loss: f"{loss}-equal_perturbation" for loss in LOSSES}


# Transfer -------------------------------------------------------------------------------------------------------------


def transfer_of(table="losses_attacks"):
    tables = [{"table": table, "model": "net", "targets": "other_class", "attacks": []}]
    return {"name": "pictures", "dataset": "pictures", "models": [], "tables": tables}


def write_transfer(results):
    """Six images asked about by two classifiers: CE never transfers, Logit to one of them, M-logit half of the time."""
    lines = []
    for image in range(6):
        for other in ("one", "two"):
            for loss in LOSSES:
                moved = {"logit": other == "one", "m_logit": image % 2 == 0}.get(loss, False)
                more = {"source": "net", "targets": "other_class", "slug": f"{loss}-equal_perturbation"}
                line = transfer_verdict(image, other=other, untargeted=moved, targeted=moved and image < 4) | more
                lines.append(line | {"decided_rightly": image != 5 or other == "one"})
    write_verdicts(results / "transfer" / "pictures", lines)


def test_claims_about_transfer_by_hand(results):
    write_transfer(results)
    table = table_of(results, transfers=[transfer_of()])
    # Image 5 counts on the first classifier only, where Logit's always transfers.
    assert table["value"]["transfer-untargeted-logit"] == pytest.approx((5 * 0.5 + 1) / 6)
    assert table["value"]["transfer-untargeted-m_logit"] == pytest.approx(0.5)
    assert table["value"]["transfer-targeted-logit"] == pytest.approx(4 * 0.5 / 6)
    assert table["images"]["transfer-targeted-logit"] == 6


def test_a_transfer_of_other_runs_says_nothing_about_these(results):
    assert not table_of(results, transfers=[transfer_of("another")]).index.str.startswith("transfer-").any()


# Intervals ------------------------------------------------------------------------------------------------------------


@given(arrays.arrays(np.float64, st.integers(2, 12), elements=st.floats(-100, 100)))
def test_the_interval_of_a_mean_lies_around_it_and_within_the_values(values):
    found = mean(values)
    assert found.value == pytest.approx(values.mean())
    assert found.low <= found.value + 1e-9
    assert found.high >= found.value - 1e-9
    assert values.min() - 1e-9 <= found.low
    assert found.high <= values.max() + 1e-9


def test_the_interval_of_a_mean_is_students_where_that_is_right():
    values = np.random.default_rng(2).normal(3, 2, 400)
    found, known = mean(values), stats.t.interval(0.95, 399, loc=values.mean(), scale=stats.sem(values))
    np.testing.assert_allclose([found.low, found.high], known, atol=0.02)


def test_images_without_a_value_are_left_out_and_none_gives_nothing():
    assert mean(np.array([1.0, np.nan, 3.0])).value == 2
    assert mean(np.array([np.nan])).images == 0
    assert ratio(np.array([4.0, 9.0, np.nan, 0.0]), np.array([1.0, 1.0, 1.0, 1.0])).value == pytest.approx(6)
    assert math.isnan(share(np.zeros(0, bool)).value)
    assert math.isnan(correlation(np.ones(9), np.arange(9.0)).value)


def test_a_correlations_interval_has_its_share_of_the_truth():
    """Of 300 samples of two normal variables about 95 % of the intervals hold their rank correlation."""
    generator, truth, hits = np.random.default_rng(0), 6 / math.pi * math.asin(0.6 / 2), 0
    for _ in range(300):
        first, noise = generator.normal(size=(2, 40))
        found = correlation(first, 0.6 * first + 0.8 * noise)
        hits += found.low < truth < found.high
    assert 0.92 <= hits / 300 <= 0.98


@pytest.mark.parametrize(
    ("low", "high", "above", "below", "expected"),
    [
        (0.1, 0.3, 0.0, math.inf, HOLDS),
        (-0.1, 0.3, 0.0, math.inf, UNDECIDED),
        (-0.3, 0.0, 0.0, math.inf, FAILS),
        (0.2, 0.4, -math.inf, 0.5, HOLDS),
        (0.5, 0.6, -math.inf, 0.5, FAILS),
        (0.95, 1.05, 0.9, 1.1, HOLDS),
        (0.85, 1.05, 0.9, 1.1, UNDECIDED),
        (1.2, 1.3, 0.9, 1.1, FAILS),
        (0.8, 0.85, 0.9, 1.1, FAILS),
        (math.nan, math.nan, 0.0, math.inf, UNDECIDED),
    ],
)
def test_verdicts(low, high, above, below, expected):
    assert verdict(Measured((low + high) / 2, low, high, FEWEST), above, below) == expected
    assert verdict(Measured((low + high) / 2, low, high, FEWEST - 1), above, below) == UNDECIDED
