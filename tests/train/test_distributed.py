"""Two processes that train together: gradient, batch norm and metrics of one process, and one that writes."""

import shutil
from dataclasses import replace

import pytest
import torch
from synthetic import CLASSES, features, labelled_jets, specification

from pfnano_tag.card.attacks import Attack
from pfnano_tag.card.evaluation import Evaluation
from pfnano_tag.card.training import Training
from pfnano_tag.errors import CheckpointError, DataError, Incomplete
from pfnano_tag.models.batch import collate
from pfnano_tag.models.layers import RowNorm, in_step
from pfnano_tag.models.registry import build
from pfnano_tag.train.dataloader import Stream
from pfnano_tag.train.distributed import ALONE
from pfnano_tag.train.objective import Objective, make_loss
from pfnano_tag.train.recipe import Recipe
from pfnano_tag.train.validation import validate
from pfnano_tag.train.wrapper import Trainer
from tests.train.ranks import Ranks
from tests.train.stopping import StopAfter

ARGUMENTS = {
    "deepjet": {"charged": [8], "charged_lstm": 8, "dense": [8], "dropout": 0.0},
    "deepsets": {"phi": [8], "rho": [8]},
    "particle_transformer": {"embed": [8], "pair": [8], "heads": 2, "blocks": 1, "class_blocks": 1, "dropout": 0.0},
}
FGSM = Attack(kind="fgsm", epsilon=0.1)


@pytest.fixture(scope="module")
def ranks():
    with Ranks() as both:
        yield both


# numbers


def talk(world):
    rows = torch.arange(3.0 * world.rank).view(-1, 3)
    return (
        world.sums(1, world.rank + 0.5),
        world.table(world.rank).tolist(),
        world.gathered(rows).tolist(),
        world.told({"epoch": 3, "loss": 0.1 + 0.2, "auc": None} if world.leads else "nothing"),
    )


def test_what_processes_tell_each_other(ranks):
    first, second = ranks.run(talk)
    assert first == second
    assert first == ([2, 2], [[0], [1]], [[0, 1, 2]], {"epoch": 3, "loss": 0.1 + 0.2, "auc": None})
    assert ALONE.sums(1, 2.5) == [1, 2.5]
    assert ALONE.told(None) is None


# gradients


def batch_of(start, stop, dtype=torch.float64):
    """Jets of a sample, with weights that differ by a factor of thousands; the last ones have no vertices."""
    jets = labelled_jets(40, seed=3)
    jets = replace(jets, weight=jets.weight * torch.logspace(-2, 2, 40))
    batch = collate(jets.inputs, torch.arange(start, stop), jets.label, jets.weight)
    return batch.each(lambda x: x.to(dtype) if x.is_floating_point() else x)


def module_of(architecture):
    torch.manual_seed(1)
    return build(architecture, ARGUMENTS[architecture], features(), len(CLASSES)).double().train()


def gradients(world, architecture, cuts, settings, attack):
    """Loss, gradients and buffers after a batch whose jets cuts[rank] to cuts[rank + 1] are of this process."""
    module, chosen = module_of(architecture), Training(**settings)
    objective = Objective(make_loss(chosen, CLASSES), chosen, attack, specification(), 1, world)
    loss = objective.gradient(module, batch_of(*cuts[world.rank : world.rank + 2]), 1, 0)
    losses_P = world.add_gradients(module, loss)
    found = {name: parameter.grad for name, parameter in module.named_parameters() if parameter.grad is not None}
    return losses_P.sum(), found, dict(module.named_buffers())


