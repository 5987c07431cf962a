"""What a stranger's study says must stay words: none reaches a shell, a pattern or another study's folder."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import TINY, snakemake

# What a shell would run, what Snakemake would fill in, what ends a quotation, and what begins an option.
WORDS = '--it\'s "$(touch pwned)" `touch pwned`; touch pwned & {output} {{x}} {} %s \\ * ~ <b> | \N{SNOWMAN}'


def hostile(tmp_path: Path, **more: Any) -> Path:
    """The tiny study with other words wherever it may hold words."""
    study = {**yaml.safe_load(TINY.read_text(encoding="utf-8")), "title": WORDS, **more}
    for entry in [*study["tables"].values(), *study["figures"].values()]:
        entry["title"] = WORDS
    study["tables"]["one_hot"]["stands_in"] = WORDS
    study["tables"]["one_hot"]["rows"][2]["label"] = WORDS
    study["tables"]["variants"]["rows"][0]["difference"] = WORDS
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    return tmp_path / "study.yaml"


def commands(text: str) -> list[list[str]]:
    """The commands of a plan as a shell would take them apart."""
    said = (line.strip() for line in text.splitlines())
    return [shlex.split(line) for line in said if "python -m wolfe" in line]


@pytest.mark.parametrize("target", ["table_one_hot", "figure_codes", "table_variants"])
def test_words_of_a_study_reach_a_command_as_one_argument(tmp_path: Path, target: str) -> None:
    run = snakemake(tmp_path, "--dry-run", "--printshellcmds", target, study=hostile(tmp_path))
    assert run.code == 0, run.text
    told = commands(run.text)
    specs = [json.loads(part[part.index("--spec") + 1]) for part in told if "--spec" in part]
    assert WORDS in [spec.get("title") for spec in specs], run.text
    known = {word for part in told for word in part}
    assert not known & {"touch", "pwned", "`touch", "{output}"}, "a word of the study became one of the command"


def test_a_folder_that_a_study_names_is_no_command(tmp_path: Path) -> None:
    cifar = {
        "source": "hub",
        "collection": "cifar10",
        "size": 32,
        "splits": {"train": "train", "validation": "test[:9]", "test": "test[9:]"},
    }
    study = yaml.safe_load(TINY.read_text(encoding="utf-8"))
    file = hostile(tmp_path, datasets={**study["datasets"], "unused": cifar}, data_root=WORDS)
    run = snakemake(tmp_path, "results/tiny/data/unused/card.json", study=file)
    assert run.code != 0
    log = (tmp_path / "results" / "tiny" / "logs" / "dataset" / "unused.log").read_text(encoding="utf-8")
    assert f"data_root {WORDS}/cifar10 is no folder" in log
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.parametrize(
    "name", ["../other", "/tmp/x", "a b", "a\n", "a;b", "$(id)", "{model}", "a.b", "none", "", "n" * 61]
)
@pytest.mark.parametrize("kind", ["study", "datasets", "models", "tables", "figures"])
def test_no_name_leaves_its_folder(tmp_path: Path, kind: str, name: str) -> None:
    from wolfe.study import StudyError, load_study

    study = yaml.safe_load(TINY.read_text(encoding="utf-8"))
    if kind == "study":
        study["study"] = name
    else:
        study[kind][name] = next(iter(study[kind].values()))
    (tmp_path / "study.yaml").write_text(json.dumps(study), encoding="utf-8")
    with pytest.raises(StudyError) as raised:
        load_study(tmp_path / "study.yaml")
    assert "\n" not in str(raised.value)
