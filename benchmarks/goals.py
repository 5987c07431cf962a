"""The project's goals, each as reached or missed, worked out from the tables of the answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from benchmarks import distortion, speed
from benchmarks.answer import markdown, read, read_facts
from benchmarks.rivals import FLOOR, OWN
from benchmarks.timing import spread
from wolfe.files import atomic_path

MISSING = "not measured"
# Medians of distances within this share of each other are level.
_LEVEL = 1.02
# The attacks that the one-hot goal names.
_AGAINST = ("DDN", "FMN", "C&W", "ALMA", "FAB")
Tables = Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class Finding:
    """How a goal stands.

    Attributes:
        measured: in words.
        worst: the figure that decides, in units of what is asked at least: 1 just reaches it, below 1 is better.
        aim: the same figure in units of what to reach for.
        whole: whether everything that the goal speaks of could be compared.
    """

    measured: str
    worst: float
    aim: float
    whole: bool = True


@dataclass(frozen=True)
class Goal:
    """A goal: its words, and how it is worked out; None where nothing was measured."""

    what: str
    least: str
    aim: str
    find: Callable[[Tables], Finding | None]


def write_goals(folder: Path) -> Path:
    """Writes `goals.md` from the CSV files in a folder; returns its path."""
    names = ("speed", "overhead", "distortion")
    tables = {name: read(folder / f"{name}.csv") for name in names}
    facts = {name: read_facts(folder / f"{name}.csv") for name in names}
    tables = {name: table.assign(device=facts[name].get("device", "")) for name, table in tables.items()}
    table = pd.DataFrame([_line(goal, tables) for goal in GOALS])
    origin = "".join(
        f"- {name}: {known['device']}; {known.get('kind', '')}; load {known.get('load before', '')} before and "
        f"{known.get('load after', '')} after; `{known.get('command', '')}`\n"
        for name, known in facts.items()
        if "device" in known
    )
    with atomic_path(folder / "goals.md") as temporary:
        temporary.write_text(f"# Goals\n\n{markdown(table)}\n\nFrom the tables beside this one:\n\n{origin}", "utf-8")
    return folder / "goals.md"


def _line(goal: Goal, tables: Tables) -> dict[str, str]:
    found = goal.find(tables)
    verdict = MISSING
    if found is not None:
        verdict = "missed" if found.worst > 1 else "reached, and the aim" if found.aim <= 1 else "reached"
        verdict += "" if found.whole or found.worst > 1 else ", where compared"
    return {
        "goal": goal.what, "at least": goal.least, "reach for": goal.aim,
        "measured": found.measured if found else "", "verdict": verdict,
    }  # fmt: skip


def _faster(rows: pd.DataFrame, least: Callable[[str], float], aim: float) -> Finding | None:
    """From ratios that should be large: each row's, and the one that falls shortest."""
    if rows.empty:
        return None
    words = [f"{row.case}: {row.ratio:.3g}x ({row.ratio_low:.3g} to {row.ratio_high:.3g})" for row in rows.itertuples()]
    worst = max(least(str(row.case)) / float(str(row.ratio)) for row in rows.itertuples())
    return Finding("; ".join(words), worst, aim / float(rows["ratio"].min()))


def dense_speed(tables: Tables) -> Finding | None:
    """JMA dense with a batch of 32 or more against the reference, by iterations, on a processor."""
    table = tables["speed"]
    if table.empty:
        return None
    own = (table["kind"] == speed.ATTACK) & (table["measure"] == speed.ITERATION) & (table["method"] == "JMA dense")
    rows = table[own & (table["images"] >= 32) & table["device"].str.startswith("cpu")]
    return _faster(rows, lambda case: 8.0 if "flip 2," in case else 6.0, 12.0)


def lazy_speed(tables: Tables) -> Finding | None:
    """One linearised solve with 1,000 outputs, cold and warm, on a processor."""
    table = tables["speed"]
    if table.empty:
        return None
    own = (table["kind"] == speed.SOLVE) & table["case"].str.contains("one-hot 1000")
    rows = table[own & table["method"].str.startswith("lazy") & table["device"].str.startswith("cpu")]
    named = rows.assign(case=rows["method"])
    return _faster(named, lambda case: 200.0 if "warm" in case else 100.0, 300.0)


def _at_most(column: str, least: float, aim: float) -> Callable[[Tables], Finding | None]:
    """From a column of the overheads that should be small."""

    def find(tables: Tables) -> Finding | None:
        table = tables["overhead"]
        if table.empty:
            return None
        words = [f"{row['attack']}, {row['case']}: {row[column]:.3g}" for row in table.to_dict("records")]
        worst = float(table[column].max())
        return Finding("; ".join(words), worst / least, worst / aim)

    return find


def equal_passes(method: str) -> Callable[[Tables], Finding | None]:
    """The refined attack's median L2 over that of Algorithm 1 for no more passes, at the refined attack's budgets."""

    def find(tables: Tables) -> Finding | None:
        words, medians, whole = [], [], True
        for case, table in _cases(tables):
            ratio = spread(_at_equal_passes(table, method))
            if math.isnan(ratio.median):
                words.append(f"{case}: no budget to compare")
                whole = False
                continue
            medians.append(ratio.median)
            words.append(f"{case}: {ratio.median:.3g} ({ratio.low:.3g} to {ratio.high:.3g} over budgets)")
        return Finding("; ".join(words), max(medians) / 0.75, max(medians) / 0.6, whole) if medians else None

    return find


