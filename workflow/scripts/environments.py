"""Writes the conda environments of envs/ from requirements.lock, so that both give the same versions.

    python workflow/scripts/environments.py            writes envs/*.yaml
    python workflow/scripts/environments.py --check    only says whether they are up to date (exit code 1 if not)

Only names and versions are known here; whether the channel has them is found out by whoever makes the environments.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PYTHON = "3.11"

# Every stage is started through the command line, which reads studies.
_COMMON = ["jsonschema", "numpy", "pyyaml", "typer"]
_IMAGES = ["datasets", "huggingface-hub", "pandas", "pillow", "pyarrow", "scikit-image", "scikit-learn", "torch"]
_NETWORKS = ["lightning", "safetensors", "scipy", "timm", "torchmetrics", "torchvision", "tqdm"]
_PAGES = ["jinja2", "matplotlib", "networkx", "pydot", "tabulate"]

PACKAGES = {
    "data": [*_COMMON, *_IMAGES],
    "models": [*_COMMON, *_IMAGES, *_NETWORKS],
    "attacks": [*_COMMON, *_IMAGES, *_NETWORKS],
    "report": [*_COMMON, *_IMAGES, *_NETWORKS, *_PAGES],
}
"""Kind of rule to the packages (as the lock calls them) that its stages import."""

CONDA_NAMES = {"huggingface-hub": "huggingface_hub", "matplotlib": "matplotlib-base", "torch": "pytorch"}
"""Packages that conda-forge calls otherwise."""


def locked_versions(lock: Path) -> dict[str, str]:
    """The versions in a lock file for Linux and `PYTHON`, by the package's name in lower case.

    Args:
        lock: a file as `uv pip compile` writes it.
    """
    place = {"python_version": PYTHON, "python_full_version": f"{PYTHON}.0", "sys_platform": "linux"}
    lines = re.findall(r"^[A-Za-z0-9][^\\\n]*", lock.read_text(encoding="utf-8"), re.MULTILINE)
    requirements = [Requirement(line) for line in lines]
    fitting = [item for item in requirements if item.marker is None or item.marker.evaluate(place)]
    return {item.name.lower(): str(item.specifier).removeprefix("==") for item in fitting}


def environment(kind: str, versions: dict[str, str]) -> str:
    """The text of an environment file.

    Args:
        kind: one of `PACKAGES`.
        versions: see `locked_versions`.

    Raises:
        KeyError: the lock lacks a package.
    """
    lines = [
        f"# For the rules of the kind {kind!r}; written by `make environments` from requirements.lock.",
        "channels: [conda-forge, nodefaults]",
        "dependencies:",
        f"  - python ={PYTHON}",
    ]
    names = sorted(PACKAGES[kind])
    return "\n".join([*lines, *(f"  - {CONDA_NAMES.get(name, name)} =={versions[name]}" for name in names)]) + "\n"


def main(check: bool) -> int:
    """Writes the files, or compares them.

    Returns:
        The exit code.
    """
    versions = locked_versions(ROOT / "requirements.lock")
    stale = []
    for kind in PACKAGES:
        file, text = ROOT / "envs" / f"{kind}.yaml", environment(kind, versions)
        if check and (not file.is_file() or file.read_text(encoding="utf-8") != text):
            stale.append(str(file.relative_to(ROOT)))
        elif not check:
            file.write_text(text, encoding="utf-8")
    if stale:
        print(f"{', '.join(stale)}: not what requirements.lock says; run `make environments`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
