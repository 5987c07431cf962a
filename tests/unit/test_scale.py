"""What the published scale costs, added up from the printed times."""

import pytest
from benchmarks.scale import ROOT, published, study

from wolfe.study import Study, load_study, part_count


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_the_study_that_is_measured_is_divided_as_asked(parts):
    resolved = Study.from_config(study(100, parts))
    assert [part_count(resolved, batch) for batch in resolved.batches] == [parts]


def test_printed_times_are_added_up_row_by_row():
    found = published(load_study(ROOT / "config" / "paper.yaml")).set_index("table")
    line = found.loc["jma_14a"]
    assert line["hours"] == pytest.approx(200 * (14.16 + 9.39 + 4.76 + 5.10) / 3600), "as jma_table_14a.csv prints them"
    assert line["longest_row"] == pytest.approx(200 * 14.16 / 3600)
    assert (line["rows"], line["printed"]) == (5, 4), "ours is not printed"
    assert line["gigabytes"] == pytest.approx(2 * 5 * 200 * 3 * 224**2 * 4 / 1e9)
    assert found.loc["losses_attacks", ["printed", "hours"]].tolist() == [0, 0]
    assert line["jobs"] == 5, "four parts of fifty images and the job that puts them together"
