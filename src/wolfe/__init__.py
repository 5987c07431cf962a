"""Nearly optimal targeted adversarial examples for any output encoding.

The names below are imported on first use, so that the parts of the package that need no torch (the study's
validation, the workflow) start at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wolfe.classifier import Classifier
    from wolfe.encoding import Codebook, MultiLabel, OneHot, hadamard

__version__ = "0.1.0"
__all__ = ["Classifier", "Codebook", "MultiLabel", "OneHot", "__version__", "hadamard"]

_HOME = {
    "Classifier": "wolfe.classifier",
    "Codebook": "wolfe.encoding",
    "MultiLabel": "wolfe.encoding",
    "OneHot": "wolfe.encoding",
    "hadamard": "wolfe.encoding",
}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first asked for.

    Raises:
        AttributeError: the name is not public here.
    """
    if name not in _HOME:
        raise AttributeError(f"module 'wolfe' has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(import_module(_HOME[name]), name)
