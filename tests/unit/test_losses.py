"""The table of losses: numbers by hand from made-up ways, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from wolfe.experiments.step_trace import NAMES
from wolfe.files import read_json
from wolfe.report import losses
from wolfe.report.derived import read_derived, write_derived
from wolfe.report.grid import rows_of
from wolfe.report.losses_runs import LOSSES, SETTINGS, STEP_NAMES, curves_of, read_losses

from ..conftest import rewrite_run
from .report_study import write_records, write_run

STEPS = 10
SLUGS = {(setting, loss): f"{loss}-{setting}" for setting in SETTINGS for loss in LOSSES}


def row(loss="cross_entropy", setting="equal_perturbation", **more: object):
    """A row of attack `gradient` that goes through the whole budget."""
    parameters = {"loss": loss, "setting": setting, "max_iterations": STEPS, "stop_at_success": False}
    parameters |= {"multiplier": 0.01} if setting == "equal_multiplier" else {"step_length": 0.05}
    return {
        "label": f"{loss}, {setting}",
        "slug": SLUGS[setting, loss],
        "attack": "gradient",
        "parameters": parameters | more,
    }


def part_of(rows):
    """A table of attacks, as others see it."""
    names = {"table": "losses_attacks", "title": "Four losses", "model": "net", "dataset": "pictures"}
    more = {"rule": {"rule": "other_class"}, "encoding": "one_hot", "images": 3, "stands_in": "small pictures"}
    return names | more | {"targets": "other_class", "rows": rows}


def way(first=None, made=STEPS, **more: object):
    """An image's values at steps 0 to `made`: S1 before the first change, S3 from there on."""
    step = np.arange(made + 1)
    reached = step >= (np.inf if first is None else first)
    values = {
        "softmax_initial": np.where(reached, 0.02, 0.97),
        "softmax_target": np.where(reached, 0.97, 0.02),
        "logit_initial": -1.0 * step,
        "logit_target": 1.0 * step,
        "gradient_magnitude": np.full(made + 1, 2.0),
        "l2": 0.1 * step,
        "linf": 0.01 * step,
        "reached": reached.astype(float),
    }
    return values | {name: np.broadcast_to(np.asarray(value, dtype=float), made + 1) for name, value in more.items()}


def write_way(results, one, ways, **records: object):
    """Writes a run whose images go these ways; `records` gives values for all of its records."""
    folder = results / "attacks" / "net" / "other_class" / one["slug"]
    lines = [
        {"success": bool(w["reached"][-1]), "first_success": int(w["reached"].argmax()), "vjps": len(w["l2"])}
        | {"iterations": len(w["l2"]) - 1, "seconds": 0.5, "l2": float(w["l2"][-1])}
        | records
        for w in ways
    ]
    write_records(folder, lines)
    trace = [
        {"image_id": f"test-{image:05d}", "step": step, "name": name, "value": float(value)}
        for image, values in enumerate(ways)
        for name, found in values.items()
        for step, value in enumerate(found)
    ]
    pd.DataFrame(trace, columns=["image_id", "step", "name", "value"]).to_parquet(folder / "trace.parquet", index=False)
    write_run(folder)
    return folder


def table_of(results, rows):
    return losses.lines({"name": "losses_1", "kind": "losses", "title": "Losses", "part": part_of(rows)}, results)


def test_numbers_of_a_line_by_hand(tmp_path):
    """Three images: changes at step 2, at step 6 with a gradient that vanishes at step 8, and never."""
    fading = way(6, made=8, gradient_magnitude=[2.0] * 8 + [0.0])
    write_way(tmp_path, row(), [way(2), fading, way(None)])
    (line,) = rows_of(table_of(tmp_path, [row()]))
    assert (line["images"], line["changed"], line["steps"]) == (3, 2, STEPS)
    assert (line["changed_95_low"], line["changed_95_high"]) == pytest.approx((0.2077, 0.9385), abs=1e-4)
    assert (line["iterations_mean"], line["iterations_median"]) == (4, 4)
    assert line["iterations_sd"] == pytest.approx(np.sqrt(8))
    interval = stats.t.interval(0.95, 1, loc=4, scale=2)
    assert (line["iterations_95_low"], line["iterations_95_high"]) == pytest.approx(interval)
    assert line["iterations_median_of_all"] == 6
    assert line["iterations_censored_mean"] == 6
    assert (line["l2_first_mean"], line["linf_first_mean"]) == (pytest.approx(0.4), pytest.approx(0.04))
    assert line["logit_target_end_mean"] == pytest.approx((10 + 8 + 10) / 3)
    assert (line["vanished"], line["vanished_step_median"]) == (1, 8)
    assert (line["seconds"], line["evaluations"]) == (1.5, 11 + 9 + 11)
    assert line["milliseconds_per_evaluation"] == pytest.approx(1500 / 31)
    assert line["steps_made_mean"] == pytest.approx(28 / 3)
    assert (line["step_length"], np.isnan(line["multiplier"])) == (0.05, True)


