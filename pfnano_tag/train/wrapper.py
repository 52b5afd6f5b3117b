"""The training loop: epochs of batches, validation and a checkpoint after each."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pfnano_tag.card.attacks import Attack
from pfnano_tag.card.command import progress
from pfnano_tag.card.evaluation import Evaluation
from pfnano_tag.card.training import Training
from pfnano_tag.errors import CheckpointError, DataError, Incomplete
from pfnano_tag.evaluate.metrics import Metrics, best_of
from pfnano_tag.infer.bookkeeping import Tagger, checkpoint_path, feature_counts, load_checkpoint, save_checkpoint
from pfnano_tag.models.batch import Batch
from pfnano_tag.models.registry import build, resolve
from pfnano_tag.prepare.inputs import InputSpec
from pfnano_tag.train.averaging import moving_average
from pfnano_tag.train.dataloader import Stream
from pfnano_tag.train.failure import cause_of, forget, keep
from pfnano_tag.train.interruption import Interruption
from pfnano_tag.train.objective import Objective, make_loss
from pfnano_tag.train.optimisation import bound_gradient, make_optimizer, rate_factor, set_learning_rate
from pfnano_tag.train.order import POOL, seed_of
from pfnano_tag.train.record import load_state, read_metrics, save_state, write_metrics
from pfnano_tag.train.tensorboard import event_files
from pfnano_tag.train.timing import Clock, read_timings, write_timings
from pfnano_tag.train.validation import validate

log = logging.getLogger(__name__)

MAY_DIFFER = {"epochs", "patience", "best", "tensorboard"}
"""Keys of section `training` that may change when a training is resumed."""


@dataclass(frozen=True)
class Recipe:
    """What defines a training, apart from the jets.

    Parameters
    ----------
    name : str
        Name of the model in the card.
    folder : Path
        Where its files go.
    architecture, arguments
        As in the model registry.
    inputs : InputSpec
        Inputs of the network.
    classes : tuple of str
        Flavour classes in the order of the outputs.
    settings : Training
        Section `training` with the model's overrides.
    attack : Attack or None
        Adversarial training: what `settings.attack` names.
    seed : int
        Of the study.
    provenance : dict
        JSON content for the checkpoint: card hash, labels, threads.
    evaluation : Evaluation
        Discriminants and mistag rates whose AUCs and efficiencies are followed.
    """

    name: str
    folder: Path
    architecture: str
    arguments: dict[str, Any]
    inputs: InputSpec
    classes: tuple[str, ...]
    settings: Training
    attack: Attack | None
    seed: int
    provenance: dict[str, Any]
    evaluation: Evaluation = field(default_factory=Evaluation)

    def description(self) -> dict[str, Any]:
        """What must be the same for a training to be resumed (its length, and how it is followed, may differ)."""
        settings = self.settings.model_dump(mode="json", exclude=MAY_DIFFER)
        attack = None if self.attack is None else self.attack.model_dump(mode="json", exclude={"scan"})
        return {"settings": settings, "attack": attack, "seed": self.seed}

    def network(self) -> nn.Module:
        """A new network, its weights drawn by torch's random numbers.

        Raises
        ------
        CardError
            When the architecture doesn't take the arguments.
        """
        features = feature_counts(self.inputs)
        return build(self.architecture, self.arguments, features, len(self.classes), self.classes)

    def check(self, tagger: Tagger) -> None:
        """Refuse to go on with a checkpoint of another recipe.

        Raises
        ------
        CheckpointError
            Names everything that differs.
        """
        mine = {
            "architecture": self.architecture,
            "arguments": resolve(self.architecture, self.arguments),
            "inputs": self.inputs,
            "classes": self.classes,
        } | self.description()
        its = {name: getattr(tagger, name, tagger.training.get(name)) for name in mine}
        if isinstance(its["settings"], dict):  # keys that the card did not have yet are at their defaults
            its["settings"] = Training().model_dump(mode="json", exclude=MAY_DIFFER) | its["settings"]
        different = [name for name, value in mine.items() if value != its[name]]
        if different:
            raise CheckpointError(
                f"{self.folder}: can't go on: the card's {', '.join(different)} differ from those of the checkpoint; "
                "undo the change, or start again with --overwrite"
            )


class Trainer:
    """Holds what changes during a training: weights, optimiser, history.

    Parameters
    ----------
    recipe : Recipe
        What to train, and how.
    stream : Stream
        Jets of the two splits.
    """

    def __init__(self, recipe: Recipe, stream: Stream) -> None:
        self.recipe, self.stream = recipe, stream
        torch.manual_seed(seed_of(recipe.seed, "weights"))
        self.module = recipe.network()
        settings = recipe.settings
        self.optimizer = make_optimizer(settings, self.module.parameters())
        self.average = None if settings.ema_decay is None else moving_average(self.module, settings.ema_decay)
        self.loss = make_loss(settings, recipe.classes)
        self.objective = Objective(self.loss, settings, recipe.attack, recipe.inputs, recipe.seed)
        buckets = bool(self.module.wants_buckets)
        self.loader = stream.loader(settings.batch_size, settings.buffer, buckets, recipe.seed)
        self.history: list[Metrics] = []
        self.timings: list[Metrics] = []
        self.running_loss = 0.0

    @property
    def epochs_done(self) -> int:
        """Epochs behind us."""
        return len(self.history)

    @property
    def result(self) -> nn.Module:
        """The network that is validated and saved: the moving average of the weights where there is one."""
        return self.module if self.average is None else self.average.module

    def restore(self) -> None:
        """Go on behind the last finished epoch: weights, optimiser, random numbers and history of that moment.

        Raises
        ------
        CheckpointError
            When the files can't be read, or were made by another recipe.
        """
        folder = self.recipe.folder
        state = load_state(folder)
        tagger = load_checkpoint(checkpoint_path(folder, state["epoch"]))
        self.recipe.check(tagger)
        if self.average is None:
            self.module.load_state_dict(tagger.module.state_dict())
        else:
            self.module.load_state_dict(state["weights"])
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        self.history = read_metrics(folder, state["epoch"], self.recipe.settings.best)
        self.timings = read_timings(folder, state["epoch"])
        write_metrics(folder, self.history, self.recipe.settings.best)

    def run(self, interruption: Interruption) -> None:
        """Train until the last epoch, or until the metric `best` has not improved for `patience` epochs.

        Raises
        ------
        Incomplete
            When asked to stop; the finished epochs are on disk.
        DataError
            When the loss or its gradient is not finite; the batch is kept in the model's folder.
        MissingExtra
            When event files are wanted, but TensorBoard is not installed.
        """
        folder, wanted = self.recipe.folder, self.recipe.settings.tensorboard
        forget(folder)
        with event_files(folder, wanted, self.history, self.timings) as self._add_events:
            self._epochs(interruption)

    def _epochs(self, interruption: Interruption) -> None:
        while self.epochs_done < self.recipe.settings.epochs and not self._impatient():
            epoch = self.epochs_done + 1
            clock = Clock()
            training_loss = self._train_epoch(epoch, interruption)
            rate = clock.rate(self.loader.jets)
            metrics = {"epoch": epoch, "training_loss": training_loss} | self._validate()
            metrics["learning_rate"] = self.optimizer.param_groups[0]["lr"]  # of the last step
            self._record(metrics, clock.timing(epoch, rate))

    def _validate(self) -> Metrics:
        recipe, settings = self.recipe, self.recipe.settings
        pools = self.stream.validation(POOL * settings.batch_size)
        return validate(
            self.result,
            pools,
            recipe.classes,
            self.loss,
            settings.batch_size,
            recipe.evaluation,
            settings.validation_weights,
        )

    def _train_epoch(self, epoch: int, interruption: Interruption) -> float:
        """One pass over all training jets; returns the mean loss sum(w l) / sum(w)."""
        first = (epoch - 1) * len(self.loader)
        self.module.train()
        total, weights = 0.0, 0.0
        for number, batch in self._batches(epoch):
            set_learning_rate(self.optimizer, self._learning_rate(first + number))
            loss = self.objective.gradient(self.module, batch, epoch, number)
            self._step(loss, epoch, number, batch)
            weight = 1.0 if batch.weight_B is None else float(batch.weight_B.sum())
            total, weights = total + weight * float(loss), weights + weight
            self.running_loss = total / weights if weights else 0.0
            if interruption.asked:
                raise Incomplete(
                    f"model {self.recipe.name}: stopped in epoch {epoch}; {self.epochs_done} finished epochs are "
                    "kept, go on with --resume"
                )
        return total / weights if weights else 0.0

    def _step(self, loss: Tensor, epoch: int, number: int, jets: Batch) -> None:
        """One step of the optimiser, with the gradient's norm bounded, and of the average."""
        if not torch.isfinite(loss):
            raise self._diverged("loss", float(loss), epoch, number, jets)
        norm = bound_gradient(self.module, self.recipe.settings.gradient_clip)
        if not torch.isfinite(norm):
            raise self._diverged("gradient", float(norm), epoch, number, jets)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.module)

    def _diverged(self, what: str, value: float, epoch: int, number: int, jets: Batch) -> DataError:
        recipe = self.recipe
        where = f"{what} {value} in epoch {epoch}, batch {number + 1} of {len(self.loader)}"
        kept = keep(recipe.folder, jets, {"model": recipe.name, "problem": where})
        return DataError(
            f"model {recipe.name}: {where}; {cause_of(jets, recipe.settings.learning_rate)}; {kept}; "
            f"{self.epochs_done} finished epochs are kept"
        )

    def _batches(self, epoch: int) -> Iterator[tuple[int, Batch]]:
        bar = progress(
            self.loader.epoch(epoch),
            total=self.loader.jets,
            description=f"{self.recipe.name} epoch {epoch}/{self.recipe.settings.epochs}",
            unit="jets",
            level=logging.DEBUG,  # each epoch has a line of its own
            size=len,
            note=lambda: f"loss {self.running_loss:.4f}",
        )
        return enumerate(bar)

    def _learning_rate(self, step: int) -> float:
        settings = self.recipe.settings
        return settings.learning_rate * rate_factor(settings.schedule, step, len(self.loader), settings.epochs)

    def _impatient(self) -> bool:
        patience = self.recipe.settings.patience
        if patience is None or not self.history:
            return False
        return self.epochs_done - best_of(self.history, self.recipe.settings.best)["epoch"] >= patience

    def _state(self) -> dict[str, Any]:
        """What a resumed training needs beside the checkpoint."""
        state: dict[str, Any] = {"optimizer": self.optimizer.state_dict()}
        if self.average is not None:
            state |= {"weights": self.module.state_dict(), "average": self.average.state_dict()}
        return state

    def _record(self, metrics: Metrics, timing: Metrics) -> None:
        """Checkpoint, state to resume from, metrics: in this order (see `record`)."""
        self.history.append(metrics)
        self.timings.append(timing)
        recipe = self.recipe
        save_checkpoint(
            recipe.folder,
            recipe.name,
            metrics["epoch"],
            self.result,
            recipe.inputs,
            recipe.classes,
            recipe.architecture,
            recipe.arguments,
            recipe.provenance | recipe.description() | {"metrics": metrics},
        )
        save_state(recipe.folder, metrics["epoch"], self._state())
        write_metrics(recipe.folder, self.history, recipe.settings.best)
        write_timings(recipe.folder, self.timings)
        self._add_events(metrics, timing)
        log.info("%s", summary(recipe.name, metrics, recipe.settings.epochs, timing["jets_per_second"]))


def summary(name: str, metrics: Metrics, epochs: int, rate: float) -> str:
    """One line per epoch: losses, accuracy, AUCs, jets per second."""
    shown = {key: "-" if value is None else f"{value:.4f}" for key, value in metrics.items()}
    aucs = " ".join(f"{key.removeprefix('auc_')} {text}" for key, text in shown.items() if key.startswith("auc_"))
    return (
        f"{name} epoch {metrics['epoch']}/{epochs}: loss {shown['training_loss']}, validation "
        f"{shown['validation_loss']}, accuracy {metrics['validation_accuracy']:.3f}, AUC {aucs}; "
        f"{rate:.0f} jets/s"
    )
