"""Data flows one way: imports follow one order, and command lines import nothing heavy."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "pfnano_tag"
ORDER = ["errors", "card", "plotting", "nano", "prepare", "models", "infer", "evaluate", "attack", "train", "analyze"]
ORDER += ["compare", "calibrate", "report", "export", "submit"]
BESIDE = ("generate", "inspect")
"""Packages beside the order: they import `nano` and what is left of it."""
HEAVY = ("torch", "uproot", "awkward", "matplotlib", "numpy", "pydantic", "scipy", "hist", "pythia8mc", "fastjet")
COMMANDS = [*sorted(path.parent.name for path in PACKAGE.glob("*/__main__.py")), "inspect", ""]
NETWORK_FILES = sorted(path for path in (PACKAGE / "models").glob("*.py") if path.stem not in ("__init__", "batch"))
MODULES = sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    """Name of the package or module right below `pfnano_tag` that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """All modules that a file imports, wherever in the file; `from a.b import c` counts as `a.b`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            assert node.module is not None
            names.add(node.module)
            if node.module == "pfnano_tag":
                names |= {f"pfnano_tag.{alias.name}" for alias in node.names if not alias.name.startswith("__")}
    return names


def allowed_for(part: str) -> set[str]:
    if part in ("__init__", "__main__"):
        return set()
    if part in BESIDE:
        return {part, *ORDER[: ORDER.index("nano") + 1]}
    return set(ORDER[: ORDER.index(part) + 1])


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_package_imports_only_packages_to_its_left(path):
    ours = {name.split(".")[1] for name in imports_of(path) if name.startswith("pfnano_tag.")}
    assert ours <= allowed_for(part_of(path))


def test_every_package_has_a_place_in_the_order():
    parts = {part_of(path) for path in MODULES} - {"__init__", "__main__"}
    assert parts <= {*ORDER, *BESIDE}


@pytest.mark.parametrize("path", NETWORK_FILES, ids=lambda path: path.name)
def test_networks_import_only_torch(path):
    foreign = {name.split(".")[0] for name in imports_of(path)} - {"pfnano_tag"} - set(sys.stdlib_module_names)
    assert foreign <= {"torch"}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_heavy(command):
    module = ".".join(filter(None, ("pfnano_tag", command)))
    script = (
        "import json, runpy, sys\n"
        "sys.argv = ['command', '--help']\n"
        "try:\n"
        f"    runpy.run_module({module!r}, run_name='__main__', alter_sys=True)\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        f"print(json.dumps(sorted(set({HEAVY!r}) & set(sys.modules))))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    *text, imported = done.stdout.splitlines()
    assert json.loads(imported) == []
    assert text[0].startswith("usage: python -m " + module)


def test_a_wrong_order_would_be_found(tmp_path):
    path = tmp_path / "wrong.py"
    path.write_text("def f():\n    from pfnano_tag.train import stage\n    import pfnano_tag.compare\n")
    assert imports_of(path) == {"pfnano_tag.train", "pfnano_tag.compare"}
    assert not {"train", "compare"} <= allowed_for("nano")
