"""The training as a whole: from the card to the folders of its models."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch

from pfnano_tag.card.card import Card
from pfnano_tag.card.folder import bind, model_folder, prepared_path
from pfnano_tag.errors import CardError, OutputError
from pfnano_tag.evaluate.metrics import best_of, check_metric, metric_names
from pfnano_tag.models.device import chosen_device
from pfnano_tag.prepare.prepared import Prepared, read_prepared
from pfnano_tag.train import rate_finder
from pfnano_tag.train.cache import USED
from pfnano_tag.train.compilation import check_compiler
from pfnano_tag.train.dataloader import Stream
from pfnano_tag.train.interruption import Interruption
from pfnano_tag.train.memory import MemoryPlan, check_memory, memory_plan
from pfnano_tag.train.objective import in_words, make_loss
from pfnano_tag.train.recipe import Recipe
from pfnano_tag.train.record import clear, is_trained
from pfnano_tag.train.tensorboard import summary_writer
from pfnano_tag.train.wrapper import Trainer

log = logging.getLogger(__name__)


def run(card: Card, models: Sequence[str] | None = None, resume: bool = False, overwrite: bool = False) -> None:
    """Train networks of the card, one after the other, on jets that are read once.

    Parameters
    ----------
    card : Card
        The study's card.
    models : sequence of str, optional
        Names of section `models`; all when not given.
    resume : bool
        Go on with models that were begun, where their last run ended.
    overwrite : bool
        Throw trained models away.

    Raises
    ------
    OutputError
        When a model is trained already and neither `resume` nor `overwrite` is set.
    UserError
        When the card, the prepared study, a checkpoint or the jets don't allow a training.
    Incomplete
        When stopped by a signal (`interruption.STOPPING`); what was trained by then is kept.
    """
    prepared, recipes = _begin(card, models)
    for recipe in recipes:
        if is_trained(recipe.folder) and not (resume or overwrite):
            raise OutputError(
                f"{recipe.folder}: model {recipe.name!r} is trained already; --resume goes on with it, "
                "--overwrite starts again"
            )
    device = chosen_device(card.resources.device)
    with Interruption() as interruption, _jets(card, prepared, recipes, interruption) as stream:
        for recipe in recipes:
            if overwrite:
                clear(recipe.folder)
            trainer = Trainer(recipe, stream, device)
            if resume and is_trained(recipe.folder):
                trainer.restore()
            _train(trainer, interruption)


def find_rates(card: Card, models: Sequence[str] | None = None) -> None:
    """Test which learning rates the networks of the card bear, and suggest one for each.

    Writes `learning_rate.json` and `learning_rate.png` to each model's folder; a trained model is not touched.

    Parameters
    ----------
    card, models
        As for `run`.

    Raises
    ------
    UserError
        When the card, the prepared study or the jets don't allow it.
    Incomplete
        When stopped by SIGTERM.
    """
    prepared, recipes = _begin(card, models)
    device = chosen_device(card.resources.device)
    with Interruption() as interruption, _jets(card, prepared, recipes, interruption) as stream:
        for recipe in recipes:
            found = rate_finder.scan(Trainer(recipe, stream, device), interruption)
            rate_finder.write(recipe.folder, recipe.name, found)
            log.info("%s: %s; see %s", recipe.name, found.in_words(), recipe.folder / "learning_rate.png")


def recipe_of(card: Card, prepared: Prepared, name: str) -> Recipe:
    """All that defines the training of a model of the card, apart from the jets."""
    settings = card.training_of(name)
    model = card.models[name]
    return Recipe(
        name=name,
        folder=model_folder(card, name),
        architecture=model.architecture,
        arguments=model.arguments,
        inputs=prepared.inputs,
        classes=prepared.classes,
        settings=settings,
        attack=None if settings.attack is None else card.attacks[settings.attack],
        seed=card.study.seed,
        provenance={
            "study": card.study.name,
            "card": card.hash(),
            "sections": prepared.sections,
            "labels": {"classes": list(prepared.classes), "merged": prepared.merged},
            "jets": {split: prepared.total(split) for split in USED},
            "threads": card.resources.threads,
            "torch": torch.__version__,
        },
        evaluation=card.evaluation,
    )


def plan(card: Card, models: Sequence[str] | None = None, find_rate: bool = False) -> str:
    """What `run` (or `find_rates`) would do, and the memory that it needs."""
    names = _chosen(card, models)
    prepared = read_prepared(prepared_path(card), card)
    lines = [f"jets: {prepared.total('train')} to train on, {prepared.total('validation')} to validate on"]
    for name in names:
        recipe = recipe_of(card, prepared, name)
        _check(recipe, prepared)
        module = recipe.network()
        size = sum(parameter.numel() for parameter in module.parameters())
        attack = f", {in_words(recipe.settings)}" if recipe.attack is not None else ""
        state = " (trained already)" if is_trained(recipe.folder) else ""
        work = f"{recipe.settings.epochs} epochs in"
        if find_rate:
            work, state = f"a test of the learning rate over at most {rate_finder.BATCHES}", ""
        lines.append(
            f"{name}: {recipe.architecture}, {size} parameters, {work} batches of "
            f"{recipe.settings.batch_size}{attack} -> {recipe.folder}{state}"
        )
    memory = _memory(card, prepared, [recipe_of(card, prepared, name) for name in names])
    return "\n".join([*lines, f"memory: {memory}, of {card.resources.memory:g} GB allowed"])


def _begin(card: Card, models: Sequence[str] | None) -> tuple[Prepared, list[Recipe]]:
    """Check what can be checked before anything is read."""
    names = _chosen(card, models)
    prepared = read_prepared(prepared_path(card), card)
    bind(card)
    torch.set_num_threads(card.resources.threads)
    recipes = [recipe_of(card, prepared, name) for name in names]
    device = chosen_device(card.resources.device)
    for recipe in recipes:
        _check(recipe, prepared)
        if recipe.settings.compile:
            check_compiler(device)
    return prepared, recipes


def _jets(card: Card, prepared: Prepared, recipes: Sequence[Recipe], interruption: Interruption) -> Stream:
    """Training and validation jets for all recipes."""
    memory = _memory(card, prepared, recipes)
    check_memory(card, prepared, memory)
    stream = Stream.of_study(card, prepared, memory, lambda: interruption.asked)
    log.info("%d jets to train on, %d to validate on; cache %s", *stream.jets.values(), memory.cache)
    return stream


def _memory(card: Card, prepared: Prepared, recipes: Sequence[Recipe]) -> MemoryPlan:
    vectors = any(bool(recipe.network().needs_vectors) for recipe in recipes)
    return memory_plan(card, prepared, [recipe.settings.buffer for recipe in recipes], vectors)


def _check(recipe: Recipe, prepared: Prepared) -> None:
    """Refuse what would not work before anything is read: arguments, classes, the best epoch's metric, extras."""
    recipe.network()
    make_loss(recipe.settings, recipe.classes)
    classes = [name for name in prepared.classes if prepared.total("validation", name)]
    key = f"training.best (model {recipe.name})"
    check_metric(key, recipe.settings.best, metric_names(recipe.evaluation, classes))
    if recipe.settings.tensorboard:
        summary_writer()


def _chosen(card: Card, models: Sequence[str] | None) -> list[str]:
    names = list(dict.fromkeys(models)) if models else list(card.models)
    if not names:
        raise CardError("section models is empty: name a model to train")
    for name in names:
        card.training_of(name)
    return names


def _train(trainer: Trainer, interruption: Interruption) -> None:
    name = trainer.recipe.name
    size = sum(parameter.numel() for parameter in trainer.module.parameters())
    log.info("%s: %s, %d parameters, from epoch %d", name, trainer.recipe.architecture, size, trainer.epochs_done + 1)
    trainer.run(interruption)
    metric = trainer.recipe.settings.best
    best = best_of(trainer.history, metric)
    value = "not known" if best[metric] is None else f"{best[metric]:.4f}"
    log.info("%s: best epoch %d, %s %s", name, best["epoch"], metric, value)
