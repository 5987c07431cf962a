"""Keeps what a long study found: its tables, figures and models' scores, with the machine and the command.

    python -m benchmarks.evidence results/real --command "snakemake --cores all --configfile config/real.yaml"

Weights, images and records stay where they are: gigabytes that the command makes again.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.answer import markdown
from benchmarks.comparison import compared
from benchmarks.machine import device_name
from wolfe.files import atomic_path, read_json

_KEPT = {"tables": ("*.csv", "*.md"), "figures": ("*.png",)}
_BESIDE = (
    "Rows whose budget was not cut. ASR has Wilson's 95 % interval; success says whether it differs from the published "
    "one by more than chance explains (Fisher's exact test against 200 images, at 5 %); MSE is the mean over the "
    "successes, with a 95 % interval over images drawn again."
)
_SHOWN = ("python", "torch", "timm", "datasets", "numpy")


def keep(results: Path, command: str, notes: list[str], out: Path) -> Path:
    """Copies a finished study's tables and figures and says in a README what made them.

    Args:
        results: `results/<study>`.
        command: what ran the study.
        notes: further sentences for the README.
        out: the folder that gets a folder named like the study.

    Returns:
        That folder.

    Raises:
        FileNotFoundError: the study has no tables or no models.
    """
    models = sorted((results / "models").glob("*/metrics.json"))
    runs = sorted((results / "attacks").glob("*/*/*/run.json"))
    if not models or not runs or not list((results / "tables").glob("*.csv")):
        raise FileNotFoundError(f"{results} holds no finished study: models, attacks and tables are wanted")
    with atomic_path(out / results.name) as folder:
        folder.mkdir()
        for name, patterns in _KEPT.items():
            for path in sorted(path for pattern in patterns for path in (results / name).glob(pattern)):
                (folder / name).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, folder / name / path.name)
        scores, stages = _scores(models), _stages(results / "benchmarks")
        beside = compared(results)
        scores.to_csv(folder / "models.csv", index=False)
        beside.to_csv(folder / "comparison.csv", index=False)
        stages.to_csv(folder / "stages.csv", index=False)
        said = [f"command: `{command}`", *_machine(read_json(runs[0])), *notes]
        (folder / "README.md").write_text(_readme(results.name, said, scores, beside, stages), encoding="utf-8")
    return out / results.name


def _scores(files: list[Path]) -> pd.DataFrame:
    """One line for each model: how large it is, how it was trained and how good it is."""
    lines: list[dict[str, Any]] = []
    for file in files:
        metrics = read_json(file)
        measured = {f"test {name}": round(value, 4) for name, value in metrics["test"].items()}
        lines.append(
            {
                "model": file.parent.name,
                "parameters": metrics["parameters"],
                "training images": metrics["counts"].get("train", 0),
                "epochs": metrics["epochs"],
                "training seconds": metrics["training_seconds"],
                **measured,
            }
        )
    return pd.DataFrame(lines)


def _stages(folder: Path) -> pd.DataFrame:
    """One line for each job: wall time, processor time and memory as Snakemake measured them."""
    lines = []
    for file in sorted(folder.rglob("*.tsv")):
        measured = pd.read_csv(file, sep="\t").iloc[-1]
        lines.append(
            {
                "job": file.relative_to(folder).with_suffix("").as_posix(),
                "wall seconds": round(float(measured["s"]), 1),
                "processor seconds": round(float(measured["cpu_time"]), 1),
                "memory MB": round(float(measured["max_rss"])),
            }
        )
    return pd.DataFrame(lines)


def _machine(run: dict[str, Any]) -> list[str]:
    versions = ", ".join(f"{name} {run['versions'][name]}" for name in _SHOWN if name in run["versions"])
    kind = run["device"]
    name = f"{device_name('cpu')}, {run['threads']} thread a job" if kind.startswith("CPU") else kind
    return [f"device: {name}", f"versions: {versions}"]


def _readme(study: str, said: list[str], scores: pd.DataFrame, beside: pd.DataFrame, stages: pd.DataFrame) -> str:
    total = stages[["wall seconds", "processor seconds"]].sum() / 60
    return (
        f"# {study}\n\n"
        + "".join(f"- {line}\n" for line in said)
        + f"- jobs: {total['wall seconds']:.0f} minutes of wall time summed, "
        f"{total['processor seconds']:.0f} minutes of processor time\n"
        + f"\n## Models\n\n{markdown(scores)}\n"
        + f"\n## Beside the published rows\n\n{_BESIDE}\n\n{markdown(beside)}\n"
        + f"\n## Jobs\n\n{markdown(stages)}\n"
    )


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evidence", description=__doc__.partition("\n")[0])
    parser.add_argument("results", type=Path, help="results/<study>, finished")
    parser.add_argument("--command", required=True, help="what ran it")
    parser.add_argument("--note", action="append", default=[], help="a sentence for the README; may be repeated")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/real"))
    given = parser.parse_args(arguments)
    try:
        print(keep(given.results, given.command, given.note, given.out))
    except (FileNotFoundError, ValueError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
