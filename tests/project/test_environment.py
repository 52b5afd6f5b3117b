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
"""conda-forge's names where they differ from PyPI's: the one place for them."""
NOT_ON_CONDA = {"pythia8mc", "fastjet"}
"""Installed by pip into the conda environment: the generator's wheels."""
ONLY_PIP = {"venv-pack2"}
"""Of no use in a conda environment."""
CONDA_ONLY = {"python", "pip", "setuptools"}
"""What pip has before it installs anything."""


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
    """All that pyproject.toml names: what every installation has, and all extras."""
    lines = [
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]
    found = [Requirement(line) for line in lines]
    assert len({canonicalize_name(one.name) for one in found}) == len(found), "named once, with one bound"
    return {canonicalize_name(one.name): one for one in found}


def test_conda_gets_the_same_packages_with_the_same_bounds(project, environment):
    """Neither file names a package, a bound or an extra that the other does not."""
    wanted = requirements(project)
    assert {*CONDA_NAMES, *NOT_ON_CONDA, *ONLY_PIP} <= wanted.keys(), "a name that nothing asks for"
    (pip,) = (entry["pip"] for entry in environment if isinstance(entry, dict))
    plain = [entry for entry in environment if isinstance(entry, str)]
    conda = [
        f"{CONDA_NAMES.get(name, name)}{requirement.specifier}"
        for name, requirement in wanted.items()
        if name not in NOT_ON_CONDA | ONLY_PIP
    ]
    assert sorted(entry for entry in plain if re.split(r"[=<>]", entry)[0] not in CONDA_ONLY) == sorted(conda)
    assert {re.split(r"[=<>]", entry)[0] for entry in plain} >= CONDA_ONLY
    assert sorted(pip) == sorted(str(wanted[name]) for name in NOT_ON_CONDA)


def test_the_extras_that_setup_installs_exist(project):
    text = (ROOT / "scripts" / "setup.sh").read_text(encoding="utf-8")
    named = [extras.split(",") for extras in re.findall(r'extras="([\w,]+)"', text)]
    assert len(named) == 2, "with and without the generator"
    assert {name for extras in named for name in extras} <= project["optional-dependencies"].keys()


def test_the_build_requirement_is_in_the_environment(environment):
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    assert all(requirement in environment for requirement in build)


def test_pins_lie_within_the_bounds(project, pins):
    for name, requirement in requirements(project).items():
        version = str(pins[name].specifier).removeprefix("==")
        assert requirement.specifier.contains(version), f"{requirement}, but constraints.txt has {version}"


def test_the_generator_is_pinned_to_the_version_with_wheels(project, pins):
    assert project["optional-dependencies"]["generate"][0] == f"pythia8mc{pins['pythia8mc'].specifier}"


def test_python_versions(project, environment):
    assert project["requires-python"] == ">=3.10"
    python = next(entry for entry in environment if isinstance(entry, str) and entry.startswith("python="))
    assert python == "python=3.11", "the generator's wheels"
    assert (3, 10) <= sys.version_info[:2] <= (3, 13)
