"""Question 4: how near do attacks come, for how many passes? Ours on three encodings, and peers' on one-hot."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import trained
from benchmarks.answer import COLOURS, MARKERS, Answer, plain_numbers
from benchmarks.problems import Case
from benchmarks.settings import Clock, Settings
from benchmarks.timing import seconds, spread
from wolfe.attacks import JMA, Attack, AttackResult, CarliniWagner, RefinedJMA
from wolfe.attacks.linear_step import Solver
from wolfe.attacks.peers import AdvLibAttack, FoolboxAttack, TorchattacksAttack
from wolfe.classifier import Classifier
from wolfe.models.folding import for_attack

_CAP = 200
ALGORITHM, LAZY, REFINED = "JMA dense", "JMA lazy", "refined"
PEERS = ("adv-lib", "foolbox", "torchattacks")
_ALPHA = "\N{GREEK SMALL LETTER ALPHA}"
Entry = tuple[str, str, Attack]


def answer(settings: Settings) -> Answer:
    """Measures every attack that the clock allows on the trained classifiers."""
    clock = Clock(settings.pick(95.0, 700.0))
    notes = [
        "Passes: forward passes, vector-Jacobian and Jacobian-vector products of an image, on average; a peer's step "
        "is a forward and a backward pass. L2 over images in [0, 1]: medians in which failures count as infinite, "
        "quartiles of the successes. Every image is judged by a fresh forward pass.",
        f"'{ALGORITHM}' and '{LAZY}' are Algorithm 1 with a fixed step, {settings.pick(40, _CAP)} iterations at most; "
        "they differ in passes alone.",
        "Ratio: an image's L2 over that of Algorithm 1 (dense) with its best step for no more passes, over the images "
        "that both took to the target.",
        "Gap: by what share of its length the linearisation at the end would have a perturbation shorter (median).",
        "FAB takes no target: it runs on the largest of the other logits against the target's. ALMA's tolerance is "
        "turned round, since towards a target the library subtracts it.",
    ]
    rows: list[dict[str, Any]] = []
    cases = [(trained.ONE_HOT, 0), (trained.CODE, 0), (trained.LABELS, 0), (trained.LABELS, 10)]
    cases = cases[: settings.pick(3, 4)]
    made = [trained.case(settings, name, flips, settings.pick(6, 16)) for name, flips in cases]
    for number, case in enumerate(made):
        share = Clock(max(0.0, clock.left()) / (len(made) - number))
        rows += _measure(settings, share, case, notes)
        clock.left_out += share.left_out
    images = pd.DataFrame(rows)
    table = against_algorithm(images, summary(images)) if rows else pd.DataFrame()
    lines = list(dict.fromkeys(notes)) + clock.left_out
    return Answer("distortion", "Distortion against passes", table, _draw, lines, (14, 9), {"images": images})


def _measure(settings: Settings, clock: Clock, case: Case, notes: list[str]) -> list[dict[str, Any]]:
    """All attacks on a case, a row an image."""
    folded = for_attack(case.classifier, case.images[:2]) if settings.device == "cpu" else case.classifier
    rows: list[dict[str, Any]] = []
    for method, setting, attack in _entries(settings, case):
        if not clock.allows(f"{method} {setting}, {case.name}", 1.0):
            continue
        results: list[AttackResult] = []
        try:
            work = partial(_attack, attack, folded, case, results)
            taken = seconds(work, settings.device)
        except ModuleNotFoundError as error:
            notes.append(f"Not run: {method} ({error}).")
            continue
        except RuntimeError as error:
            notes.append(f"Failed: {method}, {setting}, {case.name} ({' '.join(str(error).split())[:200]}).")
            continue
        rows += _image_rows(case, method, setting, results[0], taken / len(case.images))
    return rows


def _attack(attack: Attack, classifier: Classifier, case: Case, results: list[AttackResult]) -> None:
    results.append(attack(classifier, case.images, case.targets))


def _image_rows(case: Case, method: str, setting: str, result: AttackResult, each: float) -> list[dict[str, Any]]:
    distance = (result.adversarials - case.images).flatten(1).double().norm(dim=1)
    passes = result.forwards + result.vjps + result.jvps
    return [
        {
            "case": case.name, "method": method, "setting": setting, "image": image,
            "success": bool(result.success[image]), "l2": float(distance[image]), "passes": int(passes[image]),
            "seconds": each, "gap": float(result.gap[image]),
        }
        for image in range(len(distance))
    ]  # fmt: skip


def _entries(settings: Settings, case: Case) -> Iterator[Entry]:
    """Attacks in the order of their weight: method, setting, attack."""
    cap = settings.pick(40, _CAP)
    for most in settings.pick((3, 12), (2, 3, 4, 6, 9, 14, 60)):
        yield REFINED, f"{most} linearisations", RefinedJMA(max_iterations=most)
    solvers: tuple[Solver, ...] = ("dense", "lazy")
    if case.name == trained.ONE_HOT:
        yield from _peers(settings)
    for solver in solvers:
        for step in settings.pick((1.0, 0.2), (4.0, 2.0, 1.0, 0.5, 0.2, 0.1, 0.05)):
            yield f"JMA {solver}", f"step {step:g}", JMA(solver=solver, step_size=step, max_iterations=cap)
    for runs, steps in settings.pick(((3, 20),), ((3, 30), (5, 60), (6, 150))):
        common: dict[str, Any] = {"search_steps": runs, "max_iterations": steps, "learning_rate": 0.05}
        yield (
            "C&W of wolfe",
            f"{runs} x {steps}",
            CarliniWagner(initial_constant=1.0, abort_early=False, start_scale=0.99, **common),
        )


def _peers(settings: Settings) -> Iterator[Entry]:
    """Peers' attacks.

    Learning rates and constants of C&W as for ours; ALMA's and foolbox's FMN's steps are those that served best among
    a few; all else is as their authors set it.
    """
    for steps in settings.pick((30, 100), (30, 50, 100, 200, 600)):
        yield "DDN of adv-lib", f"{steps} steps", AdvLibAttack(attack="ddn", options={"steps": steps, "levels": None})
        yield "FMN of adv-lib", f"{steps} steps", AdvLibAttack(attack="fmn", options={"steps": steps})
        yield "DDN of foolbox", f"{steps} steps", FoolboxAttack(attack="DDNAttack", options={"steps": steps})
        yield (
            "FMN of foolbox",
            f"{steps} steps",
            FoolboxAttack(attack="L2FMNAttack", options={"steps": steps, "max_stepsize": 0.3}),
        )
    for steps in settings.pick((100,), (100, 300, 600)):
        options: dict[str, Any] = {"num_steps": steps, "init_lr_distance": 0.1, "logit_tolerance": -1e-4, _ALPHA: 0.5}
        yield "ALMA of adv-lib", f"{steps} steps", AdvLibAttack(attack="alma", options=options)
        yield (
            "C&W of torchattacks",
            f"{steps} steps",
            TorchattacksAttack(attack="CW", options={"steps": steps, "lr": 0.05}),
        )
    for steps in settings.pick((30,), (30, 100, 200)):
        yield "FAB of adv-lib", f"{steps} steps", AdvLibAttack(attack="fab", options={"n_iter": steps})
        yield "FAB of torchattacks", f"{steps} steps", TorchattacksAttack(attack="FAB", options={"steps": steps})
    for runs, steps in settings.pick(((3, 20),), ((5, 60), (6, 150))):
        options = {"binary_search_steps": runs, "initial_const": 1.0, "abort_early": False}
        mine = {**options, "max_iterations": steps, "learning_rate": 0.05}
        theirs = {**options, "steps": steps, "stepsize": 0.05}
        yield "C&W of adv-lib", f"{runs} x {steps}", AdvLibAttack(attack="carlini_wagner_l2", options=mine)
        yield "C&W of foolbox", f"{runs} x {steps}", FoolboxAttack(attack="L2CarliniWagnerAttack", options=theirs)


def summary(images: pd.DataFrame) -> pd.DataFrame:
    """A row a case, method and setting: mean passes, median L2 (failures infinite), success, seconds an image."""
    rows = []
    for (case, method, setting), part in images.groupby(["case", "method", "setting"], sort=False):
        reached = part[part["success"]]
        near = spread(reached["l2"].tolist())
        everyone = spread(part["l2"].where(part["success"], math.inf).tolist())
        rows.append(
            {
                "case": case, "method": method, "setting": setting, "images": len(part),
                "passes": float(part["passes"].mean()), "success": len(reached) / len(part), "l2": everyone.median,
                "l2_low": near.low, "l2_high": near.high, "seconds": float(part["seconds"].mean()),
                "gap": spread(part["gap"].dropna().tolist()).median,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def best_within(table: pd.DataFrame, passes: float) -> pd.Series | None:
    """The row of least median L2 among those with no more passes; None where there is none."""
    affordable = table[(table["passes"] <= passes) & table["l2"].map(math.isfinite)]
    return None if affordable.empty else affordable.sort_values("l2", kind="stable").iloc[0]


def against_algorithm(images: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Adds per-image ratios to Algorithm 1 with its best step for no more passes: median and quartiles."""
    found = []
    for row in table.to_dict("records"):
        rival = best_within(table[(table["case"] == row["case"]) & (table["method"] == ALGORITHM)], row["passes"])
        values: list[float] = []
        if rival is not None:
            own, other = (
                _reached(images, row["case"], method, setting)
                for method, setting in ((row["method"], row["setting"]), (rival["method"], rival["setting"]))
            )
            values = (own / other).dropna().tolist()
        ratio = spread(values)
        found.append({"ratio": ratio.median, "ratio_low": ratio.low, "ratio_high": ratio.high})
    return pd.concat([table, pd.DataFrame(found, index=table.index)], axis=1)


