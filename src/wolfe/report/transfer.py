"""Transfer: what other classifiers decide on the images of each attack of each table, by distortion and bit by bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wolfe.names import attack_name
from wolfe.reading.tables import read_table
from wolfe.report.grid import Column
from wolfe.report.records import verified_run
from wolfe.report.summary import wilson_interval
from wolfe.report.transfer_findings import edges_of, findings, levels_of
from wolfe.report.words import MISSING, fixed, listed, proportion, significant, table_name

__all__ = ["columns", "findings", "lines", "places", "reading"]

RECORDS = "records.parquet"
_NEEDED = (
    *("image_id", "source", "targets", "slug", "attack", "classifier", "l2", "source_success", "source_success_8bit"),
    *("decided_rightly", "already_there", "bits_total", "bits_asked"),
    *(f"{name}{suffix}" for suffix in ("", "_8bit") for name in ("targeted", "untargeted", "bits_reached")),
    *("bits_changed", "untargeted_shuffled"),
)


def read_transfer(folder: Path) -> pd.DataFrame:
    """Reads and verifies what `wolfe transfer` wrote.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged or something else; the message names it.
    """
    path = Path(folder) / RECORDS
    verified_run(Path(folder), (RECORDS,), "run `wolfe transfer`")
    records = read_table(path)
    missing = [name for name in _NEEDED if name not in records]
    if missing:
        raise ValueError(f"{path} lacks the columns {', '.join(missing)}: run this transfer again")
    return records


def lines(spec: Mapping[str, Any], transfers: Path) -> pd.DataFrame:
    """One line for each attack of each table and each other classifier, over all rows of the attack in that table.

    Args:
        spec: the resolved table, with `levels` and `transfers`: sets of classifiers (`models`) with
            the `tables` that attack them (see `study.transfers`).
        transfers: the folder `transfer`, with the verdicts of each set.

    Returns:
        Which line it is, how many examples count and what became of them; counts beside shares, so that lines can be
        summed up. Level k runs from `level_<k-1>_l2_to` to `level_<k>_l2_to`.

    Raises:
        FileNotFoundError: a transfer has not been run.
        ValueError: one is damaged, or lacks verdicts that the table shows.
    """
    found: list[dict[str, Any]] = []
    for transfer in spec["transfers"]:
        folder = Path(transfers) / transfer["name"]
        records = read_transfer(folder)
        edges = _edges(records, int(spec["levels"]))
        ends = {f"level_{number}_l2_to": edge for number, edge in enumerate(edges, start=1)}
        records = _marked(records, edges)
        groups = dict(tuple(records.groupby(["source", "targets", "classifier", "slug"])))
        for named, keys in _pairs(transfer):
            missing = [key for key in keys if key not in groups]
            if missing:
                raise ValueError(f"{folder} lacks the verdicts on {' '.join(missing[0])}: run this transfer again")
            part = pd.concat([groups[key] for key in keys])
            found.append(named | _summarised(part) | _by_level(part, len(edges)) | ends)
    return pd.DataFrame(found)


def _pairs(transfer: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], list[tuple[str, str, str, str]]]]:
    """Every attack with every other classifier: the columns that name it, and where its verdicts are."""
    encodings = {model["name"]: model["encoding"] for model in transfer["models"]}
    for table in transfer["tables"]:
        model = table["model"]
        for rows in table["attacks"]:
            for other in (name for name in encodings if name != model):
                named = {"table": table["table"], "attack": rows["attack"], "set": transfer["name"]}
                named |= {"dataset": transfer["dataset"], "model": model, "encoding": encodings[model]}
                named |= {"other": other, "other_encoding": encodings[other], "rows": len(rows["slugs"])}
                yield named, [(model, table["targets"], other, slug) for slug in rows["slugs"]]


def places(spec: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Table and attack of every line."""
    pairs = [named for transfer in spec["transfers"] for named, _ in _pairs(transfer)]
    return [(named["table"], named["attack"]) for named in pairs]


def _edges(records: pd.DataFrame, levels: int) -> list[float]:
    """The upper ends of levels of L2 that hold as many successes each, whatever classifier is asked about them."""
    success = records[records["source_success"].astype(bool)]
    runs = success.drop_duplicates(["source", "targets", "slug", "image_id"])
    # Without a single success there are no levels to tell apart.
    distances = runs["l2"].to_numpy() if len(runs) else np.zeros(1)
    return [float(edge) for edge in np.quantile(distances, np.arange(1, levels + 1) / levels)]


def _marked(records: pd.DataFrame, edges: list[float]) -> pd.DataFrame:
    """Adds which examples count, and the level of distortion of each.

    An example counts if its attack reached the target on its own classifier, and if the other one is right about the
    image before the attack and not at the target already.
    """
    counts = records["source_success"].astype(bool) & records["decided_rightly"].astype(bool)
    level = 1 + np.searchsorted(edges[:-1], records["l2"].to_numpy())
    return records.assign(counts=counts & ~records["already_there"].astype(bool), level=level)


