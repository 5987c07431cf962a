"""The arithmetic of the benchmark on numbers made up for it, and its parts on small problems."""

import importlib.util
import math
import re
import time

import numpy as np
import pandas as pd
import pytest
import torch
from benchmarks import answer, distortion, goals, growth, overhead, reference, solver, speed
from benchmarks.__main__ import main
from benchmarks.machine import facts
from benchmarks.settings import Clock, Settings
from benchmarks.timing import interleaved, ratios, spread

from tests.conftest import Affine
from wolfe import Classifier, MultiLabel, OneHot
from wolfe.attacks import JMA
from wolfe.classifier import ready_for_attack
from wolfe.linear import least_norm
from wolfe.study.document import ROOT

needs_clarabel = pytest.mark.skipif(
    importlib.util.find_spec("clarabel") is None, reason="clarabel is not installed: `make benchmark` installs it"
)


def test_spread_is_the_median_and_the_quartiles():
    assert vars(spread([5, 1, 3, 2, 4])) == {"median": 3, "low": 2, "high": 4}
    assert vars(spread([1, 2])) == {"median": 1.5, "low": 1.25, "high": 1.75}
    assert vars(spread([1, math.inf, math.inf])) == {"median": math.inf, "low": math.inf, "high": math.inf}
    assert math.isnan(spread([]).median)


def test_ratios_are_taken_round_by_round():
    # A busy machine: the second round is ten times slower for both, and every round says 4.
    assert vars(ratios([4, 40, 8], [1, 10, 2])) == {"median": 4, "low": 4, "high": 4}
    with pytest.raises(ValueError, match="shorter"):
        ratios([1, 2], [1])


def test_contestants_take_turns():
    order = []
    contestants = {name: (lambda name=name: order.append(name) or len(order)) for name in "abc"}
    measured = interleaved(contestants, 2, warm=["c"])
    assert "".join(order) == "c" + "abc" + "bca"
    assert measured == {"a": [2, 7], "b": [3, 5], "c": [4, 6]}


def test_the_clock_notes_what_it_leaves_out():
    clock = Clock(100.0)
    assert clock.allows("the small one", 5.0)
    assert not clock.allows("the large one", 1e6)
    assert not clock.allows("the next one", math.inf)
    assert re.fullmatch(r"Not run: the large one \(about 1000000 s expected, (100|99) s left\).", clock.left_out[0])
    assert clock.left_out[1] == "Not run: the next one (a smaller size was too much)."


