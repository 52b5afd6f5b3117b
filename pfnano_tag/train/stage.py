"""The training as a whole: from the card to the folders of its models."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch

from pfnano_tag.card.card import Card
from pfnano_tag.card.expansion import in_words as scanned_in_words
from pfnano_tag.card.folder import bind, model_folder, prepared_path
from pfnano_tag.card.launch import Launch, launch_of
from pfnano_tag.errors import CardError, OutputError
from pfnano_tag.evaluate.metrics import best_of, check_metric, metric_names
from pfnano_tag.evaluate.tasks import task_metric_names
from pfnano_tag.models.device import chosen_device
from pfnano_tag.prepare.prepared import Prepared, read_prepared
from pfnano_tag.train import rate_finder
from pfnano_tag.train.cache import USED
from pfnano_tag.train.compilation import check_compiler
from pfnano_tag.train.dataloader import Stream
from pfnano_tag.train.distributed import World, device_of_rank, joined
from pfnano_tag.train.interruption import Interruption
from pfnano_tag.train.memory import MemoryPlan, check_memory, memory_plan
from pfnano_tag.train.objective import in_words, make_loss
from pfnano_tag.train.recipe import Recipe
from pfnano_tag.train.record import clear, is_resumable, is_trained, load_state
from pfnano_tag.train.resampling import Drawing, Population, drawing_of
from pfnano_tag.train.sharding import Share, share_of
from pfnano_tag.train.target_check import check_targets, check_task_names, targets_of
from pfnano_tag.train.tensorboard import summary_writer
from pfnano_tag.train.wrapper import Trainer

log = logging.getLogger(__name__)


def run(card: Card, models: Sequence[str] | None = None, resume: bool = False, overwrite: bool = False) -> None:
    """Train networks of the card, one after the other, on jets that are read once.

    Processes that torchrun or srun has started share the jets and the work; rank 0 writes the files.

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
    launch, device = _place(card)
    with joined(launch, device) as world:
        prepared, recipes = _begin(card, models, world, device)
        for recipe in recipes:
            if is_trained(recipe.folder) and not (resume or overwrite):
                raise OutputError(
                    f"{recipe.folder}: model {recipe.name!r} is trained already; --resume goes on with it, "
                    "--overwrite starts again"
                )
            if resume:  # refused before jets are read, where it can't go on
                _state_to_go_on_from(recipe)
        with Interruption() as interruption, _jets(card, prepared, recipes, interruption, world) as stream:
            for recipe in recipes:
                if overwrite and world.leads:
                    clear(recipe.folder)
                trainer = Trainer(recipe, stream, device, world)
                if resume and world.told(is_resumable(recipe.folder)):
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
        When stopped by a signal (`interruption.STOPPING`).
    """
    launch, device = _place(card)
    with joined(launch, device) as world:
        prepared, recipes = _begin(card, models, world, device)
        with Interruption() as interruption, _jets(card, prepared, recipes, interruption, world) as stream:
            for recipe in recipes:
                found = rate_finder.scan(Trainer(recipe, stream, device, world), interruption)
                if world.leads:
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
            "jets_hash": prepared.jets_hash,
            "threads": card.resources.threads,
            "torch": torch.__version__,
        },
        evaluation=card.evaluation,
    )


def plan(
    card: Card,
    models: Sequence[str] | None = None,
    find_rate: bool = False,
    resume: bool = False,
    overwrite: bool = False,
) -> str:
    """What `run` (or `find_rates`) would do, and the memory that it needs; refuses what they would refuse."""
    names = card.chosen_models(models)
    prepared = read_prepared(prepared_path(card), card)
    lines = [f"jets: {prepared.total('train')} to train on, {prepared.total('validation')} to validate on"]
    for name in names:
        recipe = recipe_of(card, prepared, name)
        _check(card, recipe, prepared)
        module = recipe.network()
        size = sum(parameter.numel() for parameter in module.parameters())
        attack = f", {in_words(recipe.settings)}" if recipe.attack is not None else ""
        state = "" if find_rate else _state_in_words(recipe, resume, overwrite)
        work = f"{recipe.settings.epochs} epochs in"
        if find_rate:
            work = f"a test of the learning rate over at most {rate_finder.BATCHES}"
        lines.append(
            f"{_titled(card, name)}: {recipe.architecture}, {size} parameters, {work} batches of "
            f"{recipe.settings.batch_size}{attack} -> {recipe.folder}{state}"
        )
        drawing = _drawing(recipe, prepared)
        lines += [] if drawing is None else [f"{name}: {drawing.in_words(recipe.classes)}"]
    launch = launch_of()
    share = share_of(prepared, launch.rank, launch.size)
    each = ""
    if launch.size > 1:
        lines.append(f"processes: {launch.size}, with {', '.join(map(str, share.training))} of the training jets")
        each = " of each process"
    memory = _memory(card, prepared, [recipe_of(card, prepared, name) for name in names], share)
    return "\n".join([*lines, f"memory{each}: {memory}, of {card.resources.memory:g} GB allowed"])


def _place(card: Card) -> tuple[Launch, torch.device]:
    """Which process of how many this is, and where its network goes."""
    launch = launch_of()
    return launch, device_of_rank(chosen_device(card.resources.device), launch)


def _begin(
    card: Card, models: Sequence[str] | None, world: World, device: torch.device
) -> tuple[Prepared, list[Recipe]]:
    """Check what can be checked before anything is read."""
    names = card.chosen_models(models)
    prepared = read_prepared(prepared_path(card), card)
    if world.leads:
        bind(card)
    torch.set_num_threads(card.resources.threads)
    recipes = [recipe_of(card, prepared, name) for name in names]
    for recipe in recipes:
        _check(card, recipe, prepared)
        if recipe.settings.compile:
            check_compiler(device)
    return prepared, recipes


def _jets(
    card: Card, prepared: Prepared, recipes: Sequence[Recipe], interruption: Interruption, world: World
) -> Stream:
    """Training and validation jets of this process for all recipes."""
    share = share_of(prepared, world.rank, world.size)
    memory = _memory(card, prepared, recipes, share)
    check_memory(card, prepared, memory)
    stream = Stream.of_study(card, prepared, memory, lambda: interruption.asked, share)
    total = {split: prepared.total(split) for split in USED}
    log.info("%d jets to train on, %d to validate on; cache %s", *total.values(), memory.cache)
    if world.size > 1:
        log.info("%d processes, with %s of the training jets", world.size, ", ".join(map(str, share.training)))
    return stream


def _memory(card: Card, prepared: Prepared, recipes: Sequence[Recipe], share: Share) -> MemoryPlan:
    networks = [recipe.network() for recipe in recipes]
    vectors = any(bool(network.needs_vectors) for network in networks)
    targets = sorted({name for network in networks for name in targets_of(network)})
    drawings = [drawing for recipe in recipes if (drawing := _drawing(recipe, prepared)) is not None]
    buffers = [recipe.settings.buffer for recipe in recipes]
    drawn = [share.drawn(drawing.jets).total for drawing in drawings]
    return memory_plan(card, prepared, buffers, vectors, targets, drawn, share)


def _drawing(recipe: Recipe, prepared: Prepared) -> Drawing | None:
    """How the jets of a network are drawn, known before they are read; None: they are not."""
    if recipe.settings.resampling is None:
        return None
    return drawing_of(recipe.settings.resampling, Population.of_tables(prepared.weights), recipe.name)


def _state_to_go_on_from(recipe: Recipe) -> dict[str, Any] | None:
    """State of a training that `--resume` would go on with; None where it would begin.

    Raises
    ------
    CheckpointError
        When it can't go on.
    """
    if not is_resumable(recipe.folder):
        return None
    state = load_state(recipe.folder)
    recipe.check(state["recipe"])
    return state


def _state_in_words(recipe: Recipe, resume: bool, overwrite: bool) -> str:
    """What becomes of a training that is there already."""
    if not is_trained(recipe.folder):
        return ""
    if overwrite:
        return " (trained already: begins again)"
    if not resume:
        return " (trained already: needs --resume or --overwrite)"
    state = _state_to_go_on_from(recipe)
    if state is None:
        return " (begins again)"
    batches = state["position"].batches
    place = f", batch {batches} of the next" if batches else ""
    return f" (goes on behind epoch {state['epoch']}{place})"


def _titled(card: Card, name: str) -> str:
    """Name of a model with what is scanned in it."""
    values = scanned_in_words(card.models[name])
    return f"{name} ({values})" if values else name


def _check(card: Card, recipe: Recipe, prepared: Prepared) -> None:
    """Refuse what would not work before anything is read: arguments, truth, classes, the best metric, extras."""
    try:
        module = recipe.network()
        check_targets(recipe.name, targets_of(module), prepared)
    except CardError as error:
        scanned = card.models[recipe.name].scanned
        where = recipe.name if scanned is None else f"{scanned.scan}.scan, {recipe.name}"
        raise CardError(f"models.{where}: {error}") from error
    make_loss(recipe.settings, recipe.classes)
    _drawing(recipe, prepared)
    classes = [name for name in prepared.classes if prepared.total("validation", name)]
    key = f"training.best (model {recipe.name})"
    tasks = task_metric_names(module.tasks) if module.targets else ()  # type: ignore[arg-type]
    if tasks:
        check_task_names(recipe.name, module, prepared.classes)
    check_metric(key, recipe.settings.best, (*metric_names(recipe.evaluation, classes), *tasks))
    if recipe.settings.tensorboard:
        summary_writer()


def _train(trainer: Trainer, interruption: Interruption) -> None:
    name = trainer.recipe.name
    size = sum(parameter.numel() for parameter in trainer.module.parameters())
    log.info("%s: %s, %d parameters, from epoch %d", name, trainer.recipe.architecture, size, trainer.epochs_done + 1)
    if trainer.loader.drawing is not None:
        log.info("%s: %s", name, trainer.loader.drawing.in_words(trainer.recipe.classes))
    trainer.run(interruption)
    metric = trainer.recipe.settings.best
    best = best_of(trainer.history, metric)
    value = "not known" if best[metric] is None else f"{best[metric]:.4f}"
    log.info("%s: best epoch %d, %s %s", name, best["epoch"], metric, value)
