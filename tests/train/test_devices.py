"""Memory, precision, compilation, and one code path for processors and GPUs."""

import ast
import logging
from pathlib import Path

import pytest
import torch
from synthetic import CLASSES, labelled_jets, specification
from torch import nn

from pfnano_tag.card.attacks import Attack
from pfnano_tag.card.training import Training
from pfnano_tag.errors import CardError, DataError
from pfnano_tag.infer.bookkeeping import feature_counts
from pfnano_tag.models.batch import collate
from pfnano_tag.models.device import chosen_device
from pfnano_tag.models.registry import build
from pfnano_tag.train.compilation import check_compiler
from pfnano_tag.train.dataloader import Stream
from pfnano_tag.train.interruption import Interruption
from pfnano_tag.train.objective import Objective, make_loss
from pfnano_tag.train.recipe import Recipe
from pfnano_tag.train.wrapper import Trainer

PACKAGE = Path(__file__).resolve().parents[2] / "pfnano_tag"
SIZES = {
    "mlp": {"hidden": [8]},
    "deepjet": {"charged": [8], "charged_lstm": 8, "dense": [8], "dropout": 0.0},
    "deepsets": {"phi": [8], "rho": [8]},
    "particle_transformer": {"embed": [8], "pair": [8], "heads": 2, "blocks": 1, "class_blocks": 1, "dropout": 0.0},
    "multitask": {"embed": [8], "width": 8, "heads": 2, "layers": 1, "out": 8, "head": [8], "activation": "gelu"},
}


def network(architecture, seed=1):
    torch.manual_seed(seed)
    return build(architecture, SIZES[architecture], feature_counts(specification()), len(CLASSES)).train()


def batch_of(count):
    jets = labelled_jets(count)
    return collate(jets.inputs, torch.arange(count), jets.label, jets.weight)


def objective(distortion=None, **settings):
    chosen = Training(**settings)
    return Objective(make_loss(chosen, CLASSES), chosen, distortion, specification(), seed=1)


class Hungry(nn.Module):
    """Needs more memory than there is for more than so many jets."""

    def __init__(self, module, most, error):
        super().__init__()
        self.module, self.most, self.error = module, most, error
        self.wants_buckets, self.cuts_batches = module.wants_buckets, module.cuts_batches
        self.targets = module.targets

    def forward(self, jet_BF, *others):
        if len(jet_BF) > self.most:
            raise self.error
        return self.module(jet_BF, *others)


ERRORS = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:119] . DefaultCPUAllocator: can't allocate memory: you tried ..."),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("architecture", ["deepsets", "particle_transformer"])
def test_a_batch_that_does_not_fit_is_halved_until_it_does_and_gives_the_same_gradient(architecture, error, caplog):
    """Without batch norm, whose statistics are those of the parts."""
    whole, batch = network(architecture), batch_of(50)
    for part in whole.modules():
        part.train(type(part).__name__ != "RowNorm")
    hungry = Hungry(whole, 13, error)
    expected = float(objective(constituents_at_once=None).gradient(whole, batch, 1, 0))
    gradients = [weight.grad.clone() for weight in whole.parameters()]
    halving = objective(constituents_at_once=None)
    for _ in range(2):
        assert float(halving.gradient(hungry, batch, 1, 0)) == pytest.approx(expected, rel=1e-5)
        for weight, gradient in zip(whole.parameters(), gradients, strict=True):
            torch.testing.assert_close(weight.grad, gradient, rtol=1e-4, atol=1e-6)
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert [text.split(":")[0] for text in warnings] == [
        "out of memory with 50 jets at once",
        "out of memory with 25 jets at once",
    ]


def test_a_jet_that_does_not_fit_and_other_errors_are_said():
    with pytest.raises(DataError, match="does not suffice for a single jet.*recompute=true"):
        objective().gradient(Hungry(network("deepsets"), 0, MemoryError()), batch_of(5), 1, 0)
    with pytest.raises(RuntimeError, match="shapes"):
        objective().gradient(Hungry(network("deepsets"), 0, RuntimeError("shapes differ")), batch_of(5), 1, 0)


