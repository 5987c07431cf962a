"""Holds the code and the packages of runs against those at work now."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from wolfe.fingerprint import code_fingerprint
from wolfe.provenance import versions
from wolfe.verification.ledger import Findings, counted

_MODULE = re.compile(r"wolfe(\.[a-z][a-z0-9_]*)*")


def compare_with_now(found: Findings, runs: Iterable[Mapping[str, Any]]) -> None:
    """Notes which runs were made by other code or with other packages.

    Args:
        found: where it is noted.
        runs: the contents of run files.
    """
    code: Counter[str] = Counter()
    packages: Counter[str] = Counter()
    known, installed = {}, versions()
    for run in runs:
        modules = _modules(run.get("modules"))
        if modules not in known:
            known[modules] = _code_of(modules)
        if "code" in run and modules and known[modules] != run["code"]:
            code[str(run.get("stage"))] += 1
        then = run.get("versions")
        for name, was in then.items() if isinstance(then, dict) else ():
            if installed.get(name) != was:
                packages[f"{name} {was}, {installed.get(name, 'none')}"] += 1
    found.differing += [
        f"code: {counted(n)} of the stage {stage} by other code than there is now" for stage, n in sorted(code.items())
    ]
    found.differing += [f"package: {counted(n)} with {what} is there now" for what, n in sorted(packages.items())]


def _modules(named: Any) -> tuple[str, ...]:
    """The modules that a run file names, if they can be modules of this package."""
    if not isinstance(named, list) or not all(isinstance(name, str) and _MODULE.fullmatch(name) for name in named):
        return ()
    return tuple(named)


def _code_of(modules: tuple[str, ...]) -> str | None:
    """The fingerprint of modules as they are now; None where one of them is gone."""
    try:
        return code_fingerprint(*modules)
    except ValueError:
        return None
