"""pyproject.toml, environment.yml and constraints.txt agree."""

import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

tomllib = pytest.importorskip("tomllib", reason="tomllib comes with Python 3.11")
ROOT = Path(__file__).resolve().parents[2]
CONDA_NAMES = {
    "torch": "pytorch",
    "matplotlib": "matplotlib-base",
    "ruamel-yaml": "ruamel.yaml",
    "xxhash": "python-xxhash",
}
"""conda-forge's names where they differ from PyPI's."""
NOT_ON_CONDA = {"pythia8mc", "fastjet"}
"""Installed by pip into the conda environment."""
ONLY_PIP = {"venv-pack2"}
"""Of no use in a conda environment."""


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def environment():
    content = YAML(typ="safe", pure=True).load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert content["channels"] == ["conda-forge", "nodefaults"]
    return content["dependencies"]


@pytest.fixture(scope="module")
def pins():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"==[^*]+", str(pin.specifier)) for pin in found), "a pin is one exact version"
    return {canonicalize_name(pin.name): pin for pin in found}


def requirements(project):
    extras = project["optional-dependencies"]
    wanted = [
        *project["dependencies"],
        *(
            line
            for name in ("generate", "xrootd", "cms", "log", "fit", "onnx", "tables", "test", "pack")
            for line in extras[name]
        ),
    ]
    return {canonicalize_name(Requirement(line).name): Requirement(line) for line in wanted}


def test_conda_gets_the_same_packages_with_the_same_bounds(project, environment):
    wanted = requirements(project)
    pip = next(entry["pip"] for entry in environment if isinstance(entry, dict))
    found = [entry for entry in environment if isinstance(entry, str)]
    plain = {re.split(r"[=<>]", entry)[0]: entry for entry in found}
    conda = {
        CONDA_NAMES.get(name, name): f"{CONDA_NAMES.get(name, name)}{requirement.specifier}"
        for name, requirement in wanted.items()
        if name not in NOT_ON_CONDA | ONLY_PIP
    }
    assert {name: entry for name, entry in plain.items() if name not in ("python", "pip", "setuptools")} == conda
    assert sorted(pip) == sorted(str(wanted[name]) for name in NOT_ON_CONDA)


def test_the_build_requirement_is_in_the_environment(environment):
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    assert all(requirement in environment for requirement in build)


def test_pins_lie_within_the_bounds(project, pins):
    for name, requirement in requirements(project).items():
        if name not in ("conda-pack", "venv-pack2"):  # packing is no part of continuous integration
            version = str(pins[name].specifier).removeprefix("==")
            assert requirement.specifier.contains(version), f"{requirement}, but constraints.txt has {version}"


def test_the_generator_is_pinned_to_the_version_with_wheels(project, pins):
    assert project["optional-dependencies"]["generate"][0] == f"pythia8mc{pins['pythia8mc'].specifier}"


def test_python_versions(project, environment):
    assert project["requires-python"] == ">=3.10"
    python = next(entry for entry in environment if isinstance(entry, str) and entry.startswith("python="))
    assert python == "python=3.11", "the generator's wheels"
    assert (3, 10) <= sys.version_info[:2] <= (3, 13)