def test_an_answer_comes_back_from_its_files(tmp_path):
    table = pd.DataFrame({"name": ["a", "b"], "value": [1234.5, math.nan], "count": [1, 2]})
    drawn = []
    content = answer.Answer("made", "A title", table, lambda figure, given: drawn.append(given), ["A note."])
    content.more["parts"] = table
    origin = facts(Settings(command="python -m benchmarks made"), "0.1 0.2 0.3 on 2 cores")
    answer.write(content, origin, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made.csv", "made.md", "made.png", "made_parts.csv"]
    pd.testing.assert_frame_equal(answer.read(tmp_path / "made.csv"), table)
    known = answer.read_facts(tmp_path / "made.csv")
    for name in ("command", "device", "threads", "versions", "load before", "load after"):
        assert known[name] == origin[name]
        assert f"- {name}: {origin[name]}" in (tmp_path / "made.md").read_text()
    assert "| a | 1234 | 1 |\n| b |  | 2 |" in (tmp_path / "made.md").read_text()
    assert drawn[0] is table
    assert answer.read(tmp_path / "none.csv").empty
    assert answer.read_facts(tmp_path / "none.csv") == {}


def test_solves_leave_the_bisections_out():
    classifier = Classifier(Affine(torch.eye(4), torch.zeros(4)), OneHot(4))
    images = torch.tensor([[0.9, 0.1, 0.1, 0.1], [0.6, 0.5, 0.1, 0.1]]).view(2, 1, 2, 2)
    # The linear network gives in to the first full step: one solve each.
    result = JMA(search_steps=6)(classifier, images, torch.tensor([1, 1]))
    assert result.iterations.tolist() == [6, 6]
    assert speed.solves(result, 6) == 2
    result = JMA(step_size=0.01, max_iterations=3, clip=True)(classifier, images * 0 + 0.5, torch.tensor([1, 1]))
    assert speed.solves(result, 6) == int(result.vjps.sum()) // 4


@pytest.mark.parametrize("kind", ["labels", "labels, half rank", "classes"])
def test_solvers_agree_on_random_problems(kind):
    problem = solver.make(kind, 12, 3, seed=1)
    found = least_norm(problem.jacobian, problem.logits, problem.region)
    assert not found.infeasible.any()
    ours = [solver.check(*one) for one in zip(problem.systems, solver._together(problem), strict=True)]
    other = [solver.check(*one) for one in zip(problem.systems, solver._scipy(problem), strict=True)]
    assert max(residual for residual, _ in ours + other) < 1e-9
    norms = [norm for _, norm in ours]
    assert norms == pytest.approx([norm for _, norm in other], rel=1e-9)
    # Each problem asks for something.
    assert min(norms) > 0
    again = solver.make(kind, 12, 3, seed=1)
    assert torch.equal(again.jacobian, problem.jacobian)


def test_the_check_of_a_solution_by_hand():
    # min ||d||, d1 <= -3, 2 d2 <= 2: d = (-3, 0), w = (3, 0).
    system = (np.diag([1.0, 2.0]), np.array([3.0, -2.0]))
    assert solver.check(system, np.array([3.0, 0.0])) == (0.0, 3.0)
    # A third of the way short of the plane; and a needless move of 1/2 along the second row, with slack left there.
    assert solver.check(system, np.array([2.0, 0.0]))[0] == pytest.approx(1 / 3)
    assert solver.check(system, np.array([3.0, 0.25]))[0] == pytest.approx(0.5 / 3)


def test_model_time_counts_the_outermost_pass_once():
    classifier = Classifier(Affine(torch.eye(4), torch.zeros(4)), MultiLabel(4))
    plain = Classifier.forward
    with overhead.model_time("cpu") as watch:
        classifier.linearise(torch.zeros(2, 1, 2, 2))
        first = watch.seconds
        time.sleep(0.01)
    assert watch.seconds == first > 0
    assert Classifier.forward is plain


def test_the_floor_is_passes_times_their_time():
    classifier = Classifier(Affine(torch.eye(4), torch.zeros(4)), OneHot(4))
    result = JMA()(classifier, torch.full((3, 1, 2, 2), 0.5), torch.tensor([1, 2, 3]))
    expected = 2.0 * int(result.forwards.sum()) + 5.0 * int(result.vjps.sum()) + 7.0 * int(result.jvps.sum())
    assert overhead.floor(result, (2.0, 5.0, 7.0)) == expected


def test_peak_memory_sees_what_is_freed_again():
    peak = growth.PeakMemory("cpu")
    with peak.watch():
        block = np.ones(8 * 2**20)
        time.sleep(0.1)
        del block
    if not math.isnan(peak.bytes):
        assert 60 * 2**20 < peak.bytes < 200 * 2**20


def images_of(method, setting, passes, distances, case="one"):
    """Rows as `distortion` makes them; a distance of None is a failure."""
    return [
        {
            "case": case, "method": method, "setting": setting, "image": image, "success": l2 is not None,
            "l2": 9.0 if l2 is None else l2, "passes": passes, "seconds": 0.5, "gap": 0.01,
        }
        for image, l2 in enumerate(distances)
    ]  # fmt: skip


@pytest.fixture
def measured():
    """Two cases on which refined runs are nearer, for less, than Algorithm 1; peers on the first."""
    rows = [
        *images_of("JMA dense", "step 1", 40, [2.0, 2.0, 4.0]),
        *images_of("JMA dense", "step 0.1", 400, [1.0, 1.0, None]),
        *images_of("refined", "20 passes", 20, [1.0, 1.5, None]),
        *images_of("refined", "40 passes", 40, [1.0, 1.0, 3.0]),
        *images_of("refined", "60 passes", 60, [0.9, 0.9, 0.9]),
        *images_of("DDN of adv-lib", "100 steps", 200, [0.9, 0.9, 1.2]),
        *images_of("CW of foolbox", "1 step", 2, [None, None, 1.2]),
        *images_of("JMA dense", "step 1", 100, [2.0, 2.0, 2.0], "two"),
        *images_of("refined", "60 passes", 120, [1.8, 1.8, 1.8], "two"),
    ]
    images = pd.DataFrame(rows)
    return images, distortion.summary(images)


def test_failures_count_as_infinite(measured):
    _, table = measured
    rows = {(row["case"], row["method"], row["setting"]): row for row in table.to_dict("records")}
    assert rows["one", "JMA dense", "step 1"]["l2"] == 2.0
    found = rows["one", "refined", "20 passes"]
    assert (found["passes"], found["success"], found["l2"]) == (20, pytest.approx(2 / 3), 1.5)
    assert (found["l2_low"], found["l2_high"]) == (1.125, 1.375)  # of the successes
    assert rows["one", "CW of foolbox", "1 step"]["l2"] == math.inf


def test_ratios_to_algorithm_one_at_no_more_passes(measured):
    images, table = measured
    assert distortion.best_within(table[table["method"] == "JMA dense"], 39) is None
    full = distortion.against_algorithm(images, table)
    rows = {(row["case"], row["method"], row["setting"]): row for row in full.to_dict("records")}
    assert math.isnan(rows["one", "refined", "20 passes"]["ratio"])
    # Image by image against step 1: 1/2, 1/2, 3/4.
    found = rows["one", "refined", "40 passes"]
    assert (found["ratio"], found["ratio_low"], found["ratio_high"]) == (0.5, 0.5, 0.625)
    assert rows["one", "JMA dense", "step 0.1"]["ratio"] == 1.0


def test_goals_of_distortion(measured):
    tables = {"distortion": measured[1]}
    equal = goals.equal_passes(distortion.ALGORITHM)(tables)
    # One: 1/2 and 0.9/2 at 40 and 60 passes, median 0.475; two: 0.9, which decides.
    assert "one: 0.475 (0.463 to 0.487 over budgets)" in equal.measured
    assert equal.worst == pytest.approx(0.9 / 0.75)
    assert equal.whole
    # Algorithm 1 with lazy rows, made nearer here, has a goal of its own.
    lazy = tables["distortion"].query("method == 'JMA dense'").assign(method="JMA lazy")
    lazy["l2"] *= 0.5
    both = {"distortion": pd.concat([tables["distortion"], lazy])}
    assert "one: 0.95 (" in goals.equal_passes(distortion.LAZY)(both).measured
    assert goals.equal_passes(distortion.ALGORITHM)(both) == equal
    assert goals.equal_passes(distortion.LAZY)(tables) is None
    best = goals.passes_to_best(distortion.ALGORITHM)(tables)
    # One: median 1.0 at 40 of 400 passes; two: 120 of 100.
    assert best.worst == pytest.approx(12)
    assert "one: 0.1 of 400 passes (L2 1)" in best.measured
    # Where Algorithm 1 never gets there nothing can be said, and the verdict says so.
    failed = tables["distortion"].assign(l2=lambda t: t["l2"].where(t["case"] != "two", math.inf))
    part = goals.passes_to_best(distortion.ALGORITHM)({"distortion": failed})
    assert (part.worst, part.whole) == (pytest.approx(1), False)
    assert "two: nothing to compare" in part.measured
    peers = goals.passes_to_peers(tables)
    assert "0.3 of the 200 passes of DDN of adv-lib, both within 2 % of L2 0.9; without FMN, " in peers.measured
    assert not peers.whole
    assert (peers.worst, peers.aim) == (pytest.approx(0.3 / 0.25), pytest.approx(3))


def speed_rows(**ratio):  # noqa: ANN003
    """Rows of the speed table, a ratio a method."""
    kinds = {
        "dense": (speed.ATTACK, "multi-label 20, flip 2, ResNet18", speed.ITERATION, "JMA dense"),
        "cold": (speed.SOLVE, "one-hot 1000, ResNet18", "seconds an image", "lazy, cold"),
        "warm": (speed.SOLVE, "one-hot 1000, ResNet18", "seconds an image", "lazy, warm"),
        "rival": (speed.RIVAL, "one-hot 10", speed.ITERATION, "C&W of wolfe"),
        "large": (speed.ATTACK, "multi-label 20, flip 5, ResNet50 224x224", "seconds an image, ...", "JMA lazy"),
    }
    return pd.DataFrame(
        {
            "kind": kinds[name][0], "case": kinds[name][1], "measure": kinds[name][2], "method": kinds[name][3],
            "images": 32, "ratio": value, "ratio_low": value, "ratio_high": value, "against": "C&W of adv-lib",
        }
        for name, value in ratio.items()
    )  # fmt: skip


def test_goals_of_speed():
    table = speed_rows(dense=9.0, cold=150.0, warm=190.0, rival=1.25, large=60.0).assign(device="cpu: some processor")
    tables = {"speed": table, "overhead": pd.DataFrame()}
    assert goals.dense_speed(tables).worst == pytest.approx(8 / 9)
    assert goals.dense_speed(tables).aim == pytest.approx(12 / 9)
    assert goals.lazy_speed(tables).worst == pytest.approx(200 / 190)
    rival = goals.rivals(tables)
    assert (rival.worst, rival.aim) == (pytest.approx(0.8), pytest.approx(1))
    assert goals.on_h200(tables) is None
    assert goals.dense_speed({"speed": table.assign(device="cuda: NVIDIA H200")}) is None
    assert goals.on_h200({"speed": table.assign(device="cuda: NVIDIA H200")}).worst == pytest.approx(50 / 60)


def test_the_goals_table(tmp_path):
    made = {
        "speed": speed_rows(dense=9.0, cold=90.0, warm=400.0, rival=1.3),
        "overhead": pd.DataFrame({"attack": ["JMA"], "case": ["x"], "outside": [0.019], "over_floor": [1.31]}),
    }
    for name, table in made.items():
        content = answer.Answer(name, name, table, lambda figure, given: None)
        answer.write(content, facts(Settings(), "0.1"), tmp_path)
    lines = goals.write_goals(tmp_path).read_text().splitlines()
    verdicts = {line.split(" | ")[0][2:12]: line.split(" | ")[-1][:-2] for line in lines if line.startswith("| ")}
    assert verdicts == {
        "goal": "verdict", "---": "---", "JMA dense,": "reached", "JMA lazy, ": "missed",
        "time outsi": "reached, and the aim", "wall time ": "missed", "distortion": "not measured",
        "the same a": "not measured",
            "passes to ": "not measured", "one-hot: p": "not measured", "every riva": "reached, and the aim",
        "H200, JMA ": "not measured",
    }  # fmt: skip
    assert any(line.startswith("- overhead: cpu: ") for line in lines)


@needs_clarabel
def test_the_reference_solves_what_we_solve():
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(6, 16, dtype=torch.float64, generator=generator)
    classifier = Classifier(Affine(weight, torch.zeros(6, dtype=torch.float64)), MultiLabel(6)).double()
    image = (0.5 + 0.1 * torch.randn(1, 1, 4, 4, dtype=torch.float64, generator=generator)).clamp(0.3, 0.7)
    target = classifier.decide(image)
    target[0, :2] = 1 - target[0, :2]
    with ready_for_attack(classifier):
        step, rank = reference.dense_step(classifier, image, target)
        result = reference.attack(classifier, image, target, step_size=0.5, max_iterations=20)
    expected = JMA().linear_step(classifier, image, target).perturbation
    assert rank == 6
    assert torch.allclose(step, expected, atol=1e-6)
    assert result.success
    assert result.solves >= 1
    assert float((result.image - image[0]).norm()) <= float(expected.norm()) + 0.5


def test_both_locks_name_the_same_versions():
    versions = []
    for name in ("requirements.lock", "requirements-benchmark.lock"):
        pins = re.findall(r"^([a-z0-9.-]+)==([^ ;]+)", (ROOT / name).read_text(), flags=re.MULTILINE)
        versions.append({package: {pin for other, pin in pins if other == package} for package, _ in pins})
    both = versions[0].keys() & versions[1].keys()
    assert {"torch", "torchvision", "numpy", "requests"} <= both
    assert {package: versions[1][package] for package in both} == {package: versions[0][package] for package in both}
    assert {"adv-lib", "foolbox", "torchattacks", "clarabel"} <= versions[1].keys()


def test_an_unknown_question_is_refused(capsys):
    with pytest.raises(SystemExit) as refused:
        main(["velocity"])
    assert refused.value.code == 2
    assert "unknown question 'velocity'; there are speed, solver" in capsys.readouterr().err
