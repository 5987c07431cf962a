"""Experiments of a study: what is measured on trained classifiers and finished attack runs beside the tables' rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from wolfe.study.document import limits_of
from wolfe.study.errors import StudyError, allowed, check_name
from wolfe.study.rows import label_of
from wolfe.study.sources import is_multi_label

SHOWN = {
    "circles": "circles",
    "detection_single": "detection",
    "detection_pooled": "detection",
    "detection_matrix": "detection",
    "detection_roc": "detection",
    "softmax_predictors": "softmax",
    "softmax_examples": "softmax",
    "softmax_curves": "softmax",
}
"""The kind of experiment that a kind of table or figure shows."""
CHARTS = ("losses", "circles", "detection_roc", "softmax_examples", "softmax_curves")
"""Kinds of figures that are drawn from an experiment or from what attacks went through step by step."""
TEST_SHARE, VALIDATION_SHARE, FEWEST = 0.5, 0.1, 4
"""A detection's usual shares of the test and the validation part, and the images that each part must hold."""
_WEIGHTS = ("weights", "pretrained", "weights_file", "weights_root")
STEPPED = ("gradient", "ifgs", "lbfgs")
"""Attacks that go by the gradient of a loss: what they go through can be written down step by step."""


def check_experiments(document: Mapping[str, Any], attack_tables: Mapping[str, Any]) -> None:
    """Checks what the experiments say of models and tables.

    Args:
        document: a study whose models and tables of attacks are right.
        attack_tables: its tables of attacks.

    Raises:
        StudyError: the first problem found.
    """
    for name, entry in document.get("experiments", {}).items():
        place = f"experiments.{name}"
        if entry["kind"] == "softmax":
            _check_softmax(place, entry, document)
        elif entry["kind"] == "detection":
            _check_detection(place, entry, document, attack_tables)


def _check_softmax(place: str, entry: Mapping[str, Any], document: Mapping[str, Any]) -> None:
    models, both = document["models"], {"multiplier": 0.1, "smaller_multiplier": 0.05, **entry.get("multi_class", {})}
    if both["smaller_multiplier"] > both["multiplier"]:
        raise StudyError(
            f"{place}.multi_class.smaller_multiplier: must be at most the multiplier {both['multiplier']}, not "
            f"{both['smaller_multiplier']}"
        )
    for index, model in enumerate(entry["models"]):
        here = f"{place}.models[{index}]"
        check_name(here, "model", model, models)
        own, first = models[model]["dataset"], models[entry["models"][0]]["dataset"]
        if own != first:
            raise StudyError(f"{here}: {model} has the labels of {own}, {entry['models'][0]} those of {first}")
        if models[model]["encoding"]["kind"] != "one_hot":
            raise StudyError(f"{here}: the softmax is that of a one_hot model, {model} is a {_kind(models[model])} one")


def _kind(model: Mapping[str, Any]) -> str:
    return str(model["encoding"]["kind"])


def _check_detection(
    place: str, entry: Mapping[str, Any], document: Mapping[str, Any], attack_tables: Mapping[str, Any]
) -> None:
    check_name(f"{place}.learn", "table of attacks", entry["learn"], attack_tables)
    model = attack_tables[entry["learn"]]["model"]
    fitting = {name: table for name, table in attack_tables.items() if table["model"] == model}
    for index, table in enumerate(entry.get("tested", [])):
        check_name(f"{place}.tested[{index}]", f"table of attacks on {model}", table, fitting)
    if is_multi_label(document["datasets"][document["models"][model]["dataset"]]):
        raise StudyError(f"{place}.learn: splits are stratified by class, {model} has label vectors")
    names = [detector["name"] for detector in entry["detectors"]]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise StudyError(f"{place}.detectors[{index}].name: {name!r} is there twice: name each differently")
    for index, name in enumerate(entry.get("single", [])):
        check_name(f"{place}.single[{index}]", "detector", name, names)
    for index, detector in enumerate(entry["detectors"]):
        if "start" in detector:
            check_name(f"{place}.detectors[{index}].start", "model", detector["start"], document["models"])
            _check_start(f"{place}.detectors[{index}]", detector, document["models"][detector["start"]])
    _check_parts(place, entry, document, attack_tables)


def _check_start(place: str, detector: Mapping[str, Any], model: Mapping[str, Any]) -> None:
    """Checks that a detector's network is that of the model whose layers it begins with."""
    own, other = (
        {key: value for key, value in one["network"].items() if key not in _WEIGHTS} for one in (detector, model)
    )
    if own != other:
        raise StudyError(f"{place}.start: {detector['start']} has another network than the detector {detector['name']}")


