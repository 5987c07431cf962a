"""How the cost of a study grows with its images and with the jobs that they are divided among.

    python -m benchmarks.scale measure --images 100 1000 --parts 1 2 4     runs a tiny study through Snakemake, here
    python -m benchmarks.scale published                                   adds up what config/paper.yaml will take

Both print the tables of docs/scale.md.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd

from wolfe.study import Study, load_study, part_count

ROOT = Path(__file__).resolve().parents[1]
TARGET = "scale"


def study(images: int, parts: int) -> dict[str, Any]:
    """A study of one small network on photographs, one row of JMA, in shards of 25.

    Args:
        images: attacked.
        parts: jobs that they are divided among.
    """
    return {
        "study": "scale",
        "seed": 1,
        "limits": {
            "device": "cpu",
            "images": images,
            "threads": 1,
            "shard_size": 25,
            "batch_size": 25,
            "images_per_job": -(-images // parts),
        },
        "datasets": {"scenes": {"source": "scenes", "size": 48, "train": 256, "validation": 16, "test": images}},
        "models": {
            "labels": {
                "dataset": "scenes",
                "network": {"name": "timm", "architecture": "resnet10t", "channels": [8, 8, 16, 16], "stem_width": 8},
                "encoding": {"kind": "multi_label"},
                "loss": "binary_cross_entropy",
                "training": {"epochs": 1, "batch_size": 32, "learning_rate": 0.003},
            }
        },
        "tables": {
            TARGET: {
                "title": "Growth",
                "model": "labels",
                "targets": {"rule": "flip_bits", "bits": 5, "only_correct": False},
                "rows": [{"attack": "jma", "step_size": 0.5, "max_iterations": 3}],
            }
        },
    }


def measure(images: list[int], parts: list[int], cores: int) -> pd.DataFrame:
    """Wall times of the attack of a study, for some numbers of images and jobs.

    Everything before the attack is made first and not counted; nothing is taken from the store.

    Returns:
        A line for each: images, parts, jobs, seconds until all is done, processor seconds of Snakemake and all jobs
        (which other work on the machine hardly changes), and those of a job that finds all shards in the store and puts
        them together, which is what each job costs beside its work.
    """
    lines = []
    for count in images:
        with tempfile.TemporaryDirectory() as work:
            folder = Path(work)
            _snakemake(folder, count, 1, cores, "targets")
            lines += [{"images": count, "parts": number, **_attack(folder, count, number, cores)} for number in parts]
    return pd.DataFrame(lines)


def _attack(folder: Path, images: int, parts: int, cores: int) -> dict[str, float]:
    results = folder / "results" / "scale"
    for name in ("attacks", "parts", "store", "benchmarks/attack"):
        shutil.rmtree(results / name, ignore_errors=True)
    begin, used = time.perf_counter(), _processor_seconds()
    _snakemake(folder, images, parts, cores, f"attack_{TARGET}")
    seconds, used = time.perf_counter() - begin, _processor_seconds() - used
    jobs = len(list((results / "benchmarks/attack").rglob("*.tsv")))
    if parts == 1:
        # The same job once more: it finds all shards in the store.
        shutil.rmtree(results / "attacks")
        _snakemake(folder, images, parts, cores, f"attack_{TARGET}")
    last = pd.read_csv(results / "benchmarks/attack" / f"{TARGET}.tsv", sep="\t")
    return {"jobs": jobs, "seconds": seconds, "processor_seconds": used, "empty_job": float(last["cpu_time"].iloc[0])}


def _processor_seconds() -> float:
    """Of all processes that this one started and that have ended, with theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _snakemake(folder: Path, images: int, parts: int, cores: int, until: str) -> None:
    file = folder / "study.json"
    file.write_text(json.dumps(study(images, parts)))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    command += ["--cores", str(cores), "--until", until, "--configfile", str(file)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(ended.stdout + ended.stderr)


def published(resolved: Study) -> pd.DataFrame:
    """What the tables of attacks of a study take by the times printed in the papers.

    Args:
        resolved: the study, e.g. config/paper.yaml.

    Returns:
        A line a table: images; rows; how many of them have a printed time (seconds an image); hours of these rows on
        the authors' hardware, and of the longest of them; jobs; gigabytes of attacked images, kept twice (shards in the
        store and the file put together from them).
    """
    batches = {table: batch for batch in resolved.batches for table in batch.tables}
    lines = []
    for name, table in resolved.tables.items():
        if table["kind"] != "attacks":
            continue
        hours = [seconds * table["images"] / 3600 for seconds in _printed(table)]
        size = resolved.datasets[table["dataset"]]["size"]
        parts = part_count(resolved, batches[name])
        lines.append(
            {
                "table": name,
                "images": table["images"],
                "rows": len(table["rows"]),
                "printed": len(hours),
                "hours": sum(hours),
                "longest_row": max(hours, default=0.0),
                "jobs": parts + (parts > 1),
                "gigabytes": 2 * len(table["rows"]) * table["images"] * 3 * size**2 * 4 / 1e9,
            }
        )
    return pd.DataFrame(lines)


def _printed(table: dict[str, Any]) -> list[float]:
    """The times (seconds an image) that the paper prints for rows of a table."""
    if not table["published"]:
        return []
    with (ROOT / "config" / "published" / table["published"]).open(encoding="utf-8", newline="") as stream:
        times = {(line["attack"], line["params"]): line["time_s"] for line in csv.DictReader(stream)}
    keys = [(row["published"]["attack"], row["published"]["params"]) for row in table["rows"] if row["published"]]
    return [float(times[key]) for key in keys if times.get(key)]


def main() -> None:
    """Prints one of the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale")
    parser.add_argument("question", choices=("measure", "published"))
    parser.add_argument("--images", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--parts", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    options = parser.parse_args()
    if options.question == "measure":
        found = measure(options.images, options.parts, options.cores)
    else:
        found = published(load_study(ROOT / "config" / "paper.yaml"))
        found.loc[len(found)] = {"table": "all", **found.drop(columns=["table", "longest_row"]).sum().to_dict()}
    print(found.to_markdown(index=False, floatfmt=".1f"))


if __name__ == "__main__":
    main()