def test_a_loss_that_changes_nothing_stays_in_the_table(tmp_path):
    write_way(tmp_path, row(), [way(None), way(None)])
    table = table_of(tmp_path, [row()])
    (line,) = rows_of(table)
    assert (line["changed"], line["iterations_censored_mean"]) == (0, STEPS)
    assert np.isnan([line["iterations_mean"], line["l2_first_mean"], line["iterations_median_of_all"]]).all()
    shown = [column.show(line) for column in losses.columns(table)]
    assert "above 10" in shown
    assert "0 of 2: 0.00 [0.00, 0.66]" in shown
    assert "2 under CE" in " ".join(losses.findings(table))


def test_lines_stand_in_the_order_of_the_paper_whatever_the_order_of_the_rows(tmp_path):
    rows = [row(loss, setting) for setting in SETTINGS for loss in LOSSES][::-1]
    for number, one in enumerate(rows):
        write_way(tmp_path, one, [way(number), way(number)])
    table = table_of(tmp_path, rows)
    spec = {"part": part_of(rows)}
    assert list(zip(table["table"], table["slug"], strict=True)) == losses.places(spec)
    assert list(zip(table["setting"], table["loss"], strict=True)) == list(SLUGS)
    text = " ".join(losses.findings(table))
    assert "CE-sign 2.0, CE 3.0" not in text
    assert "M-logit 0.0, Logit 1.0, CE-sign 2.0 and CE 3.0" in text
    assert "M-logit 4.0, Logit 5.0, CE-sign 6.0 and CE 7.0" in text


def test_other_rows_of_the_table_of_attacks_are_left_alone(tmp_path):
    early = row() | {"slug": "early", "parameters": row()["parameters"] | {"stop_at_success": True}}
    ifgs = {"label": "IFGS", "slug": "ifgs", "attack": "ifgs", "parameters": {"max_iterations": 4}}
    write_way(tmp_path, row(), [way(2)])
    assert len(table_of(tmp_path, [ifgs, early, row()])) == 1


def test_images_at_their_target_from_the_start_are_left_out_and_counted(tmp_path):
    folder = write_way(tmp_path, row(), [way(2), way(3)])
    records = pd.read_parquet(folder / "records.parquet")
    records.loc[1, "status"] = "already_there"
    records.to_parquet(folder / "records.parquet", index=False)
    write_run(folder)
    table = table_of(tmp_path, [row()])
    assert (table["images"][0], table["left_out"][0], table["iterations_mean"][0]) == (1, 1, 2)
    assert "up to 1 images of a row were at their target from the start and are left out." in losses.reading(table)


def test_softmax_reads_one_only_where_it_is(tmp_path):
    write_way(tmp_path, row(), [way(2, softmax_target=[0.0] * STEPS + [1 - 1e-9])])
    table = table_of(tmp_path, [row()])
    (line,) = rows_of(table)
    assert "1 - 1.0e-9" in [column.show(line) for column in losses.columns(table)]


@given(
    lengths=st.lists(st.integers(1, STEPS + 1), min_size=1, max_size=5),
    seed=st.integers(0, 99),
)
def test_last_values_are_kept_to_the_end_of_the_budget(lengths, seed):
    """Against pandas' own forward fill, image by image."""
    generator = np.random.default_rng(seed)
    names = list(way())
    trace = pd.concat(
        [
            pd.DataFrame(generator.normal(size=(length, len(names))), columns=names).assign(
                image_id=f"i{image}", step=range(length)
            )
            for image, length in enumerate(lengths)
        ]
    )
    ids = [f"i{image}" for image in reversed(range(len(lengths)))]
    curves, made = curves_of(trace, ids, STEPS, None)
    for place, name in enumerate(ids):
        filled = trace[trace["image_id"] == name].set_index("step")[names].reindex(range(STEPS + 1)).ffill()
        np.testing.assert_array_equal(np.stack([curves[n][place] for n in names], axis=1), filled.to_numpy())
    assert made.tolist() == [length - 1 for length in reversed(lengths)]