@pytest.mark.parametrize("attack", [None, Attack(kind="fgsm", epsilon=0.01)], ids=["nominal", "fgsm"])
@pytest.mark.parametrize("architecture", sorted(SIZES))
def test_bfloat16_computes_in_it_and_keeps_weights_gradients_and_loss_in_float32(architecture, attack):
    batch, seen, losses, gradients = batch_of(60), set(), [], []
    settings = {} if attack is None else {"attack": "fgsm", "attack_loss": "kl"}
    for precision in ("float32", "bfloat16"):
        module = network(architecture)
        linear = next(part for part in module.modules() if isinstance(part, nn.Linear))
        linear.register_forward_hook(lambda _, __, out: seen.add(out.dtype))
        seen.clear()
        losses.append(objective(attack, precision=precision, **settings).gradient(module, batch, 1, 0))
        gradients.append(torch.cat([weight.grad.flatten() for weight in module.parameters()]))
        assert seen == {getattr(torch, precision)}
    assert {losses[1].dtype, gradients[1].dtype} == {torch.float32}
    assert float(losses[1]) == pytest.approx(float(losses[0]), rel=0.03)
    assert float(nn.functional.cosine_similarity(*gradients, dim=0)) > 0.98


def test_a_device_that_is_not_there_is_refused():
    assert chosen_device("cpu") == torch.device("cpu")
    if torch.cuda.is_available():
        assert chosen_device("auto").type == "cuda"
    else:
        assert chosen_device("auto") == torch.device("cpu")
        with pytest.raises(CardError, match=r"resources\.device: cuda, but torch .* finds no GPU"):
            chosen_device("cuda")


def test_compiling_without_a_compiler_is_refused(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(CardError, match=r"training\.compile.*'no-such-compiler', which is no program"):
        check_compiler(torch.device("cpu"))
    check_compiler(torch.device("cuda"))
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CardError, match=r"found none of g\+\+, clang\+\+"):
        check_compiler(torch.device("cpu"))


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch imports its own old parts
def test_a_compiled_network_trains_as_the_plain_one(tmp_path):
    jets = labelled_jets(180, seed=1), labelled_jets(90, seed=2)
    losses = []
    for compiled in (False, True):
        settings = Training(epochs=1, batch_size=50, compile=compiled)
        arguments = {"hidden": [8], "dropout": 0.0}
        recipe = Recipe(
            "net", tmp_path / str(compiled), "mlp", arguments, specification(), CLASSES, settings, None, 1, {}
        )
        trainer = Trainer(recipe, Stream.of_jets(*jets))
        trainer.run(Interruption())
        assert (trainer.module._compiled_call_impl is not None) == compiled
        losses.append([trainer.history[0][name] for name in ("training_loss", "validation_loss")])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


FACTORIES = {
    "arange",
    "zeros",
    "ones",
    "empty",
    "full",
    "tensor",
    "randn",
    "rand",
    "randperm",
    "randint",
    "eye",
    "linspace",
}
ON_THE_PROCESSOR = {"batch.py": {"zeros", "arange"}}
"""Flat inputs, from which batches are made."""


def without_device(path):
    """Calls of torch's factories that don't say where the tensor is, but for those that move with a module."""
    tree = ast.parse(path.read_text())
    inits = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
    moved = {id(inner) for node in inits for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and id(node) not in moved:
            of_torch = isinstance(node.func.value, ast.Name) and node.func.value.id == "torch"
            if of_torch and node.func.attr in FACTORIES and "device" not in {word.arg for word in node.keywords}:
                yield node.func.attr, f"{path.name}:{node.lineno}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "models").glob("*.py")), ids=lambda path: path.name)
def test_networks_make_tensors_where_their_inputs_are(path):
    """No GPU is at hand in most tests: a tensor made on the processor would only fail there."""
    allowed = ON_THE_PROCESSOR.get(path.name, set())
    assert [place for name, place in without_device(path) if name not in allowed] == []


@pytest.mark.parametrize("name", ["draws", "fgsm", "gradient", "noise", "normed_gradient", "pgd", "systematic"])
def test_attacks_make_tensors_where_their_inputs_are(name):
    assert list(without_device(PACKAGE / "attack" / f"{name}.py")) == []
