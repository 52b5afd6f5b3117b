"""What the code of every module keeps to: names that say something, size, types, docstrings."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "pfnano_tag"
MODULES = sorted(PACKAGE.rglob("*.py"))
STAGES = ("generate", "prepare", "models", "infer", "evaluate", "attack", "train", "analyze", "compare", "calibrate")
STAGES = (*STAGES, "submit")
STAGES_THAT_ARE = [name for name in STAGES if (PACKAGE / name / "__init__.py").is_file()]
SAYING_NOTHING = {"utils", "util", "helpers", "helper", "common", "misc", "tools"}
LONGEST_MODULE, LONGEST_FUNCTION = 400, 60
Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def public_functions(tree: ast.AST) -> Iterator[tuple[str, Function]]:
    """Public functions and methods of public classes; those inside functions are private."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function) and not node.name.startswith("_"):
            yield node.name, node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for name, function in public_functions(node):
                yield f"{node.name}.{name}", function


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module(path):
    assert path.stem not in SAYING_NOTHING
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST_MODULE, f"{name_of(path)} is too long"
    tree = ast.parse(text)
    assert ast.get_docstring(tree), f"{name_of(path)} says nothing about itself"
    for node in ast.walk(tree):
        if isinstance(node, Function):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{node.name} in {name_of(path)} has {length} lines"
    for name, function in public_functions(tree):
        assert ast.get_docstring(function) or is_repetition(function), f"{name} in {name_of(path)}: no docstring"
        assert has_hints(function), f"{name} in {name_of(path)}: type hints are missing"


def is_repetition(function: Function) -> bool:
    """Whether a method needs no docstring: a property's setter, an overload, or `forward`, explained by its class."""
    decorators = {ast.unparse(decorator).rpartition(".")[2] for decorator in function.decorator_list}
    return bool(decorators & {"setter", "overload", "override"})


def has_hints(function: Function) -> bool:
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    extra = [argument for argument in (function.args.vararg, function.args.kwarg) if argument is not None]
    hinted = all(argument.annotation for argument in [*arguments, *extra] if argument.arg not in ("self", "cls"))
    return hinted and function.returns is not None


@pytest.mark.parametrize("stage", STAGES_THAT_ARE)
def test_a_stage_says_what_it_reads_writes_and_guarantees(stage):
    tree = ast.parse((PACKAGE / stage / "__init__.py").read_text(encoding="utf-8"))
    docstring = ast.get_docstring(tree) or ""
    assert all(word in docstring for word in ("Reads", "Writes", "Guarantees"))
    code = [node for node in tree.body if not isinstance(node, ast.Expr)]
    assert not code, "a stage's __init__ is its docstring and nothing else"


def test_the_names_of_the_card_are_those_of_the_registries():
    from typing import get_args

    from pfnano_tag.attack import registry as attacks
    from pfnano_tag.card.attacks import AttackKind
    from pfnano_tag.card.evaluation import DiscriminantName
    from pfnano_tag.card.models import OF_SEQUENCES, Architecture
    from pfnano_tag.infer.discriminants import DISCRIMINANTS
    from pfnano_tag.models.registry import ARCHITECTURES

    assert set(get_args(Architecture)) == set(ARCHITECTURES)
    assert set(OF_SEQUENCES) == {name for name, one in ARCHITECTURES.items() if one.network.wants_buckets}
    assert set(get_args(AttackKind)) == set(attacks.KINDS)
    assert set(get_args(DiscriminantName)) == set(DISCRIMINANTS)
