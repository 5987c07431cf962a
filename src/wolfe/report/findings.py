"""What a table says, worked out from its comparable rows: each rival against JMA on the same images.

Nothing here knows the answer: which attack succeeds more often, which needs the smaller perturbation and which the
fewer passes comes from the records, in either direction, and differences that the images cannot show are called so.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from scipy.stats import binomtest

from wolfe.names import attack_name
from wolfe.report.records import RowRecords
from wolfe.report.summary import summarise_records
from wolfe.report.words import fixed, proportion, significant

REFERENCE = "jma"
"""The attack that the others are compared with."""
REFINED = "jma_refined"
"""Its sibling, which is no rival."""
_ON_SHARED = " Where a row has fewer images, both are counted on those alone, and the comparison says how many."
LEVEL = 0.05
"""A difference is called one when an exact two-sided sign test on the paired images gives a smaller p."""


def findings(table: pd.DataFrame, results: Mapping[str, RowRecords]) -> list[str]:
    """A table's findings, one paragraph each.

    Args:
        table: the full table (one line a row).
        results: slug to records.

    Returns:
        How the rows were chosen, then one paragraph for each rival attack in the order of the table. Of several
        comparable rows of one attack the one with the highest ASR speaks, of equals that with the smallest median L2.
    """
    attacks = list(dict.fromkeys(table["attack"]))
    rivals = [attack for attack in attacks if attack != REFERENCE]
    if REFERENCE not in attacks or not rivals:
        return ["This table holds no rival of JMA, so it compares nothing."]
    reference = representative(table, REFERENCE)
    opening = "Each comparison rests on one row per attack, on the same images and targets: "
    if reference is None:
        reference = representative(table, REFERENCE, comparable_only=False)
        opening = "Every JMA row of this table ran with less than its published budget; for the comparison stands "
    assert reference is not None
    paragraphs = [
        f"{opening}{reference['label']}, the JMA row with the highest ASR (of equals, the smallest median L2), "
        f"against each rival's best row whose budget was not cut. With {_numbers(table)} images only large "
        "differences can be told from chance; p is from an exact two-sided sign test."
        + (_ON_SHARED if (table["images"] < table["images"].max()).any() else "")
    ]
    for rival in rivals:
        line = representative(table, rival)
        if line is None:
            paragraphs.append(f"{attack_name(rival)}: every row ran with a cut budget, so nothing is concluded.")
        else:
            pair = (results[reference["slug"]].records, results[line["slug"]].records)
            paragraphs.append(_comparison(*_on_shared(reference, line, *pair), int(table["images"].max())))
    return paragraphs


def _numbers(table: pd.DataFrame) -> str:
    """The number of images, or the least and the greatest where rows differ."""
    least, most = int(table["images"].min()), int(table["images"].max())
    return str(most) if least == most else f"{least} to {most}"


def _on_shared(
    ours: pd.Series, rival: pd.Series, our_records: pd.DataFrame, records: pd.DataFrame
) -> tuple[pd.Series, pd.Series, pd.DataFrame, pd.DataFrame]:
    """Two rows and their records on the images that both have attacked; as they are where these are all."""
    if set(our_records["image_id"]) == set(records["image_id"]):
        return ours, rival, our_records, records
    shared = [
        frame[frame["image_id"].isin(other["image_id"])]
        for frame, other in ((our_records, records), (records, our_records))
    ]
    rows = [pd.Series({**row, **summarise_records(frame)}) for row, frame in zip((ours, rival), shared, strict=True)]
    return rows[0], rows[1], shared[0], shared[1]


def representative(table: pd.DataFrame, attack: str, comparable_only: bool = True) -> pd.Series | None:
    """The row that speaks for an attack: highest ASR, then smallest median L2, then first in the table.

    Args:
        table: the full table.
        attack: which attack.
        comparable_only: leave out rows with a cut budget.

    Returns:
        The row, or None when there is none.
    """
    rows = table[table["attack"] == attack]
    if comparable_only:
        rows = rows[rows["comparable"]]
    if rows.empty:
        return None
    ordered = rows.sort_values(["asr", "l2_median"], ascending=[False, True], kind="stable")
    return ordered.iloc[0]


def _comparison(
    ours: pd.Series, rival: pd.Series, our_records: pd.DataFrame, records: pd.DataFrame, images: int
) -> str:
    pairs = our_records.merge(records, on="image_id", suffixes=("_jma", "_rival"), validate="one_to_one")
    noun = "the refined attack" if rival["attack"] == REFINED else "the rival"
    few = f" (on {len(pairs)} images)" if len(pairs) < images else ""
    parts = [
        f"{rival['label']}{few}: ASR {_rate(rival)} against {_rate(ours)} for {ours['label']}; "
        f"{_success(pairs, noun)}.",
        f"{_distance(pairs, noun)}; median L2 over its own successes {significant(rival['l2_median'])} against "
        f"{significant(ours['l2_median'])}.",
        f"Passes per image: {fixed(rival['passes_per_image_mean'], 0)} against "
        f"{fixed(ours['passes_per_image_mean'], 0)}{_ratio(ours, rival)}; seconds per image over the successes: "
        f"{_seconds(rival)} against {_seconds(ours)}.",
    ]
    return " ".join(parts)


def _rate(row: pd.Series) -> str:
    return proportion(row["asr"], row["asr_95_low"], row["asr_95_high"])


def _seconds(row: pd.Series) -> str:
    return significant(row["seconds_per_image_mean"], 2)


def _success(pairs: pd.DataFrame, noun: str) -> str:
    jma, rival = pairs["success_jma"].astype(bool), pairs["success_rival"].astype(bool)
    only_jma, only_rival = int((jma & ~rival).sum()), int((rival & ~jma).sum())
    if only_jma + only_rival == 0:
        return "both succeed on the same images" if bool(jma.any()) else "neither succeeds on any image"
    counts = f"{only_jma} found by JMA only, {only_rival} by {noun} only"
    return f"{counts}: {verdict(only_jma, only_rival, 'JMA succeeds more often', f'{noun} succeeds more often')}"


def _distance(pairs: pd.DataFrame, noun: str) -> str:
    both = pairs[pairs["success_jma"].astype(bool) & pairs["success_rival"].astype(bool)]
    # Images that were at the target from the start have no distance to compare.
    both = both[(both["l2_jma"] > 0) & (both["l2_rival"] > 0)]
    if both.empty:
        return "There is no image on which both succeed, so no distances to compare"
    smaller, larger = int((both["l2_jma"] < both["l2_rival"]).sum()), int((both["l2_jma"] > both["l2_rival"]).sum())
    ratio = (both["l2_rival"] / both["l2_jma"]).median()
    outcome = verdict(smaller, larger, "JMA's perturbation is smaller", f"{noun}'s perturbation is smaller")
    return (
        f"Where both succeed ({len(both)} images) {noun}'s L2 is {ratio:.2f} times JMA's in the median, "
        f"and JMA's is the smaller one on {smaller}: {outcome}"
    )


def verdict(first: int, second: int, if_first: str, if_second: str) -> str:
    """What an exact two-sided sign test says of paired images.

    Args:
        first: images on which the first of two is ahead.
        second: images on which the second is ahead.
        if_first: what to say if the first is ahead more often than chance explains.
        if_second: what to say if the second is.
    """
    if first + second == 0:
        return "no difference"
    p = float(binomtest(first, first + second).pvalue)
    shown = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
    if p >= LEVEL:
        return f"no difference that these images can show ({shown})"
    return f"{if_first if first > second else if_second} ({shown})"


def _ratio(ours: pd.Series, rival: pd.Series) -> str:
    own, other = ours["passes_per_image_mean"], rival["passes_per_image_mean"]
    if not own or not other:
        return ""
    if abs(other / own - 1) < 0.05:
        return " (about as many)"
    return f" ({other / own:.1f} times as many)" if other >= own else f" ({own / other:.1f} times fewer)"
