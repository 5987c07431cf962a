"""How numbers, attacks, budgets and rows are put into words."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from wolfe.names import attack_name
from wolfe.report.records import STATUSES

MISSING = "—"
"""Stands where a number does not exist, as a mean over no successes."""
NOT_COMPARABLE = "budget cut, not comparable"
TARGET_RULES = {
    "other_class": "another class, drawn at random",
    "training_labels": "a label vector drawn from the training set",
    "flip_bits": "the {present} labels with {bits} flipped at random",
    "all_off": "all labels off",
}
_READING = (
    "ASR (success rate, with Wilson's 95 % interval) and passes (forward, vjp and jvp, per image) are over all images; "
    "MSE (mean square), SSIM, iterations n_it, time and L2 (median, in brackets the 90th percentile) are over the "
    f"successes, {MISSING} where there are none; ASR 8-bit is what is left after rounding to 8 bits."
)
_READING_LABELS = "bASR is the share of labels equal to the target's, over all labels and images."
_READING_HIERARCHY = "Consistent is the share of all images whose labels after the attack obey the hierarchy of labels."


def target_rule(spec: Mapping[str, Any]) -> str:
    """A table's target rule in words; an unknown one under its own name.

    Args:
        spec: the resolved table: the name of its rule in `targets`, the rule itself in `rule` where it is known.
    """
    rule = spec.get("rule", {})
    words = TARGET_RULES.get(rule.get("rule", spec["targets"]), spec["targets"].replace("_", " "))
    return words.format(
        bits=rule.get("bits", "some"), present="true" if rule.get("only_correct", True) else "predicted"
    )


def encoding_name(encoding: str) -> str:
    """An output encoding as papers call it."""
    return {"one_hot": "one-hot", "codebook": "ECOC", "multi_label": "multi-label"}.get(encoding, encoding)


def table_name(name: str, kind: str = "Table") -> str:
    """'Table 10a' for a table (or figure) that ends in its number, as jma_10a; others under their own name.

    Those of the papers on losses and on the softmax have the paper's subject before that: 'Losses, Table 1'.
    """
    found = re.fullmatch(r"([a-z_]+)_0*(\d+)([a-z]?)", name)
    if not found:
        return name
    paper = f"{found[1].capitalize()}, " if found[1] in ("losses", "softmax") else ""
    return f"{paper}{kind} {found[2]}{found[3]}"


def scientific(value: float) -> str:
    """1.1e-4 as the papers print it: two digits, no padding of the exponent."""
    if pd.isna(value):
        return MISSING
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}" if value else "0"


def fixed(value: float, digits: int = 2) -> str:
    """A number with a fixed count of decimals, thousands separated."""
    return MISSING if pd.isna(value) else f"{value:,.{digits}f}"


def significant(value: float, digits: int = 3) -> str:
    """A number with so many significant digits, never in scientific notation."""
    if pd.isna(value):
        return MISSING
    whole = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    if whole == 0 and value:
        leading_zeros = -int(f"{value:e}".split("e")[1]) - 1
        return f"{value:.{digits + leading_zeros}f}"
    return f"{value:,.{max(digits - whole, 0)}f}"


def duration(seconds: float) -> str:
    """Seconds as a person would say them: 3.2 s, 4 min 10 s, 1 h 5 min; a whole number of the larger unit stays so."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    large, small, unit = (60, 1, ("min", "s")) if seconds < 3600 else (3600, 60, ("h", "min"))
    rest = int(seconds % large // small)
    return f"{int(seconds // large)} {unit[0]}" + (f" {rest} {unit[1]}" if rest else "")


def listed(items: list[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def proportion(value: float, low: float, high: float) -> str:
    """A proportion with its interval: 0.97 [0.84, 0.99]; `MISSING` where there is none."""
    return MISSING if pd.isna(value) else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def length(value: float) -> str:
    """A length that may be anything above 0: three significant digits, small ones in scientific notation."""
    return significant(value) if value >= 1e-3 else scientific(value)


def share(value: float) -> str:
    """A share of something: 1/60 where it is close to such a fraction, else percent."""
    denominator = round(1 / value)
    if abs(value * denominator - 1) < 0.01:
        return f"1/{denominator}"
    return f"{100 * value:.3g} %"


def budget(budgets: list[Mapping[str, Any]]) -> str:
    """The budget rules of a table in words; empty when nothing is cut."""
    return " ".join(_budget(rule) for rule in budgets)


def _short_way(table: pd.DataFrame) -> str:
    """What a cut budget means to an attack with steps of a fixed length."""
    if not (table["budget_cut"] & (table["attack"] == "jma")).any():
        return ""
    return (
        "JMA moves an image by its step size in each iteration, so a cut row that ends without success may have had no "
        "chance: its way is at most step size times iterations."
    )


def _budget(rule: Mapping[str, Any]) -> str:
    names = listed([attack_name(attack) for attack in rule["attacks"]])
    parts = []
    scale = rule.get("iteration_scale")
    if scale is not None and scale != 1:
        minimum = rule.get("minimum_iterations")
        never_under = f" (but to no fewer than {minimum})" if minimum else ""
        parts.append(f"the published iterations are cut to {share(scale)} of their number{never_under}")
    if rule.get("maximum_search_steps") is not None:
        parts.append(f"at most {rule['maximum_search_steps']} search steps are made")
    if rule.get("maximum_iterations") is not None:
        parts.append(f"at most {rule['maximum_iterations']:,} iterations are made in all")
    if rule.get("images") is not None:
        parts.append(f"only the first {rule['images']} images are attacked")
    return f"Budget of {names}: {listed(parts)}." if parts else ""


def remark(row: Mapping[str, Any], marked: bool = False) -> str:
    """What a reader must know about a row: whether it is cut and how, whether it is ours, what was not found.

    Args:
        row: one line of the table's CSV.
        marked: whether a cut budget and rows of our own are already marked where this text will stand.
    """
    parts = []
    parameters, asked = json.loads(row["parameters"]), json.loads(row["parameters_asked"])
    if row["budget_cut"]:
        changes = [
            f"{key} {asked[key]} → {value}" if key in asked else f"{key} {value}"
            for key, value in parameters.items()
            if asked.get(key) != value
        ]
        if not marked:
            parts.append(f"{NOT_COMPARABLE} ({', '.join(changes)})" if changes else NOT_COMPARABLE)
        elif changes:
            parts.append(", ".join(changes))
    elif row["origin"] == "ours":
        values = ", ".join(f"{key} {value}" for key, value in parameters.items())
        parts.append(values if marked else f"ours: {values}")
    if row["same_run_as"]:
        parts.append(f"same run as {row['same_run_as']}")
    if endings := unfound(row):
        parts.append(f"not found: {endings}")
    return "; ".join(parts)


def unfound(row: Mapping[str, Any]) -> str:
    """How the attacks of a row ended that found nothing: '3 exhausted, 1 timed out'; empty if all found."""
    others = [status for status in STATUSES if status != "found" and row[f"status_{status}"]]
    return ", ".join(f"{int(row[f'status_{status}'])} {status.replace('_', ' ')}" for status in others)


def caption(spec: Mapping[str, Any], table: pd.DataFrame) -> str:
    """A table's caption: what it is about, how it was made and how to read it.

    Args:
        spec: the resolved table.
        table: its full table (the CSV).
    """
    first = table.iloc[0]
    which = "correctly classified test images" if spec.get("rule", {}).get("only_correct") else "images"
    bits = ""
    if first["multi_label"]:
        bits = f" (on average {first['bits_asked_mean']:.1f} of {first['bits_total']} labels to change)"
    sentences = [
        sentence(str(spec["title"])),
        f"Data set {spec['dataset']}, model {spec['model']}.",
        stands_in(str(spec.get("stands_in") or "")),
        f"{_how_many(table)} {which}, the same with the same targets in every row{_fewer(table)}; target: "
        f"{target_rule(spec)}{bits}.",
        _READING,
        _READING_LABELS if first["multi_label"] else "",
        _READING_HIERARCHY if table["consistent"].notna().any() else "",
        budget(spec.get("budgets", [])),
        _short_way(table),
        _time_limit(spec.get("time_limit")),
        f"Rows marked '{NOT_COMPARABLE}' ran with less than the published budget." if table["budget_cut"].any() else "",
        "Published are the paper's numbers, for its own data and network." if _any_published(table) else "",
        f"Times are wall time per image in a batch of up to {table['batch_size'].max()} on {_device(table)}: they are"
        " not comparable with the published ones, taken one image at a time on another machine.",
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _how_many(table: pd.DataFrame) -> int:
    return int(table["images"].max())


def _fewer(table: pd.DataFrame) -> str:
    """That some rows have only the first of the images, if there are any such rows."""
    if not (table["images"] < _how_many(table)).any():
        return ""
    return ", of which some rows have only the first (column images)"


def sentence(text: str) -> str:
    """The text with one full stop at its end."""
    return f"{text.rstrip('.')}."


def stands_in(text: str) -> str:
    """What stands in for what, as a sentence; empty where nothing does."""
    if not text:
        return ""
    whole = f"{text[0].upper()}{text[1:]}" if " stand" in text else f"They stand in for {text}"
    return sentence(whole)


def _time_limit(seconds: float | None) -> str:
    return f"An image on which an attack has worked for {duration(seconds)} is given up." if seconds else ""


def _any_published(table: pd.DataFrame) -> bool:
    return "published_attack" in table and bool((table["published_attack"] != "").any())


def _device(table: pd.DataFrame) -> str:
    names = sorted(set(table["device"]) - {""})
    threads = sorted({int(count) for count in table["threads"].dropna()})
    if any("thread" in name for name in names) or not threads:
        return listed(names) if names else "an unknown device"
    return f"{listed(names)} ({listed([str(count) for count in threads])} threads)"
