"""What a stage's code is, as a hash: results depend on it, comments and docstrings do not change it."""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).resolve().parent
# Registries import everything; following them would make every result depend on every attack. What a run says of
# itself and of the files that it has read is no part of what it finds.
_NOT_FOLLOWED = frozenset({"wolfe", "wolfe.attacks", "wolfe.provenance", "wolfe.study.needs"})


def code_fingerprint(*modules: str) -> str:
    """The hash of modules and of all wolfe modules that they import, directly or through others.

    Args:
        modules: dotted names, e.g. "wolfe.attacks.jma".

    Returns:
        16 hexadecimal digits; the same for code that differs only in comments, docstrings and layout.

    Raises:
        ValueError: a module does not exist.
    """
    digest = hashlib.sha256()
    for name in sorted(_closure(modules)):
        digest.update(f"{name}\n{_bare_source(name)}\n".encode())
    return digest.hexdigest()[:16]


def _closure(modules: tuple[str, ...]) -> set[str]:
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(_imports(name) - found)
    return found


def _file(name: str) -> Path:
    base = _ROOT.joinpath(*name.split(".")[1:])
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    raise ValueError(f"there is no module {name!r} in the package")


def _exists(name: str) -> bool:
    base = _ROOT.joinpath(*name.split(".")[1:])
    return base.with_suffix(".py").is_file() or (base / "__init__.py").is_file()


@cache
def _tree(name: str) -> ast.Module:
    return ast.parse(_file(name).read_text(encoding="utf-8"))


def _imports(name: str) -> set[str]:
    """The wolfe modules that a module imports; imports under TYPE_CHECKING run no code but may as well count."""
    found: set[str] = set()
    for node in ast.walk(_tree(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {item for item in found if item.split(".")[0] == "wolfe" and item not in _NOT_FOLLOWED and _exists(item)}


@cache
def _bare_source(name: str) -> str:
    """A module's syntax tree as text, docstrings left out (comments are no part of a tree)."""
    tree = ast.parse(_file(name).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree)
