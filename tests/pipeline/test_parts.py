"""Images divided among several jobs: the same results, and nothing repeated when they are put together."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pandas as pd
import yaml

from wolfe.files import read_json
from wolfe.study import Study, load_study, part_count, rule_graph

from .conftest import TINY, snakemake

RESULTS = Path("results") / "tiny"
PARTS = ("--config", 'limits={"images_per_job": 2}')


def test_parts_give_the_results_of_one_job(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    shutil.copytree(finished, folder)
    records = next((folder / RESULTS / "attacks" / "vgg" / "other_class").glob("jma-*/records.parquet"))
    whole = [_untimed(records), (records.parent / "adversarials.safetensors").read_bytes()]
    shutil.rmtree(folder / RESULTS / "store")
    shutil.rmtree(records.parent)
    run = snakemake(folder, str(records.relative_to(folder)), "--rerun-triggers", "mtime", *PARTS)
    assert run.planned == {"attack_part": 2, "attack_one_hot": 1}, run.text
    divided = [_untimed(records), (records.parent / "adversarials.safetensors").read_bytes()]
    pd.testing.assert_frame_equal(divided[0], whole[0])
    assert divided[1] == whole[1]
    lists = [folder / RESULTS / "parts" / "one_hot" / f"{number}_of_2.json" for number in (1, 2)]
    listed = {piece for file in lists for row in read_json(file)["pieces"].values() for piece in row}
    store = folder / RESULTS / "store"
    assert listed == {str(file.parent.relative_to(store)) for file in store.rglob("manifest.json")}
    newest = max(file.stat().st_mtime_ns for file in store.rglob("manifest.json"))
    assert newest <= max(file.stat().st_mtime_ns for file in lists), "what was finished is not repeated"


def _untimed(records: Path) -> pd.DataFrame:
    return pd.read_parquet(records).drop(columns="seconds")


def test_a_study_divides_only_what_is_larger_than_a_job() -> None:
    study = _divided(images_per_job=4)
    counts = {batch.name: part_count(study, batch) for batch in study.batches}
    assert counts["one_hot"] == 1, "three images"
    assert counts["followed"] == 2, "six images"
    assert counts["learnt"] == 10, "forty images"
    whole = load_study(TINY)
    assert {part_count(whole, batch) for batch in whole.batches} == {1}


def test_a_job_takes_whole_shards() -> None:
    study = _divided(images_per_job=3)
    followed = next(batch for batch in study.batches if batch.name == "followed")
    assert part_count(study, followed) == 2, "six images in shards of two, two shards a job"


def _divided(images_per_job: int) -> Study:
    document = yaml.safe_load(TINY.read_text())
    document["limits"]["images_per_job"] = images_per_job
    return Study.from_config(document)


def test_the_graph_shows_the_parts_as_snakemake_does(tmp_path: Path) -> None:
    theirs = snakemake(tmp_path, "--rulegraph", "dot", *PARTS).text
    assert _edges(theirs) == _edges(rule_graph(_divided(images_per_job=2)))


def _edges(dot: str) -> set[tuple[str, str]]:
    labels = dict(re.findall(r'(\d+)\s*\[label\s*=\s*"(\w+)"', dot))
    edges = {(labels[tail], labels[head]) for tail, head in re.findall(r"(\d+)\s*->\s*(\d+)", dot)}
    return {(tail, head) for tail, head in edges if tail != head}
