"""Classifiers: networks, their training and their files.

To add a network, see `wolfe.models.networks`. Names are imported on first use: who only loads a classifier does
not wait for the trainer.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wolfe.models.networks import NETWORKS, build_network
    from wolfe.models.storage import load_classifier, load_description, save_classifier
    from wolfe.models.training import train_model

_HOME = {
    "NETWORKS": "wolfe.models.networks",
    "build_network": "wolfe.models.networks",
    "load_classifier": "wolfe.models.storage",
    "load_description": "wolfe.models.storage",
    "save_classifier": "wolfe.models.storage",
    "train_model": "wolfe.models.training",
}
__all__ = [
    "NETWORKS",
    "build_network",
    "load_classifier",
    "load_description",
    "save_classifier",
    "train_model",
]


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first asked for.

    Raises:
        AttributeError: the name is not public here.
    """
    if name not in _HOME:
        raise AttributeError(f"module 'wolfe.models' has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(import_module(_HOME[name]), name)