WHOLE = {"constituents_at_once": None}
CASES = {
    "uneven": ("deepsets", [0, 31, 40], {}, None),
    "empty": ("deepsets", [0, 40, 40], {}, None),
    "empty_first": ("deepsets", [0, 0, 40], {}, None),
    "focal": ("deepsets", [0, 7, 40], {"loss": "focal"}, None),
    "adversarial": ("deepsets", [0, 25, 40], {"attack": "fgsm"}, FGSM),
    "kl": ("deepsets", [0, 9, 40], {"attack": "fgsm", "attack_loss": "kl"}, FGSM),
    "kl_empty": ("deepsets", [0, 40, 40], {"attack": "fgsm", "attack_loss": "kl"}, FGSM),
    "batch_norm": ("particle_transformer", [0, 29, 40], WHOLE, None),
    "batch_norm_empty": ("particle_transformer", [0, 40, 40], WHOLE, None),
    "batch_norm_parts": ("particle_transformer", [0, 0, 40], {"constituents_at_once": 100}, None),
    "batch_norm_uneven_parts": ("particle_transformer", [0, 29, 40], {"constituents_at_once": 60}, None),
    "batch_norm_kl": ("particle_transformer", [0, 12, 40], {**WHOLE, "attack": "fgsm", "attack_loss": "kl"}, FGSM),
    "deepjet": ("deepjet", [0, 31, 40], {}, None),
    "deepjet_without_constituents": ("deepjet", [0, 1, 40], {}, None),
    "deepjet_empty": ("deepjet", [0, 40, 40], {}, None),
}


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_one_process_with_the_union_of_the_batches(ranks, case):
    architecture, cuts, settings, attack = CASES[case]
    expected_loss, expected, buffers = gradients(ALONE, architecture, [0, 40], settings, attack)
    for loss, found, after in ranks.run(gradients, architecture, cuts, settings, attack):
        torch.testing.assert_close(loss, expected_loss, rtol=1e-10, atol=0)
        assert found.keys() == expected.keys()
        for name, gradient in found.items():
            torch.testing.assert_close(gradient, expected[name], rtol=1e-8, atol=1e-11, msg=name)
        for name, values in after.items():
            torch.testing.assert_close(values, buffers[name], rtol=1e-9, atol=1e-9, msg=name)


def test_parts_of_different_number_do_not_wait_for_each_other_for_ever(ranks):
    first, second = ranks.run(gradients, "particle_transformer", [0, 33, 40], {"constituents_at_once": 40}, None)
    for name, gradient in first[1].items():
        assert torch.equal(gradient, second[1][name])
        assert gradient.isfinite().all()


@pytest.mark.parametrize("cuts", [[0, 36, 40], [0, 4, 40]])
def test_processes_of_which_one_attacks_no_jet_do_not_wait_for_each_other_for_ever(ranks, cuts):
    """A tenth of 36 jets is attacked, and of 4 jets none: only one process has a divergence."""
    settings = {**WHOLE, "attack": "fgsm", "attack_loss": "kl", "attack_fraction": 0.1}
    first, second = ranks.run(gradients, "particle_transformer", cuts, settings, FGSM)
    for name, gradient in first[1].items():
        assert torch.equal(gradient, second[1][name])
        assert gradient.isfinite().all()


def normalised(world, cuts):
    """Output, gradients and running statistics of a norm whose rows are shared, for a loss that mixes columns."""
    generator = torch.Generator().manual_seed(5)
    rows = 1e3 + torch.randn(30, 4, generator=generator, dtype=torch.float64)
    factors = torch.randn(30, 4, generator=generator, dtype=torch.float64)
    norm = RowNorm(4).double()
    with torch.no_grad():
        norm.weight += torch.arange(4)
    own = slice(*cuts[world.rank : world.rank + 2])
    mine = rows[own].requires_grad_()
    with in_step() as tied:
        out = norm(mine)
        tied((factors[own] * out.sin()).sum()).backward()
    world.add_gradients(norm, torch.zeros((), dtype=torch.float64))
    return out.detach(), mine.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var


@pytest.mark.parametrize("cuts", [[0, 11, 30], [0, 30, 30], [0, 1, 2]])
def test_batch_norm_has_the_rows_of_all_processes(ranks, cuts):
    twin = normalised(ALONE, [0, cuts[-1]])
    found = ranks.run(normalised, cuts)
    for place in range(2):
        together = torch.cat([part[place] for part in found])
        torch.testing.assert_close(together, twin[place], rtol=1e-9, atol=1e-12)
    for part in found:
        for mine, theirs in zip(part[2:], twin[2:], strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-12)


def test_a_single_row_of_all_processes_is_normalised_with_the_running_statistics(ranks):
    out, gradient, *_, mean, variance = ranks.run(normalised, [0, 0, 1])[1]
    twin = normalised(ALONE, [0, 1])
    torch.testing.assert_close(out, twin[0])
    torch.testing.assert_close(gradient, twin[1])
    assert (mean == 0).all()
    assert (variance == 1).all()


def metrics_of(world, cuts):
    torch.manual_seed(2)
    module = build("deepsets", ARGUMENTS["deepsets"], features(), len(CLASSES))
    jets, loss = labelled_jets(90, seed=7), make_loss(Training(), CLASSES)
    chosen = torch.arange(*cuts[world.rank : world.rank + 2])
    part = replace(jets, inputs=jets.inputs.select(chosen), label=jets.label[chosen], weight=jets.weight[chosen])
    pools = [part] if len(part) else []
    return validate(module, pools, CLASSES, loss, 1000, Evaluation(), True, world)


