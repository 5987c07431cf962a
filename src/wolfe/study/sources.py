"""What the sources hold, known without building them; a test keeps it true."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from wolfe.study.errors import StudyError

_CLASSES = {"digits": 10, "sequences": 225}
# Channels of the images, and their side unless the entry says otherwise.
_IMAGE_SHAPES = {"digits": (1, 32), "scenes": (3, 64), "sequences": (1, 32)}
_TEST_IMAGES = {"digits": 360, "scenes": 1000, "sequences": 1125}


def is_multi_label(dataset: Mapping[str, Any]) -> bool:
    """Whether the pictures of a study's data set have any number of labels."""
    if dataset["source"] == "hub":
        return bool(_sets().hub_set(dataset["collection"]).task == "multi")
    return dataset["source"] == "scenes" and not dataset.get("single_label", False)


def classes_of(dataset: Mapping[str, Any]) -> int:
    """How many classes or labels a study's data set has."""
    if dataset["source"] == "hub":
        return dataset.get("classes") or int(_sets().hub_set(dataset["collection"]).classes)
    if dataset["source"] == "scenes":
        each = 13 if dataset.get("hierarchy", False) else 10
        return each * int(dataset.get("colours", 2))
    return _CLASSES[dataset["source"]]


def images_to_attack(dataset: Mapping[str, Any]) -> int:
    """How many test images a study's data set has, or at most where some classes of a published set are kept."""
    if dataset["source"] == "hub":
        return int(_parts().images_of(dataset))
    return int(dataset.get("test", _TEST_IMAGES[dataset["source"]]))


def image_shape(dataset: Mapping[str, Any]) -> tuple[int, int]:
    """Channels and side of a study's data set's images."""
    if dataset["source"] == "hub":
        return _sets().hub_set(dataset["collection"]).channels, dataset["size"]
    channels, usual = _IMAGE_SHAPES[dataset["source"]]
    return channels, dataset.get("size", usual)


def check_source(place: str, dataset: Mapping[str, Any]) -> None:
    """Checks what an entry says of a published set's splits, classes, pictures and files.

    Args:
        place: where the entry is in the study, for messages.
        dataset: the entry, with the folder that it is read from if the study names one.

    Raises:
        StudyError: a split that cannot be, images in two of them, classes that the set does not have, a size to which
            its pictures cannot be brought, files that it does not come in, or no folder though it cannot be fetched.
    """
    if dataset["source"] != "hub":
        return
    try:
        _parts().parts_of(dataset["collection"], dataset["splits"])
    except ValueError as error:
        raise StudyError(f"{place}.splits: {error}") from None
    try:
        known = _sets().hub_set(dataset["collection"])
        _classes().check_choice(known, dataset.get("classes"), dataset.get("per_class"))
        lengths = {key: dataset[key] for key in ("shorter_side", "pad", "stretch") if key in dataset}
        _parts().check_size(dataset["size"], **lengths)
        _parts().check_files(known, *(dataset.get(key) for key in ("data_root", "revision", "files")))
    except ValueError as error:
        raise StudyError(f"{place}: {error}") from None


def _sets() -> ModuleType:
    """What is known of published sets; here, since only studies that use one need it."""
    from wolfe.data import hub_sets

    return hub_sets


def _parts() -> ModuleType:
    """What an entry says of their splits."""
    from wolfe.data import hub_parts

    return hub_parts


def _classes() -> ModuleType:
    """What may be said of their classes."""
    from wolfe.data import hub_classes

    return hub_classes