def _at_equal_passes(table: pd.DataFrame, method: str) -> list[float]:
    """Ratios of the refined attack's medians to the best of a method for no more passes, where there is one."""
    own = table[(table["method"] == distortion.REFINED) & table["l2"].map(math.isfinite)]
    rivals = table[table["method"] == method]
    pairs = [(row["l2"], distortion.best_within(rivals, row["passes"])) for row in own.to_dict("records")]
    return [l2 / float(rival["l2"]) for l2, rival in pairs if rival is not None]


def passes_to_best(method: str) -> Callable[[Tables], Finding | None]:
    """Passes to be below Algorithm 1's least median L2 over all step sizes, over the passes that took it there."""

    def find(tables: Tables) -> Finding | None:
        words, shares, whole = [], [], True
        for case, table in _cases(tables):
            refined = table[table["method"] == distortion.REFINED]
            best = distortion.best_within(table[table["method"] == method], math.inf)
            if best is None or refined.empty:
                words.append(f"{case}: nothing to compare")
                whole = False
                continue
            share = _share(refined, float(best["l2"]), float(best["passes"]))
            shares.append(share)
            words.append(f"{case}: {share:.3g} of {best['passes']:.0f} passes (L2 {best['l2']:.3g})")
        return Finding("; ".join(words), max(shares) / 0.1, max(shares) / 0.05, whole) if shares else None

    return find


def passes_to_peers(tables: Tables) -> Finding | None:
    """Passes to be level with the peers' least median L2 on one-hot, over those of the first peer that is."""
    for _, table in _cases(tables):
        peers = table[table["method"].map(lambda name: name.endswith(distortion.PEERS))]
        refined = table[table["method"] == distortion.REFINED]
        best = distortion.best_within(peers, math.inf) if len(peers) else None
        if best is None or refined.empty:
            continue
        level = _LEVEL * float(best["l2"])
        first = peers[peers["l2"] <= level].sort_values("passes").iloc[0]
        share = _share(refined, level, float(first["passes"]))
        words = f"{share:.3g} of the {first['passes']:.0f} passes of {first['method']}"
        words += f", both within 2 % of L2 {best['l2']:.3g}"
        missing = [name for name in _AGAINST if not peers["method"].str.startswith(name).any()]
        if missing:
            words += f"; without {', '.join(missing)}"
        return Finding(words, share / 0.25, share / 0.1, not missing)
    return None


def _share(refined: pd.DataFrame, level: float, passes: float) -> float:
    """The fewest passes that come to a level, as a share of others; infinite where none does."""
    enough = refined[refined["l2"] <= level]
    return float(enough["passes"].min()) / passes if len(enough) else math.inf


def _cases(tables: Tables) -> list[tuple[str, pd.DataFrame]]:
    table = tables["distortion"]
    return [] if table.empty else [(str(case), part) for case, part in table.groupby("case", sort=False)]


def rivals(tables: Tables) -> Finding | None:
    """Cost of an iteration of each rival over that of the best peer's; over the bare passes where no peer has it."""
    table = tables["speed"]
    if table.empty:
        return None
    rows = table[(table["kind"] == speed.RIVAL) & table["method"].str.endswith(OWN) & table["ratio"].notna()]
    if rows.empty:
        return None
    words = [
        f"{row['method'].removesuffix(OWN)}: {1 / row['ratio']:.3f} of {row['against']}"
        for row in rows.to_dict("records")
    ]
    with_peers = rows[rows["against"] != FLOOR]
    if with_peers.empty:
        return None
    cost = float((1 / with_peers["ratio"]).max())
    # Only what was held against a peer decides.
    return Finding("; ".join(words), cost, cost / 0.8, len(with_peers) == len(rows))


def on_h200(tables: Tables) -> Finding | None:
    """JMA on ResNet50 at 224x224 against the reference on the same H200."""
    table = tables["speed"]
    if table.empty:
        return None
    own = (table["kind"] == speed.ATTACK) & table["measure"].str.startswith("seconds an image")
    rows = table[own & table["case"].str.contains("ResNet50") & table["device"].str.contains("H200")]
    rows = rows[rows["method"] != speed.REFERENCE]
    best = rows.sort_values("ratio").groupby("case").tail(1)
    return _faster(best, lambda _: 50.0, 100.0)


GOALS = (
    Goal("JMA dense, n = 16 to 20, batch of 32 or more, an iteration against the reference, CPU",
         "6x (8x at few flips)", "12x", dense_speed),
    Goal("JMA lazy, one-hot n = 1000, a linearised solve against the reference, CPU",
         "100x cold, 200x warm", "300x", lazy_speed),
    Goal("time outside the model", "<= 5 %", "<= 2 %", _at_most("outside", 0.05, 0.02)),
    Goal("wall time over the pass floor", "<= 1.3x", "<= 1.1x", _at_most("over_floor", 1.3, 1.1)),
    Goal("distortion at equal passes against Algorithm 1 with its best step for that budget",
         "0.75 on all three encodings", "0.6", equal_passes(distortion.ALGORITHM)),
    Goal("the same against Algorithm 1 with lazy rows", "0.75", "0.6", equal_passes(distortion.LAZY)),
    Goal("passes to be below Algorithm 1's best at any step size", "a tenth", "a twentieth",
         passes_to_best(distortion.ALGORITHM)),
    Goal("the same against Algorithm 1 with lazy rows", "a tenth", "a twentieth", passes_to_best(distortion.LAZY)),
    Goal("one-hot: passes to be level with the best of DDN, FMN, C&W, ALMA, FAB at their long budgets",
         "a quarter", "a tenth", passes_to_peers),
    Goal("every rival's cost an iteration against the best peer's implementation of it", "<= 1.0x", "<= 0.8x", rivals),
    Goal("H200, JMA on ResNet50 224x224, n = 20, images a second against the reference on the same GPU",
         "50x", "100x", on_h200),
)  # fmt: skip