def _summarised(part: pd.DataFrame) -> dict[str, Any]:
    """The numbers of one line, from the verdicts of one classifier on all images of some runs."""
    counted = part[part["counts"]]
    success = part["source_success"].astype(bool)
    images = counted["image_id"].nunique()
    others_changed = int((counted["bits_changed"] - counted["bits_reached"]).sum())
    asked, others = int(counted["bits_asked"].sum()), int((counted["bits_total"] - counted["bits_asked"]).sum())
    numbers: dict[str, Any] = {
        "images": part["image_id"].nunique(),
        "examples": len(part),
        "successes": int(success.sum()),
        "own_share": success.mean(),
        "own_share_8bit": (success & part["source_success_8bit"].astype(bool)).mean(),
        "counted": len(counted),
        "counted_images": images,
        "l2_median": counted["l2"].median(),
        "bits_asked": asked,
        "bits_reached": int(counted["bits_reached"].sum()),
        "bits_share": _share(counted["bits_reached"].sum(), asked),
        "bits_share_8bit": _share(counted["bits_reached_8bit"].sum(), asked),
        "other_bits": others,
        "other_bits_changed": others_changed,
        "other_bits_share": _share(others_changed, others),
    }
    for name in ("targeted", "untargeted"):
        numbers |= _counted(name, counted, images)
        numbers[f"{name}_8bit"] = int(counted[f"{name}_8bit"].sum())
        numbers[f"{name}_share_8bit"] = _share(numbers[f"{name}_8bit"], len(counted))
    shuffled = int(counted["untargeted_shuffled"].sum())
    return numbers | {"shuffled": shuffled, "shuffled_share": _share(shuffled, len(counted))}


def _counted(name: str, counted: pd.DataFrame, images: int) -> dict[str, Any]:
    """Count and share of a verdict, with Wilson's interval for as many examples as there are different images."""
    count = int(counted[name].sum())
    share = _share(count, len(counted))
    low, high = wilson_interval(round(share * images), images) if images else (np.nan, np.nan)
    return {name: count, f"{name}_share": share, f"{name}_95_low": low, f"{name}_95_high": high}


def _by_level(part: pd.DataFrame, levels: int) -> dict[str, int]:
    """What counts in each level, and how much of it transfers."""
    found = {}
    for level in range(1, levels + 1):
        counted = part[part["counts"] & (part["level"] == level)]
        found[f"level_{level}_counted"] = len(counted)
        found |= {f"level_{level}_{name}": int(counted[name].sum()) for name in ("targeted", "untargeted")}
    return found


def _share(count: float, total: int) -> float:
    return float(count / total) if total else float("nan")


def columns(table: pd.DataFrame) -> list[Column]:
    """What readers see."""
    return [
        Column("", "Table", lambda line: table_name(line["table"]), text=True),
        Column("", "Attack", lambda line: attack_name(line["attack"]), text=True),
        Column("", "From", lambda line: str(line["model"]), text=True),
        Column("", "To", lambda line: str(line["other"]), text=True),
        Column("Examples", "counted", lambda line: f"{line['counted']} of {line['successes']}"),
        Column("Examples", "images", lambda line: f"{line['counted_images']} of {line['images']}"),
        Column("Examples", "L2 median", lambda line: significant(line["l2_median"])),
        Column("Decision", "targeted [95 %]", lambda line: _with_interval(line, "targeted")),
        Column("Decision", "untargeted [95 %]", lambda line: _with_interval(line, "untargeted")),
        Column("Decision", "shuffled", lambda line: fixed(line["shuffled_share"])),
        Column("Bits", "reached", lambda line: fixed(line["bits_share"])),
        Column("Bits", "others changed", lambda line: fixed(line["other_bits_share"])),
        Column("8-bit", "targeted", lambda line: fixed(line["targeted_share_8bit"])),
        Column("8-bit", "untargeted", lambda line: fixed(line["untargeted_share_8bit"])),
        Column("8-bit", "bits reached", lambda line: fixed(line["bits_share_8bit"])),
        *(_level_column(level) for level in levels_of(table)),
    ]


def _with_interval(line: Mapping[str, Any], name: str) -> str:
    return proportion(line[f"{name}_share"], line[f"{name}_95_low"], line[f"{name}_95_high"])


def _level_column(level: int) -> Column:
    def show(line: Mapping[str, Any]) -> str:
        counted = line[f"level_{level}_counted"]
        shares = [fixed(_share(line[f"level_{level}_{name}"], counted)) for name in ("targeted", "untargeted")]
        return " / ".join(shares) if counted else MISSING

    return Column("Targeted / untargeted by L2", f"level {level}", show)


def reading(table: pd.DataFrame) -> str:
    """How to read the table."""
    levels = [
        f"{name} {listed([f'up to {significant(edge)}' for edge in edges_of(part)])}"
        for name, part in table.groupby("set", sort=False)
    ]
    return (
        "Nothing was attacked for this table: the images are those that the runs of the tables named have left, over "
        "all rows of the attack. Counted are examples that reached their target on the attacked classifier (From), of "
        "images that the other one (To) decides rightly before the attack and not for the target: so many of all "
        "successes, on so many different images. Targeted: To decides for the target too; untargeted: it leaves the "
        "true label, of label vectors any of its labels; shuffled: it does so for noise that has the values of the "
        "perturbation in random places, and so its size. The intervals are Wilson's for as many examples as there are "
        "different images, because rows share images. Bits: of those that lead from To's decision to the target "
        "(labels, or bits of To's own code; a one-hot classifier has none) the share that is reached, and of all other "
        "bits the share that is changed. 8-bit: the same examples, rounded. Levels of L2 hold as many successes each: "
        f"{'; '.join(levels)}."
    )
