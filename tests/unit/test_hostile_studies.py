"""Studies from strangers: sizes, depth, aliases and names; each is refused in one line, and soon."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.test_cli import call
from tests.unit.test_study import small_study
from wolfe.models.description import TIMM_OPTIONS
from wolfe.reading.text import DEEPEST, LARGEST_YAML, MOST_NODES, parse_json, parse_yaml
from wolfe.study import Study, StudyError, load_study, schema

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 9)}]\n" for number in range(1, 12)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{number}: &a{number} {{<<: [{', '.join([f'*a{number - 1}'] * 9)}]}}\n" for number in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, f"more than {MOST_NODES} values where its aliases"),
        (MERGES, f"more than {MOST_NODES} values where its aliases"),
        ("x: &a [*a]", "inside of"),
        ("x: &a {y: {z: *a}}", "inside of"),
        ("x: " + "[" * 5000 + "]" * 5000, f"nested more than {DEEPEST} times"),
        ("x: " + "{a: " * 5000, f"nested more than {DEEPEST} times"),
        ("x: [" + "1, " * (MOST_NODES + 1) + "]", f"more than {MOST_NODES} values"),
        ("#" * (LARGEST_YAML + 1), f"larger than {LARGEST_YAML} bytes"),
        ("x: " + "9" * 5000, "4300 digits"),
        ("x: !!int 0x_", "invalid literal"),
        ("x: !!bool maybe", "not valid YAML"),
        ("x: !!timestamp '1'", "not valid YAML"),
        ("x: 2020-13-01", "month must be"),
        ("x: !!python/object/apply:os.system [touch pwned]", "could not determine a constructor"),
        ("\x00", "special characters"),
    ],
)
def test_a_file_that_would_grow_or_is_none_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(StudyError, match=message) as raised:
        load_study(file)
    assert str(raised.value).startswith(str(file))
    told = call("validate", file)
    assert (told.exit_code, told.stderr.count("\n"), len(told.stderr) < 2_100) == (2, 1, True)


def test_aliases_that_do_not_grow_are_read() -> None:
    assert parse_yaml("a: &a {x: [1, 2]}\nb: {<<: *a, y: *a}") == {
        "a": {"x": [1, 2]},
        "b": {"x": [1, 2], "y": {"x": [1, 2]}},
    }


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "[" * 51 + "]" * 51, "9" * 5000, '{"a": NaN'])
def test_json_that_is_too_deep_or_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"nested|digits|Expecting"):
        parse_json(text)


def test_json_at_the_bound_is_read() -> None:
    assert json.dumps(parse_json("[" * DEEPEST + "]" * DEEPEST)) == "[" * DEEPEST + "]" * DEEPEST


def changed(*keys: Any, value: Any) -> dict[str, Any]:
    """The small study with another value somewhere."""
    study: Any = small_study()
    place = study
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    return study  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("datasets", "digits", "size"), 10**9, "must be <= 2048"),
        (("models", "vgg", "network", "width"), 10**6, "must be <= 8"),
        (("models", "labels", "network", "channels"), [10**9], "must be <= 8192"),
        (("models", "labels", "network", "depth"), 10**9, "must be <= 200"),
        (("models", "labels", "network", "checkpoint_path"), "evil.pth", "unknown key"),
        (("seed",), 10**400, "number of at most"),
        (("seed",), float("nan"), "finite"),
        (("title",), "two\nlines", "in one line"),
        (("title",), "\x1b[2J", "in one line"),
        (("title",), "x" * 2_001, "at most 2000 characters"),
        (("data_root",), "a\x00b", "in one line"),
        (("transfers",), {f"t{number}": {} for number in range(1_001)}, "at most 1000 entries"),
        (("study",), "small\n", "in one line"),
        (("study",), "../small", "is no name"),
        (("study",), "n" * 61, "too long"),
        (("study",), "none", "workflow uses itself"),
    ],
)
def test_a_value_that_is_absurd_is_refused(keys: tuple[Any, ...], value: Any, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        Study.from_config(changed(*keys, value=value))


def test_a_name_does_not_end_in_a_new_line_by_the_schema_either() -> None:
    from jsonschema import Draft202012Validator

    parts = schema()["$defs"]
    assert not Draft202012Validator(parts["name"]).is_valid("small\n")
    published = parts["table"]["allOf"][0]["then"]["properties"]["published"]
    assert Draft202012Validator(published).is_valid("jma_table_01.csv")
    for name in ("x.csv\n", "../x.csv", "-x.csv", ".csv"):
        assert not Draft202012Validator(published).is_valid(name), name


def test_a_message_repeats_little_and_controls_no_terminal() -> None:
    error = str(StudyError("\x1b[2J" + "x" * 100_000 + "\n\ttwo"))
    assert len(error) == 2_000
    assert error.isprintable()


def test_titles_may_have_any_letters() -> None:
    title = "Größe \N{NO-BREAK SPACE}\N{SNOWMAN} \N{ARABIC LETTER AIN}"
    assert Study.from_config(changed("title", value=title)).title == title


def test_batches_have_short_names_of_their_own() -> None:
    study = small_study()
    del study["figures"]
    table = study["tables"]["first"]
    study["tables"] = {"a": table, "b": table, "a_and_b": {**table, "images": 2}}
    names = [batch.name for batch in Study.from_config(study).batches]
    assert names[0] == "a_and_b"
    assert len(set(names)) == len(names) == 2
    study["tables"] = {letter * 60: table for letter in "abcdefg"}
    names = [batch.name for batch in Study.from_config(study).batches]
    assert max(map(len, names)) <= 150


def test_an_entry_too_long_for_a_command_line_is_refused() -> None:
    study = small_study()
    del study["figures"]
    rows = [
        {
            "attack": "jma",
            "step_size": number / 7,
            "max_iterations": 5,
            "origin": "ours",
            "label": "x" * 1_000 + str(number),
        }
        for number in range(1, 90)
    ]
    study["tables"]["first"]["rows"] = rows
    with pytest.raises(StudyError, match=r"tables\.first: would need .* characters on a command line"):
        Study.from_config(study)


def test_the_reader_of_classifiers_allows_what_studies_may_ask_of_timm() -> None:
    parts = schema()["$defs"]["network"]["allOf"]
    timm = [part["then"]["properties"] for part in parts if "timm" in json.dumps(part["if"])]
    published = {"weights_file", "weights_root", "pretrained"}
    assert {name for entries in timm for name in entries} - published == set(TIMM_OPTIONS) - {"name"}


@pytest.mark.parametrize("spec", [LAUGHS, "{" * 100_000, "[1]", "x: &a [*a]", '{"a": 1', "{}"])
def test_an_option_that_is_no_spec_is_one_line(tmp_path: Path, spec: str) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(spec, encoding="utf-8")
    for given in (spec if spec[0] in "{[" else str(file), str(file)):
        told = call("table", "--spec", given, "--attacks", tmp_path, "--out", tmp_path / "out")
        assert (told.exit_code, told.stderr.count("\n")) == (2, 1), told.stderr


@pytest.mark.parametrize("slug", ["../x", "/x", "..", "", "a/b", "a\n", ".x", "x" * 300, None, "$(id)"])
def test_a_row_writes_no_folder_elsewhere(tmp_path: Path, slug: Any) -> None:
    rows = json.dumps([{"slug": slug, "attack": "jma", "parameters": {}}])
    told = call(
        "attack-run", "--model", tmp_path, "--targets", tmp_path, "--data", tmp_path, "--rows", rows,
        "--out", tmp_path / "out", "--store", tmp_path / "store", "--seed", 0, "--device", "cpu",
    )  # fmt: skip
    if slug is not None:
        assert "must be letters, digits" in told.stderr
    assert (told.exit_code, told.stderr.count("\n")) == (2, 1)
    assert not (tmp_path / "out").exists()


def test_the_studies_here_are_within_the_bounds() -> None:
    for name in ("embedded", "paper", "real"):
        file = Path(__file__).parents[2] / "config" / f"{name}.yaml"
        assert yaml.safe_load(file.read_text(encoding="utf-8"))["study"] == load_study(file).name
