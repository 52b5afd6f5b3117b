"""The training loop: epochs of batches, validation and a checkpoint after each."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from pfnano_tag.card.command import progress
from pfnano_tag.errors import DataError, Incomplete
from pfnano_tag.evaluate.metrics import Metrics, best_of
from pfnano_tag.infer.bookkeeping import save_checkpoint
from pfnano_tag.models.batch import Batch
from pfnano_tag.models.device import CPU
from pfnano_tag.train.averaging import moving_average
from pfnano_tag.train.compilation import compile_network
from pfnano_tag.train.dataloader import Stream
from pfnano_tag.train.failure import cause_of, forget, keep
from pfnano_tag.train.interruption import Interruption
from pfnano_tag.train.objective import Objective, make_loss
from pfnano_tag.train.optimisation import bound_gradient, make_optimizer, rate_factor, set_learning_rate
from pfnano_tag.train.order import POOL, seed_of
from pfnano_tag.train.recipe import Recipe
from pfnano_tag.train.record import Position, load_state, read_metrics, save_state, write_metrics
from pfnano_tag.train.tensorboard import event_files
from pfnano_tag.train.timing import Clock, read_timings, write_timings
from pfnano_tag.train.validation import validate

log = logging.getLogger(__name__)


class Trainer:
    """Holds what changes during a training: weights, optimiser, history.

    Parameters
    ----------
    recipe : Recipe
        What to train, and how.
    stream : Stream
        Jets of the two splits.
    device : torch.device
        Where the network is; the same weights are drawn for any.
    """

    def __init__(self, recipe: Recipe, stream: Stream, device: torch.device = CPU) -> None:
        self.recipe, self.stream, self.device = recipe, stream, device
        torch.manual_seed(seed_of(recipe.seed, "weights"))
        self.module = recipe.network().to(device)
        settings = recipe.settings
        self.optimizer = make_optimizer(settings, self.module.parameters())
        self.average = None if settings.ema_decay is None else moving_average(self.module, settings.ema_decay)
        if settings.compile:
            compile_network(self.module)  # behind the copy for the average, which takes no gradients
        self.loss = make_loss(settings, recipe.classes).to(device)
        self.objective = Objective(self.loss, settings, recipe.attack, recipe.inputs, recipe.seed)
        buckets = bool(self.module.wants_buckets)
        pin = device.type == "cuda"
        self.loader = stream.loader(settings.batch_size, settings.buffer, buckets, recipe.seed, pin)
        self.history: list[Metrics] = []
        self.timings: list[Metrics] = []
        self.position = Position()

    @property
    def epochs_done(self) -> int:
        """Epochs behind us."""
        return len(self.history)

    @property
    def result(self) -> nn.Module:
        """The network that is validated and saved: the moving average of the weights where there is one."""
        return self.module if self.average is None else self.average.module

    def restore(self) -> None:
        """Go on where the last run ended: weights, optimiser, random numbers, history, and place in the epoch.

        Raises
        ------
        CheckpointError
            When the files can't be read, or were made by another recipe.
        """
        folder, metric = self.recipe.folder, self.recipe.settings.best
        state = load_state(folder)
        self.recipe.check(state["recipe"])
        self.module.load_state_dict(state["weights"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.position = state["position"]
        if state["epoch"]:
            self.history = read_metrics(folder, state["epoch"], metric)
            self.timings = read_timings(folder, state["epoch"])
            write_metrics(folder, self.history, metric)

    def run(self, interruption: Interruption) -> None:
        """Train until the last epoch, or until the metric `best` has not improved for `patience` epochs.

        Raises
        ------
        Incomplete
            When asked to stop; what was trained by then is on disk, within an epoch as well.
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
            epoch, before, clock = self.epochs_done + 1, self.position, Clock()
            try:
                training_loss = self._train_epoch(epoch, interruption)
            except Incomplete as stop:
                raise self._stopped(epoch, stop) from stop
            rate = clock.rate(self.loader.jets - before.jets)
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
        """The training jets that are left of an epoch; returns the epoch's mean loss sum(w l) / sum(w)."""
        first = (epoch - 1) * len(self.loader)
        self.module.train()
        for number, batch in self._batches(epoch):
            set_learning_rate(self.optimizer, self._learning_rate(first + number))
            loss = self.objective.gradient(self.module, batch.to(self.device), epoch, number)
            self._step(loss, epoch, number, batch)
            self.position = self.position.behind(batch, float(loss))
            if interruption.asked:
                raise Incomplete("stopped; go on with --resume")
        mean, self.position = self.position.mean_loss, Position()
        return mean

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

    def _stopped(self, epoch: int, stop: Incomplete) -> Incomplete:
        """Keep what was trained of an epoch, and say where it ended."""
        place, name = self.position.batches, self.recipe.name
        if self.epochs_done or place:
            save_state(self.recipe.folder, self._state())
        return Incomplete(f"model {name}: epoch {epoch}, behind batch {place} of {len(self.loader)}: {stop}")

    def _batches(self, epoch: int) -> Iterator[tuple[int, Batch]]:
        done = self.position
        bar = progress(
            self.loader.epoch(epoch, done.batches),
            total=self.loader.jets - done.jets,
            description=f"{self.recipe.name} epoch {epoch}/{self.recipe.settings.epochs}",
            unit="jets",
            level=logging.DEBUG,  # each epoch has a line of its own
            size=len,
            note=lambda: f"loss {self.position.mean_loss:.4f}",
        )
        return enumerate(bar, done.batches)

    def _learning_rate(self, step: int) -> float:
        settings = self.recipe.settings
        return settings.learning_rate * rate_factor(settings.schedule, step, len(self.loader), settings.epochs)

    def _impatient(self) -> bool:
        patience = self.recipe.settings.patience
        if patience is None or not self.history:
            return False
        return self.epochs_done - best_of(self.history, self.recipe.settings.best)["epoch"] >= patience

    def _state(self) -> dict[str, Any]:
        """What a training needs to go on from here."""
        return {
            "epoch": self.epochs_done,
            "position": self.position,
            "recipe": self.recipe.to_json(),
            "weights": self.module.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

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
        save_state(recipe.folder, self._state())
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