@pytest.mark.parametrize("cuts", [[0, 13, 90], [0, 90, 90]])
def test_metrics_are_those_of_all_validation_jets(ranks, cuts):
    first, second = ranks.run(metrics_of, cuts)
    assert first == second
    assert first == pytest.approx(metrics_of(ALONE, [0, 90]), rel=1e-6)


# training


def recipe(folder, architecture="deepsets", **settings):
    arguments = {**ARGUMENTS[architecture], "dropout": 0.2}
    chosen = Training(**{"epochs": 3, "batch_size": 50, "schedule": "constant", **settings})
    return Recipe("net", folder, architecture, arguments, specification(), CLASSES, chosen, None, 1, {"card": "0"})


def stream_of(world, spoiled=None):
    """Stream of uneven shares: 41 and 139 training jets, 60 and 30 validation jets."""
    sizes, seed = ((41, 139), (60, 30)), 11 + world.rank
    training, validation = (labelled_jets(count[world.rank], seed=seed + 10 * i) for i, count in enumerate(sizes))
    if world.rank == spoiled:
        training.weight[17] = float("nan")
    stream = Stream.of_jets(training, validation)
    if world.size > 1:
        stream.share = replace(stream.share, rank=world.rank, training=sizes[0])
    return stream


def train(world, folder, architecture, stop=None, resume=False, spoiled=None, **settings):
    """Train in a folder of the rank's own; returns the words of what ended it, and the weights."""
    own = recipe(folder / f"rank{world.rank}", architecture, **settings)
    trainer = Trainer(own, stream_of(world, spoiled), world=world)
    if resume:
        trainer.restore()
    words = ""
    try:
        trainer.run(StopAfter(10**9 if stop is None or world.rank != 1 else stop))
    except (DataError, Incomplete) as error:
        words = f"{type(error).__name__}: {error}"
    return words, {name: values.clone() for name, values in trainer.module.state_dict().items()}


def content(folder):
    paths = [path for path in sorted(folder.iterdir()) if path.suffix in (".safetensors", ".jsonl")]
    return {path.name: path.read_bytes() for path in paths}


@pytest.mark.parametrize(
    ("architecture", "settings"), [("deepsets", {"ema_decay": 0.9}), ("particle_transformer", {"loss": "focal"})]
)
def test_stopped_and_resumed_is_uninterrupted_bit_for_bit_and_rank_0_writes(ranks, tmp_path, architecture, settings):
    """Only rank 1 is asked to stop, within the second epoch of four batches."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    (_, first), (_, second) = ranks.run(_train, whole, architecture, settings)
    assert all(torch.equal(values, second[name]) for name, values in first.items())
    stopped = [words for words, _ in ranks.run(_train, parts, architecture, settings, 5)]
    assert all("Incomplete: model net: epoch 2, behind batch 2 of 4" in words for words in stopped)
    (parts / "rank1").symlink_to("rank0")  # from now on both look at one folder
    ranks.run(_train, parts, architecture, settings, None, True)
    assert content(whole / "rank0") == content(parts / "rank0")
    assert "epoch_0003.safetensors" in content(whole / "rank0")
    assert not (whole / "rank1").exists()


def _train(world, folder, architecture, settings, stop=None, resume=False):
    return train(world, folder, architecture, stop, resume, **settings)


def test_another_number_of_processes_goes_on_behind_an_epoch_but_not_within_one(ranks, tmp_path, caplog):
    ranks.run(_train, tmp_path, "deepsets", {}, 5)
    with pytest.raises(
        CheckpointError, match=r"stopped behind batch 2 of an epoch that 2 processes shared: go on with 2"
    ):
        train(ALONE, tmp_path, "deepsets", resume=True)
    shutil.rmtree(tmp_path / "rank0")
    ranks.run(_train, tmp_path, "deepsets", {"epochs": 2})
    assert train(ALONE, tmp_path, "deepsets", resume=True)[0] == ""
    assert "model net was trained by 2 processes so far and goes on with 1" in caplog.text
    assert "epoch_0003.safetensors" in content(tmp_path / "rank0")


def _spoiled(world, folder):
    return train(world, folder, "particle_transformer", spoiled=1)[0]


def test_the_process_whose_jets_are_to_blame_says_so_and_all_stop(ranks, tmp_path):
    first, second = ranks.run(_spoiled, tmp_path)
    assert first.startswith("DataError: model net: loss nan in epoch 1")
    assert first.endswith("rank 1 says why")
    assert "its weights are not all finite" in second
    assert [path.name for path in tmp_path.rglob("*.*")] == ["failed_batch.safetensors"]
    assert (tmp_path / "rank1" / "failed_batch.safetensors").exists()
