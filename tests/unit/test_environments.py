"""The conda environments give the versions of the lock, and every rule names one that holds what its stage imports."""

from __future__ import annotations

import ast
import re
import runpy
import sys
from pathlib import Path

import pytest
import yaml

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
STAGES = {
    "data": ["wolfe.data"],
    "models": ["wolfe.models", "wolfe.experiments.targets"],
    "attacks": ["wolfe.experiments.attack_run", "wolfe.attacks"],
    "report": ["wolfe.report.tables", "wolfe.report.figures", "wolfe.report.page"],
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
    python, *rest = content["dependencies"]
    assert python == f"python ={SCRIPT['PYTHON']}"
    assert len(rest) == len(SCRIPT["PACKAGES"][kind])
    for requirement in rest:
        match = re.fullmatch(r"([a-z0-9_-]+) ==([0-9][0-9a-z.]*)", requirement)
        assert match, requirement
        assert VERSIONS[pip_names.get(match[1], match[1])] == match[2]


@pytest.mark.parametrize("kind", SCRIPT["PACKAGES"])
def test_environments_hold_what_their_stages_import(kind: str) -> None:
    modules = _closure((*STAGES[kind], "wolfe.study", "wolfe.data"))
    imported = {name for module in modules for name in _imported(module)} | {"typer", "pyyaml"}
    assert imported <= set(SCRIPT["PACKAGES"][kind])


def test_every_rule_with_a_command_names_an_environment_and_a_log() -> None:
    for file in [ROOT / "Snakefile", *(ROOT / "workflow" / "rules").glob("*.smk")]:
        for rule in re.split(r"^\s*rule\b", file.read_text(), flags=re.MULTILINE)[1:]:
            if "shell:" in rule:
                named = re.search(r'conda:\s+"../../envs/(\w+).yaml"', rule)
                assert named, f"{file.name}: {rule[:40]}"
                assert named[1] in SCRIPT["PACKAGES"]
                assert "log:" in rule, f"{file.name}: {rule[:40]}"


def test_the_files_are_what_the_script_writes(capsys: pytest.CaptureFixture[str]) -> None:
    assert SCRIPT["main"](check=True) == 0, capsys.readouterr().err


def test_the_lock_is_read_for_the_python_of_the_environments(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text(
        "A-b==1.0 \\\n    --hash=x\nnumpy==2.4 ; python_full_version < '3.12' \\\n    --hash=y\n"
        "numpy==2.5 ; python_full_version >= '3.12' \\\n    --hash=z\n"
    )
    assert SCRIPT["locked_versions"](lock) == {"a-b": "1.0", "numpy": "2.4"}
