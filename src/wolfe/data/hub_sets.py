"""Which published sets are known: where each one is, how many images it has and what its columns are called.

Nothing is read here. Counts and revisions are those that the sets' authors or the hub's pages state; a set whose
revision could not be found keeps "main", and its card says which state was fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from wolfe.data.hub_names import CIFAR10, COCO, DIGITS, VOC
from wolfe.data.source import Task


@dataclass(frozen=True, kw_only=True)
class HubSet:
    """A published data set.

    Attributes:
        title: its name for a reader.
        repository: owner and name on the hub, or what else holds it.
        counts: images of each split that has labels.
        editions: images that other editions of the set have in a split, each as complete as the repository's.
        classes: number of classes or labels.
        task: "single" for one class an image, "multi" for any number of labels.
        channels: 1 for grey, 3 for colour.
        image: names that the column of pictures has, in the repository and in copies of it.
        label: the same for the column of classes or labels; it may hold boxes, each with a category.
        files: what the files of a split begin with where that is not the split's name, the repository's first.
        layout: how a folder may hold the set where that is not parquet files.
        revision: the state of the repository that is fetched unless an entry names another.
        named: whether the files say what classes mean; if not, the classes' numbers stand for names that are missing.
        class_counts: training images of each class where they were published; empty to count those of the files.
        class_names: what the classes are called wherever the set is; empty where copies differ.
        side: height and width of every published picture; 0 where they differ.
        origin: what is fetched where no folder is named: the repository on the hub, an archive, or nothing, so that a
            folder must be named.
    """

    title: str
    repository: str
    counts: Mapping[str, int]
    classes: int
    editions: tuple[tuple[str, int], ...] = ()
    task: Task = "single"
    channels: int = 3
    image: tuple[str, ...] = ("image", "img")
    label: tuple[str, ...] = ("label",)
    files: tuple[tuple[str, tuple[str, ...]], ...] = ()
    layout: Literal["parquet", "voc", "nus_wide"] = "parquet"
    revision: str = "main"
    named: bool = True
    class_counts: tuple[int, ...] = ()
    class_names: tuple[str, ...] = ()
    side: int = 0
    origin: Literal["hub", "archive", "folder"] = "hub"

    def beginnings(self, split: str) -> tuple[str, ...]:
        """What the names of a split's files may begin with."""
        return dict(self.files).get(split, (split,))


# The final training set, 39,209 images (Stallkamp et al., Man vs. computer, Neural Networks 2012).
# fmt: off
_GTSRB_COUNTS = (
    210, 2220, 2250, 1410, 1980, 1860, 420, 1440, 1410, 1470, 2010, 1320, 2100, 2160, 780, 630, 420, 1110,
    1200, 210, 360, 330, 390, 510, 270, 1500, 600, 240, 540, 270, 450, 780, 240, 689, 420, 1200, 390, 210,
    2070, 300, 360, 240, 240,
)
# fmt: on

_VALIDATION_FILES = (("validation", ("val", "validation")),)

HUB_SETS: dict[str, HubSet] = {
    "imagenet": HubSet(
        title="ImageNet (ILSVRC 2012)",
        repository="ILSVRC/imagenet-1k",
        counts={"train": 1_281_167, "validation": 50_000},
        classes=1000,
        revision="49e2ee26f3810fb5a7536bbf732a7b07389a47b5",
    ),
    "imagenet21k": HubSet(
        title="ImageNet-21K-P (winter 2021)",
        repository="timm/imagenet-w21-p",
        counts={"train": 11_060_223, "validation": 522_500},
        classes=10_450,
        label=("label", "cls"),
        named=False,
    ),
    "cifar10": HubSet(
        title="CIFAR-10",
        repository="uoft-cs/cifar10",
        counts={"train": 50_000, "test": 10_000},
        classes=10,
        class_names=CIFAR10,
        side=32,
        revision="0b2714987fa478483af9968de7c934580d0bb9a2",
    ),
    "mnist": HubSet(
        title="MNIST",
        repository="ylecun/mnist",
        counts={"train": 60_000, "test": 10_000},
        classes=10,
        class_names=DIGITS,
        channels=1,
        side=28,
        revision="77f3279092a1c1579b2250db8eafed0ad422088c",
    ),
    "gtsrb": HubSet(
        title="GTSRB",
        repository="tanganke/gtsrb",
        # The repository has the training set of the online competition, other copies the final one.
        counts={"train": 26_640, "test": 12_630},
        editions=(("train", 39_209),),
        classes=43,
        revision="ea889fff70dda7b09e94a4b207dded438deca549",
        named=False,
        class_counts=_GTSRB_COUNTS,
    ),
    "coco": HubSet(
        title="MS-COCO 2017",
        repository="detection-datasets/coco",
        counts={"train": 117_266, "validation": 4_952},
        classes=80,
        class_names=COCO,
        task="multi",
        label=("labels", "objects"),
        files=_VALIDATION_FILES,
        revision="cf0b22332314a937e9dc8a1957b21725430bb41d",
    ),
    "nus_wide": HubSet(
        title="NUS-WIDE",
        repository="Lxyhaha/NUS-WIDE",
        counts={"train": 161_789, "test": 107_859},
        classes=81,
        task="multi",
        label=("labels", "label"),
        layout="nus_wide",
        # The repository holds labels alone.
        origin="folder",
    ),
    "voc2007": HubSet(
        title="PASCAL VOC2007",
        repository="VOC2007",
        counts={"train": 2_501, "validation": 2_510, "test": 4_952},
        classes=20,
        class_names=VOC,
        task="multi",
        label=("labels",),
        files=_VALIDATION_FILES,
        layout="voc",
        origin="folder",
    ),
    "voc2012": HubSet(
        title="PASCAL VOC2012",
        repository="VOC2012",
        counts={"train": 5_717, "validation": 5_823},
        classes=20,
        class_names=VOC,
        task="multi",
        label=("labels",),
        files=_VALIDATION_FILES,
        layout="voc",
        origin="archive",
    ),
}
"""What an entry calls a data set, to where it is and what it holds. A set is added by its line here."""


def hub_set(collection: Any) -> HubSet:
    """A data set by the name that an entry gives.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    if collection not in HUB_SETS:
        raise ValueError(f"hub: there is no collection {collection!r}; there are {', '.join(HUB_SETS)}")
    return HUB_SETS[collection]
