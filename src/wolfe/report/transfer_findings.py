"""What a table of transfer says: how much transfers, at which distortion, between whom, and what rounding leaves."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pandas as pd

from wolfe.names import attack_name
from wolfe.report.words import encoding_name, fixed, listed, significant

FEWEST = 10
"""Pooled shares of fewer examples are not set against each other."""


def levels_of(table: pd.DataFrame) -> list[int]:
    """The numbers of a table's levels of distortion, from 1."""
    count = sum(str(name).endswith("_l2_to") for name in table)
    return list(range(1, count + 1))


def edges_of(table: pd.DataFrame) -> list[float]:
    """The upper ends of the levels in a set of classifiers, in units of L2."""
    return [float(table[f"level_{level}_l2_to"].iloc[0]) for level in levels_of(table)]


def pooled(part: pd.DataFrame, name: str, total: str = "counted") -> float:
    """A share over several lines, from their counts; NaN where nothing counts.

    Args:
        part: lines of the table.
        name: the column of the count.
        total: the column of what it is a share of.
    """
    whole = int(part[total].sum())
    return float(part[name].sum() / whole) if whole else float("nan")


def findings(table: pd.DataFrame) -> list[str]:
    """What follows from a table of transfer, one paragraph each; the first one opens.

    Args:
        table: the full table.
    """
    counted = int(table["counted"].sum())
    if not counted:
        return ["No attack succeeded on an image that another classifier decides rightly, so nothing could transfer."]
    opening = (
        f"Over all lines ({counted:,} verdicts of other classifiers) {_percent(pooled(table, 'targeted'))} reach the "
        f"target on another classifier too and {_percent(pooled(table, 'untargeted'))} change its decision; noise "
        f"with the same values in random places changes {_percent(pooled(table, 'shuffled'))} of these decisions."
    )
    sets = [part for _, part in table.groupby("set", sort=False)]
    says = [opening, *(_by_distortion(part) for part in sets), *(_by_attack(part) for part in sets)]
    return [text for text in [*says, *(_by_pair(part) for part in sets), _by_bits(table), _by_rounding(table)] if text]


def _by_distortion(part: pd.DataFrame) -> str:
    """Whether more transfers at more distortion."""
    shown = [level for level in levels_of(part) if part[f"level_{level}_counted"].sum() >= FEWEST]
    if len(shown) < 2:
        return ""
    totals = [(f"level_{level}_targeted", f"level_{level}_untargeted", f"level_{level}_counted") for level in shown]
    targeted, untargeted = ([pooled(part, level[which], level[2]) for level in totals] for which in (0, 1))
    edges = [f"up to {significant(edges_of(part)[level - 1])}" for level in shown]
    return (
        f"Distortion, {_name(part)}: with L2 {listed(edges)} untargeted transfer is {_percents(untargeted)} "
        f"({_course(untargeted)}), targeted {_percents(targeted)} ({_course(targeted)})."
    )


def _course(shares: list[float]) -> str:
    if all(after > before for before, after in pairwise(shares)):
        return "it rises with every level"
    if all(after < before for before, after in pairwise(shares)):
        return "it falls with every level"
    return "it neither rises nor falls throughout"


def _by_attack(part: pd.DataFrame) -> str:
    """Which attacks transfer most, and at which distortion."""
    groups = {str(name): group for name, group in part.groupby("attack", sort=False)}
    known = {name: group for name, group in groups.items() if group["counted"].sum() >= FEWEST}
    if len(known) < 2:
        return ""
    order = sorted(known, key=lambda name: -pooled(known[name], "untargeted"))
    shown = [
        f"{attack_name(name)} {_percent(pooled(known[name], 'untargeted'))} (targeted "
        f"{_percent(pooled(known[name], 'targeted'))}, median L2 of its lines {significant(_middle(known[name]))})"
        for name in order
    ]
    return (
        f"Attacks, {_name(part)}: untargeted transfer is {listed(shown)}. Attacks differ in distortion; the levels of "
        "the table hold it about equal."
    )


def _middle(group: pd.DataFrame) -> float:
    return float(group["l2_median"].median())


def _by_pair(part: pd.DataFrame) -> str:
    """Between which classifiers most and least transfers, whatever the attack."""
    groups = [group for _, group in part.groupby(["model", "other"], sort=False) if group["counted"].sum() >= FEWEST]
    if len(groups) < 2:
        return ""
    least, *_, most = sorted(groups, key=lambda group: pooled(group, "untargeted"))
    return f"Classifiers, {_name(part)}: most transfers {_pair(most)}; least {_pair(least)}."


def _pair(group: pd.DataFrame) -> str:
    line: Mapping[Any, Any] = group.iloc[0].to_dict()
    kinds = f" ({encoding_name(line['encoding'])} to {encoding_name(line['other_encoding'])})"
    kinds = "" if line["encoding"] == line["other_encoding"] else kinds
    shares = f"{_percent(pooled(group, 'untargeted'))} untargeted, {_percent(pooled(group, 'targeted'))} targeted"
    return f"from {line['model']} to {line['other']}{kinds}: {shares}"


def _by_bits(table: pd.DataFrame) -> str:
    """What transfers bit by bit, where there are bits."""
    parts = [part for _, part in table[table["bits_asked"] > 0].groupby("other_encoding", sort=False)]
    shown = [
        f"towards {encoding_name(str(part['other_encoding'].iloc[0]))} classifiers "
        f"{_percent(pooled(part, 'bits_reached', 'bits_asked'))} of the bits asked for are reached, and "
        f"{_percent(pooled(part, 'other_bits_changed', 'other_bits'))} of the others change"
        for part in parts
    ]
    return f"Bits: {'; '.join(shown)}." if shown else ""


def _by_rounding(table: pd.DataFrame) -> str:
    """What rounding to 8 bits leaves on the other classifiers, and on the attacked one."""
    own = table.drop_duplicates(["table", "attack", "model"])
    shares = [(own[name] * own["examples"]).sum() / own["examples"].sum() for name in ("own_share", "own_share_8bit")]
    return (
        f"8 bits: rounded, {_percent(pooled(table, 'targeted_8bit'))} transfer targeted and "
        f"{_percent(pooled(table, 'untargeted_8bit'))} untargeted ({_percent(pooled(table, 'targeted'))} and "
        f"{_percent(pooled(table, 'untargeted'))} without rounding), while the success on the attacked classifiers "
        f"goes from {fixed(shares[0])} to {fixed(shares[1])}."
    )


def _name(part: pd.DataFrame) -> str:
    return str(part["set"].iloc[0])


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _percents(shares: list[float]) -> str:
    return listed([_percent(share) for share in shares])