def _check_parts(
    place: str, entry: Mapping[str, Any], document: Mapping[str, Any], attack_tables: Mapping[str, Any]
) -> None:
    """Checks that there are enough images to learn, to choose by and to test on."""
    test, validation = entry.get("test_share", TEST_SHARE), entry.get("validation_share", VALIDATION_SHARE)
    if test + validation >= 1:
        raise StudyError(f"{place}: test_share and validation_share leave no images to train with: lower one of them")

    def images(name: str) -> int:
        return int(attack_tables[name].get("images", limits_of(document)["images"]))

    known = images(entry["learn"])
    parts = {"test": round(test * known), "validation": round(validation * known)}
    parts["train"] = known - sum(parts.values())
    for part, size in parts.items():
        if size < FEWEST:
            raise StudyError(
                f"{place}.learn: the {known} images of {entry['learn']} leave {size} for the {part} part of a "
                f"detector, which needs {FEWEST}: attack more images there, or change the shares"
            )
    for index, name in enumerate(entry.get("tested", [])):
        if images(name) > parts["test"]:
            raise StudyError(
                f"{place}.tested[{index}]: {name} attacks {images(name)} images, which no detector may have learnt "
                f"from, and the test part holds {parts['test']}: attack fewer there, or raise test_share"
            )


def check_shown(place: str, entry: Mapping[str, Any], document: Mapping[str, Any]) -> None:
    """Checks that the experiment is there, and of the right kind, that a table or figure shows."""
    wanted = SHOWN[entry["kind"]]
    fitting = {name: one for name, one in document.get("experiments", {}).items() if one["kind"] == wanted}
    check_name(f"{place}.experiment", f"experiment of the kind {wanted}", entry["experiment"], fitting)
    for index, pair in enumerate(entry.get("pairs", [])):
        for model in pair:
            check_name(
                f"{place}.pairs[{index}]", "model of the experiment", model, fitting[entry["experiment"]]["models"]
            )
        if pair[0] == pair[1]:
            raise StudyError(f"{place}.pairs[{index}]: {pair[0]} cannot transfer to itself: name two models")


def check_stepped(place: str, entry: Mapping[str, Any], document: Mapping[str, Any], tables: Mapping[str, Any]) -> None:
    """Checks the table whose attacks a table or figure of losses follows step by step, and what it adds to that."""
    check_name(f"{place}.table", "table of attacks", entry["table"], tables)
    table = tables[entry["table"]]
    if _kind(document["models"][table["model"]]) != "one_hot":
        raise StudyError(f"{place}.table: losses are compared on classes, {entry['table']} attacks another encoding")
    for row in table["rows"]:
        if row["attack"] not in STEPPED:
            raise StudyError(
                f"{place}.table: row {label_of(row)!r} of {entry['table']} follows no gradient of a loss; "
                f"{allowed(row['attack'], STEPPED)}"
            )
    if "experiment" in entry:
        fitting = {name: one for name, one in document.get("experiments", {}).items() if one["kind"] == "detection"}
        check_name(f"{place}.experiment", "experiment of the kind detection", entry["experiment"], fitting)
    if "transfer" in entry:
        check_name(f"{place}.transfer", "transfer", entry["transfer"], document.get("transfers", {}))
        asked = document["transfers"][entry["transfer"]]
        if table["model"] not in asked["models"] or entry["table"] not in asked.get("tables", [entry["table"]]):
            raise StudyError(f"{place}.transfer: {entry['transfer']} does not ask about the images of {entry['table']}")


def resolved_experiments(
    document: Mapping[str, Any], tables: Mapping[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """The experiments of a study, ready to run.

    Args:
        document: a valid study.
        tables: the resolved tables of attacks.

    Returns:
        Name to the study's entry with `name` and, for a softmax, `dataset`; for a detection `dataset`, `source` (the
        attacked model), and `learn` and `tested` as parts of tables (see `table_part`).
    """
    found = {}
    for name, entry in document.get("experiments", {}).items():
        more: dict[str, Any] = {}
        if entry["kind"] == "softmax":
            more = {"dataset": document["models"][entry["models"][0]]["dataset"]}
        elif entry["kind"] == "detection":
            more = _detection(entry, tables)
        found[name] = {**entry, "name": name, **more}
    return found


def _detection(entry: Mapping[str, Any], tables: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    learn = tables[entry["learn"]]
    return {
        "dataset": learn["dataset"],
        "source": learn["model"],
        "learn": table_part(learn),
        "tested": [table_part(tables[name]) for name in entry.get("tested", [])],
        "detectors": [dict(detector) for detector in entry["detectors"]],
    }


def table_part(table: Mapping[str, Any]) -> dict[str, Any]:
    """What others need of a resolved table of attacks, a run of several rows named once.

    Raises:
        StudyError: a row attacks only some of the images, which what is made from whole tables cannot do with.
    """
    if any(row["images"] is not None for row in table["rows"]):
        raise StudyError(
            f"tables.{table['name']}.rows: 'images' must not limit rows here (nor a budget): losses, steps and "
            "detection are made from rows with the same images"
        )
    rows: dict[str, dict[str, Any]] = {}
    for row in table["rows"]:
        rows.setdefault(row["slug"], {key: row[key] for key in ("label", "slug", "attack", "parameters")})
    keys = ("title", "model", "dataset", "targets", "rule", "encoding", "images", "stands_in")
    return {"table": table["name"], **{key: table[key] for key in keys}, "rows": list(rows.values())}


def part_folders(part: Mapping[str, Any]) -> Iterator[str]:
    """The folders of the runs of a part of a table, below the study's results."""
    for row in part["rows"]:
        yield f"attacks/{part['model']}/{part['targets']}/{row['slug']}"