def _reached(images: pd.DataFrame, case: str, method: str, setting: str) -> pd.Series:
    """L2 by image, of those at their target."""
    own = (images["case"] == case) & (images["method"] == method) & (images["setting"] == setting) & images["success"]
    return images[own].set_index("image")["l2"]


def _draw(figure: Figure, table: pd.DataFrame) -> None:
    """Median L2 against passes, a panel a case; the success rate stands beside a point where it is below 1."""
    cases = list(dict.fromkeys(table["case"])) if len(table) else []
    methods = list(dict.fromkeys(table["method"])) if len(table) else []
    panels = figure.subplots(2, max(1, math.ceil(len(cases) / 2)), squeeze=False).flatten()
    for axes, case in zip(panels, cases, strict=False):
        for number, method in enumerate(methods):
            part = table[(table["case"] == case) & (table["method"] == method)]
            if len(part):
                _curve(axes, part, method, number)
        axes.set(title=case, xlabel="passes an image", ylabel="median L2")
        if any(len(line.get_xdata()) for line in axes.lines):
            axes.set(xscale="log", yscale="log")
            plain_numbers(axes.xaxis, axes.yaxis)
        axes.grid(alpha=0.2, which="both")
        axes.legend(fontsize=6, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    for axes in panels[len(cases) :]:
        axes.set_axis_off()


def _curve(axes: Axes, part: pd.DataFrame, method: str, number: int) -> None:
    shown = part[part["l2"].map(math.isfinite)]
    mine = method == REFINED or method.startswith("JMA")
    axes.plot(
        shown["passes"],
        shown["l2"],
        color=COLOURS[number % len(COLOURS)],
        marker=MARKERS[(number + number // len(COLOURS)) % len(MARKERS)],
        linestyle="-" if mine else ":",
        markersize=4,
        label=method if len(shown) else f"{method} (median not at target)",
    )
    for row in shown[shown["success"] < 1].itertuples():
        axes.annotate(f"{row.success:.2f}", (row.passes, row.l2), fontsize=5, xytext=(2, 2), textcoords="offset points")