def test_what_is_noted_is_what_is_read():
    assert set(STEP_NAMES) == set(NAMES)


def test_a_gradient_that_comes_back_has_not_vanished(tmp_path):
    back = way(2, gradient_magnitude=[1.0, 0.0, 0.0] + [1.0] * 8)
    late = way(2, gradient_magnitude=[1.0] * 7 + [0.0] * 4)
    write_way(tmp_path, row(), [back, late])
    (run,) = read_losses(part_of([row()]), tmp_path)
    assert np.isnan(run.vanished()[0])
    assert run.vanished()[1] == 7


def test_what_is_shown_can_be_worked_out_from_the_file_alone(tmp_path):
    rows = [row(loss, setting) for setting in SETTINGS for loss in LOSSES]
    for one in rows:
        write_way(tmp_path, one, [way(2), way(None)])
    spec = {"name": "losses_1", "kind": "losses", "title": "Losses", "stands_in": "", "part": part_of(rows)}
    out = tmp_path / "tables" / "losses_1"
    write_derived(spec, tmp_path, out)
    back, table = read_derived(spec, out.with_suffix(".csv")), losses.lines(spec, tmp_path)
    assert losses.findings(back) == losses.findings(table)
    assert losses.reading(back) == losses.reading(table)
    for column in losses.columns(table):
        assert [column.show(line) for line in rows_of(back)] == [column.show(line) for line in rows_of(table)]
    assert "| equal multiplier" in out.with_suffix(".md").read_text()


class TestRefused:
    """What cannot be summed up is said before anything is."""

    def test_no_row_that_goes_on(self, tmp_path):
        early = row(stop_at_success=True)
        with pytest.raises(
            ValueError, match="'losses_attacks' has no row of attack gradient with stop_at_success false"
        ):
            table_of(tmp_path, [early])

    def test_two_rows_of_one_loss(self, tmp_path):
        with pytest.raises(ValueError, match="two rows of the loss cross_entropy with equal_perturbation"):
            table_of(tmp_path, [row(), row() | {"slug": "again"}])

    def test_a_row_without_a_number_of_steps(self, tmp_path):
        one = row()
        del one["parameters"]["max_iterations"]
        with pytest.raises(ValueError, match="names no max_iterations"):
            table_of(tmp_path, [one])

    def test_a_row_that_has_not_been_run(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="run this attack row first"):
            table_of(tmp_path, [row()])

    def test_a_trace_of_another_kind(self, tmp_path):
        folder = write_way(tmp_path, row(), [way(2)])
        trace = pd.read_parquet(folder / "trace.parquet")
        trace[trace["name"] != "linf"].to_parquet(folder / "trace.parquet", index=False)
        write_run(folder)
        with pytest.raises(ValueError, match="its trace says nothing of linf"):
            table_of(tmp_path, [row()])

    @pytest.mark.parametrize("made", [STEPS + 3, STEPS])
    def test_a_trace_with_too_many_or_missing_steps(self, tmp_path, made):
        folder = write_way(tmp_path, row(), [way(2, made=made)])
        if made == STEPS:
            trace = pd.read_parquet(folder / "trace.parquet")
            trace[trace["step"] != 4].to_parquet(folder / "trace.parquet", index=False)
            write_run(folder)
        with pytest.raises(ValueError, match="does not lead image test-00000 from step 0 to 10"):
            table_of(tmp_path, [row()])

    def test_rows_about_other_images(self, tmp_path):
        other = row("logit")
        write_way(tmp_path, row(), [way(2), way(2)])
        write_way(tmp_path, other, [way(2)])
        with pytest.raises(ValueError, match="are about other images"):
            table_of(tmp_path, [row(), other])

    def test_a_changed_trace(self, tmp_path):
        folder = write_way(tmp_path, row(), [way(2)])
        run = read_json(folder / "run.json")
        run["outputs"]["trace.parquet"] = "0" * 64
        rewrite_run(folder, run)
        with pytest.raises(ValueError, match=r"trace\.parquet is damaged"):
            table_of(tmp_path, [row()])
