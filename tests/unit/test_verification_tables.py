"""The tables of two runs: equal to the byte, times aside."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from wolfe.verification import differing_tables


def tables(folder: Path, **columns: list[object]) -> Path:
    """Results with one table."""
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    pd.DataFrame(columns).to_csv(folder / "tables" / "one.csv", index=False)
    return folder


@pytest.mark.parametrize(
    ("change", "equal"),
    [
        ({"seconds_per_image_mean": [9.0, 9.0]}, True),
        ({"milliseconds_per_step": [9.0, 9.0]}, True),
        ({"value": [1.0, 9.0]}, True),
        ({"value": [9.0, 2.0]}, False),
        ({"published_time_s": ["9", "9"]}, False),
    ],
)
def test_tables_of_two_runs_are_equal_but_for_times(
    tmp_path: Path, change: dict[str, list[object]], equal: bool
) -> None:
    columns: dict[str, list[object]] = {
        "measured": ["length of a step", "time of a step, slowest / fastest"],
        "value": [1.0, 2.0],
        "seconds_per_image_mean": [0.1, 0.2],
        "milliseconds_per_step": [0.1, 0.2],
        "published_time_s": ["1", "2"],
    }
    first, second = tables(tmp_path / "a", **columns), tables(tmp_path / "b", **(columns | change))
    assert differing_tables(first, second) == ([] if equal else ["differs: tables/one.csv"])


CSV = 'label,measured,asr,seconds_mean\n"a, b",length,0.50,1.5\nc,"time of a step, M-logit",1.0,2.5\n'
MARKDOWN = """Caption, of 3 images.

| Attack   |   Ours: ASR |   Ours: s/image |   all images, s |
|:---------|------------:|----------------:|----------------:|
| a \\| b   |        0.50 |             1.5 |              12 |

## What this table says

- Of 28 claims, in 2 figures, 1 holds and 1 does not.
- a reaches 0.50; seconds per image: 1.5.
- b is as good.
"""
LATEX = """\\caption{Of 3 images}
 & \\multicolumn{3}{c}{Ours} \\\\
Attack & ASR & s/image & a gradient, ms \\\\
\\midrule
C\\&W & 0.50 & 1.5 & 0.7 \\\\
b & 0.60 & 2.5 & 0.8 \\\\
"""


@pytest.mark.parametrize(
    ("name", "old", "new", "equal"),
    [
        ("one.csv", "1.5", "9", True),
        ("one.csv", "2.5", "9", True),
        ("one.csv", "1.0", "9", True),
        ("one.csv", "0.50", "0.5", False),
        ("one.csv", '"a, b"', '"a,  b"', False),
        ("one.csv", "length", '"length"', False),
        ("one.csv", "length", "length ", False),
        ("one.csv", "length,0.50", "length,,0.50", False),
        ("one.csv", "\n", "\r\n", False),
        ("one.csv", "2.5\n", "2.5\n\n", False),
        ("one.csv", "seconds_mean", "seconds_median", False),
        ("one.md", "1.5 |", "12.75 |", True),
        ("one.md", "----------------:|\n", "---------------:|\n", True),
        ("one.md", "12 |", "9 |", True),
        ("one.md", "image: 1.5", "image: 7", True),
        ("one.md", "reaches 0.50", "reaches 0.51", False),
        ("one.md", "1 holds and 1 does not", "2 hold", True),
        ("one.md", "0.50 |", "0.51 |", False),
        ("one.md", "-:|\n", "--|\n", False),
        ("one.md", "as good", "better", False),
        ("one.md", "3 images", "4 images", False),
        ("one.tex", "1.5", "12.75", True),
        ("one.tex", "0.7", "12.75", True),
        ("one.tex", "0.60", "0.61", False),
        ("one.tex", "W &", "W &  &", False),
        ("one.tex", "3 images", "4 images", False),
        ("one.tex", "s/image", "s", False),
    ],
)
def test_files_of_a_table_are_equal_but_for_times(tmp_path: Path, name: str, old: str, new: str, equal: bool) -> None:
    results = [tmp_path / place / "tables" for place in "ab"]
    for folder in results:
        folder.mkdir(parents=True)
        for suffix, text in ((".csv", CSV), (".md", MARKDOWN), (".tex", LATEX)):
            (folder / f"one{suffix}").write_bytes(text.encode())
    first, second = (folder.parent for folder in results)
    assert differing_tables(first, second) == []
    whole = (results[1] / name).read_bytes()
    changed = whole.replace(old.encode(), new.encode(), 1)
    assert changed != whole
    (results[1] / name).write_bytes(changed)
    # Equal numbers leave readers of the table nothing to differ in.
    assert differing_tables(first, second) == ([] if equal and name == "one.csv" else [f"differs: tables/{name}"])
    (results[1] / "one.csv").write_bytes((results[1] / "one.csv").read_bytes().replace(b"1.5", b"1.75"))
    assert differing_tables(first, second) == ([] if equal else [f"differs: tables/{name}"])


def test_tables_that_only_one_run_has_are_named(tmp_path: Path) -> None:
    first, second = tables(tmp_path / "a", value=[1]), tables(tmp_path / "b", value=[1])
    (first / "tables" / "two.csv").write_text("value\n1\n")
    assert differing_tables(first, second) == [f"missing: tables/two.csv (only {first} has it)"]
    assert differing_tables(second, first) == [f"missing: tables/two.csv (only {first} has it)"]
    (second / "tables" / "one.md").write_text("# One")
    assert f"missing: tables/one.md (only {second} has it)" in differing_tables(first, second)
    with pytest.raises(ValueError, match="nothing holds no tables to compare"):
        differing_tables(first, tmp_path / "nothing")
    for content in (b"", b"\xff", b"value\n" + 200_000 * b"1" + b"\n"):
        (first / "tables" / "one.csv").write_bytes(content)
        (line,) = [line for line in differing_tables(first, second) if line.startswith("damaged: tables/one.csv (")]
        assert "readable" in line or "limit" in line
