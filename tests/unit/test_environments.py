"""The conda environments give the versions of the lock, and every rule names one that holds what its stage imports."""

from __future__ import annotations

import ast
import re
import runpy
import sys
from pathlib import Path

import pytest
import yaml
from rattler import MatchSpec

from wolfe.fingerprint import _closure, _file
from wolfe.study.document import ROOT

SCRIPT = runpy.run_path(str(ROOT / "workflow" / "scripts" / "environments.py"))
VERSIONS = SCRIPT["locked_versions"](ROOT / "requirements.lock")
# Import names that differ from the names of the packages.
PACKAGE_OF = {
    "PIL": "pillow",
    "huggingface_hub": "huggingface-hub",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
# The modules that a command of the command line loads.
MODULES = {
    "dataset": ["wolfe.data"],
    "train": ["wolfe.models"],
    "targets": ["wolfe.experiments.targets"],
    "attack-run": ["wolfe.experiments.attack_run", "wolfe.attacks"],
    "transfer": ["wolfe.experiments.transfer"],
    "experiment": [f"wolfe.experiments.{name}" for name in ("kinds", "circles", "detection", "softmax")],
    "geometry": ["wolfe.experiments.geometry"],
    "table": ["wolfe.report.tables"],
    "figure": ["wolfe.report.figures"],
    "report": ["wolfe.report.page"],
}


def _imported(module: str) -> set[str]:
    tree = ast.parse(_file(module).read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    roots = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"wolfe"}
    return {PACKAGE_OF.get(name, name) for name in roots}


@pytest.mark.parametrize("kind", SCRIPT["PACKAGES"])
def test_versions_equal_the_lock(kind: str) -> None:
    content = yaml.safe_load((ROOT / "envs" / f"{kind}.yaml").read_text())
    assert content["channels"] == ["conda-forge", "nodefaults"]
    pip_names = {conda: name for name, conda in SCRIPT["CONDA_NAMES"].items()}
    python, *rest = (MatchSpec(requirement, strict=True) for requirement in content["dependencies"])
    assert (python.name.normalized, str(python.version)) == ("python", f"{SCRIPT['PYTHON']}.*")
    asked = {pip_names.get(spec.name.normalized, spec.name.normalized): str(spec.version) for spec in rest}
    assert asked == {name: f"=={VERSIONS[name]}" for name in SCRIPT["PACKAGES"][kind]}
    assert len(rest) == len(asked)
    assert all(spec.build is None and spec.channel is None for spec in rest)


def _rules() -> list[tuple[str, str]]:
    """The command (empty: none of ours) and the environment of every rule that has a shell."""
    found = []
    for file in [ROOT / "Snakefile", *(ROOT / "workflow" / "rules").glob("*.smk")]:
        for rule in re.split(r"^\s*rule\b", file.read_text(), flags=re.MULTILINE)[1:]:
            if "shell:" in rule:
                named = re.search(r'conda:\s+"../../envs/(\w+).yaml"', rule)
                command = re.search(r'"python -m wolfe --log \{log:q\} ([a-z-]+) ', rule)
                assert named and "log:" in rule, f"{file.name}: {rule[:40]}"
                found.append((command[1] if command else "", named[1]))
    return found


def test_environments_hold_what_their_stages_import() -> None:
    rules = _rules()
    assert {command for command, _ in rules} == {*MODULES, ""}
    assert {kind for _, kind in rules} == set(SCRIPT["PACKAGES"])
    for command, kind in rules:
        modules = _closure((*MODULES.get(command, []), "wolfe.study", "wolfe.data"))
        imported = {name for module in modules for name in _imported(module)} | {"typer", "pyyaml"}
        assert imported <= set(SCRIPT["PACKAGES"][kind]), command


def test_there_is_a_file_for_each_kind_and_no_other() -> None:
    assert {file.name for file in (ROOT / "envs").iterdir()} == {f"{kind}.yaml" for kind in SCRIPT["PACKAGES"]}


def test_the_files_are_what_the_script_writes(capsys: pytest.CaptureFixture[str]) -> None:
    assert SCRIPT["main"](check=True) == 0, capsys.readouterr().err


def test_the_lock_is_read_for_the_python_of_the_environments(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text(
        "A-b==1.0 \\\n    --hash=x\nnumpy==2.4 ; python_full_version < '3.12' \\\n    --hash=y\n"
        "numpy==2.5 ; python_full_version >= '3.12' \\\n    --hash=z\n"
    )
    assert SCRIPT["locked_versions"](lock) == {"a-b": "1.0", "numpy": "2.4"}
