"""The training loop: epochs of batches, validation and a checkpoint after each."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from pfnano_tag.card.command import progress
from pfnano_tag.errors import CheckpointError, DataError, Incomplete
from pfnano_tag.evaluate.metrics import Metrics, best_of
from pfnano_tag.infer.bookkeeping import save_checkpoint
from pfnano_tag.models.batch import Batch
from pfnano_tag.models.device import CPU
from pfnano_tag.train.averaging import moving_average
from pfnano_tag.train.compilation import compile_network
from pfnano_tag.train.dataloader import Stream
from pfnano_tag.train.distributed import ALONE, World
from pfnano_tag.train.failure import cause_of, forget, is_spoiled, keep
from pfnano_tag.train.interruption import Interruption
from pfnano_tag.train.objective import Objective, make_loss, weight_of
from pfnano_tag.train.optimisation import bound_gradient, make_optimizer, rate_factor, set_learning_rate
from pfnano_tag.train.order import seed_of
from pfnano_tag.train.recipe import Recipe
from pfnano_tag.train.record import (
    Position,
    load_state,
    random_states,
    read_metrics,
    save_state,
    set_random_states,
    unfit,
    write_metrics,
)
from pfnano_tag.train.tensorboard import event_files
from pfnano_tag.train.timing import Clock, read_timings, write_timings
from pfnano_tag.train.validation import validate

log = logging.getLogger(__name__)

VALIDATED_BATCHES = 16
"""Batches whose jets are in memory together in validation, from which those of similar length are put together."""


class Stopped(Incomplete):
    """All processes have agreed to stop behind a batch."""


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
    world : World
        Processes that train the network together, each with its share of the jets.
    """

    def __init__(self, recipe: Recipe, stream: Stream, device: torch.device = CPU, world: World = ALONE) -> None:
        self.recipe, self.stream, self.device, self.world = recipe, stream, device, world
        torch.manual_seed(seed_of(recipe.seed, "weights"))
        self.module = recipe.network().to(device)
        if not world.leads:  # the same weights, but each process drops units of its own
            torch.manual_seed(seed_of(recipe.seed, "rank", world.rank))
        settings = recipe.settings
        self.optimizer = make_optimizer(settings, self.module.parameters())
        self.average = None if settings.ema_decay is None else moving_average(self.module, settings.ema_decay)
        if settings.compile:
            compile_network(self.module)  # behind the copy for the average, which takes no gradients
        self.loss = make_loss(settings, recipe.classes).to(device)
        self.objective = Objective(self.loss, settings, recipe.attack, recipe.inputs, recipe.seed, world)
        buckets = bool(self.module.wants_buckets)
        pin = device.type == "cuda"
        self.loader = stream.loader(
            settings.batch_size, settings.buffer, buckets, recipe.seed, pin, settings.resampling
        )
        self.history: list[Metrics] = []
        self.timings: list[Metrics] = []
        self.position = Position()
        self._jets_of_batch = 0

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
        self._check_place(state)
        try:
            self.module.load_state_dict(state["weights"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise unfit(folder, error) from error
        self.position = state["position"]
        set_random_states(state["random"], self.world, self.device, f"model {self.recipe.name}")
        if state["epoch"]:
            self.history = read_metrics(folder, state["epoch"], metric)
            self.timings = read_timings(folder, state["epoch"])
            self.world.wait()  # until all have read what is written anew
            if self.world.leads:
                write_metrics(folder, self.history, metric)

    def _check_place(self, state: dict[str, Any]) -> None:
        """Refuse to go on within an epoch with other jets or shares of them, or with two states of a training."""
        folder, place, before = self.recipe.folder, state["position"].batches, len(state["random"]["cpu"])
        if place and before != self.world.size:
            raise CheckpointError(
                f"{folder}: stopped behind batch {place} of an epoch that {before} processes shared: go on with "
                f"{before}, not {self.world.size}, or start again with --overwrite"
            )
        its, now = state.get("jets"), self._jets_hash
        if None not in (its, now) and its != now:
            if place:
                raise CheckpointError(
                    f"{folder}: stopped behind batch {place} of an epoch whose files, chunks or weights were others: "
                    "`prepare` has changed them since; prepare as before, or start again with --overwrite"
                )
            log.warning(
                "model %s goes on with other files, chunks or weights: `prepare` has changed them since its last "
                "epoch, so that its batches are others than without a stop",
                self.recipe.name,
            )
        mine = [state["epoch"], place]
        if self.world.told(mine) != mine:
            raise CheckpointError(
                f"{folder}: this process finds a training that stands behind epoch {mine[0]}, batch {place}, rank 0 "
                "finds another: put study.folder on a file system that all processes see"
            )

    @property
    def _jets_hash(self) -> str | None:
        """Which files, chunks and weights the jets have; None of jets that come from elsewhere."""
        return self.recipe.provenance.get("jets_hash")

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
        if self.world.leads:
            forget(folder)
        with event_files(folder, wanted and self.world.leads, self.history, self.timings) as self._add_events:
            self._epochs(interruption)

    def _epochs(self, interruption: Interruption) -> None:
        while self.epochs_done < self.recipe.settings.epochs and not self._impatient():
            epoch, before, clock = self.epochs_done + 1, self.position, Clock()
            try:
                if before.batches < len(self.loader):  # else stopped while validating
                    self._train_epoch(epoch, interruption)
                rate = clock.rate(self.loader.share.total - before.jets)
                metrics = {"epoch": epoch, "training_loss": self.position.mean_loss} | self._validate()
            except Incomplete as stop:
                raise self._stopped(epoch, stop) from stop
            metrics["learning_rate"] = self.optimizer.param_groups[0]["lr"]  # of the last step
            self.position = Position()
            self._record(metrics, clock.timing(epoch, rate))

    def _validate(self) -> Metrics:
        recipe, settings = self.recipe, self.recipe.settings
        pools = self.loader.alike(self.stream.validation(VALIDATED_BATCHES * settings.batch_size))
        metrics = validate(
            self.result,
            pools,
            recipe.classes,
            self.loss,
            settings.batch_size,
            recipe.evaluation,
            settings.validation_weights,
            self.world,
        )
        told: Metrics = self.world.told(metrics)  # all stop at the same epoch, though machines may round differently
        return told

    def _train_epoch(self, epoch: int, interruption: Interruption) -> None:
        """The training jets that are left of an epoch."""
        first = (epoch - 1) * len(self.loader)
        self.module.train()
        for number, batch in self._batches(epoch):
            set_learning_rate(self.optimizer, self._learning_rate(first + number))
            loss = self.objective.gradient(self.module, batch.to(self.device), epoch, number)
            losses_P = self.world.add_gradients(self.module, loss)
            self._step(losses_P, epoch, number, batch)
            jets, weight, asked = self.world.sums(len(batch), weight_of(batch), interruption.asked)
            self._jets_of_batch = int(jets)
            self.position = self.position.behind(int(jets), weight, float(losses_P.sum()))
            if asked:
                raise Stopped("stopped; go on with --resume")

    def _step(self, losses_P: Tensor, epoch: int, number: int, jets: Batch) -> None:
        """One step of the optimiser, with the gradient's norm bounded, and of the average."""
        if not torch.isfinite(losses_P.sum()):
            raise self._diverged("loss", losses_P, float(losses_P.sum()), epoch, number, jets)
        norm = bound_gradient(self.module, self.recipe.settings.gradient_clip)
        if not torch.isfinite(norm):
            raise self._diverged("gradient", losses_P, float(norm), epoch, number, jets)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.module)

    def _diverged(self, what: str, losses_P: Tensor, value: float, epoch: int, number: int, jets: Batch) -> DataError:
        """What went wrong, in the words of the process whose jets are to blame; the others name it."""
        recipe = self.recipe
        where = f"{what} {value} in epoch {epoch}, batch {number + 1} of {len(self.loader)}"
        spoiled_P = self.world.table(is_spoiled(jets))[:, 0] > 0
        blamed = [*spoiled_P.nonzero().flatten().tolist(), *(~losses_P.isfinite()).nonzero().flatten().tolist(), 0][0]
        words = f"rank {blamed} says why"
        if self.world.rank == blamed:
            kept = keep(recipe.folder, jets, {"model": recipe.name, "problem": where})
            cause = cause_of(jets, recipe.settings.learning_rate)
            words = f"{cause}; {kept}; {self.epochs_done} finished epochs are kept"
        self.world.wait()
        return DataError(f"model {recipe.name}: {where}; {words}")

    def _stopped(self, epoch: int, stop: Incomplete) -> Incomplete:
        """Keep what was trained of an epoch, and say where it ended.

        Where one process of several can't go on, the others don't know: the last state that was written stays.
        """
        place, name = self.position.batches, self.recipe.name
        together = isinstance(stop, Stopped) or self.world.size == 1
        if together and (self.epochs_done or place):
            self._save()
        return Incomplete(f"model {name}: epoch {epoch}, behind batch {place} of {len(self.loader)}: {stop}")

    def _batches(self, epoch: int) -> Iterator[tuple[int, Batch]]:
        done = self.position
        bar = progress(
            self.loader.epoch(epoch, done.batches),
            total=self.loader.share.total - done.jets,
            description=f"{self.recipe.name} epoch {epoch}/{self.recipe.settings.epochs}",
            unit="jets",
            level=logging.DEBUG,  # each epoch has a line of its own
            size=lambda _: self._jets_of_batch,
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

    def _save(self) -> None:
        """Write what a training needs to go on from here; none ends before: launchers end the others with it."""
        random = random_states(self.world, self.device)
        if self.world.leads:
            save_state(self.recipe.folder, self._state() | {"random": random})
        self.world.wait()

    def _state(self) -> dict[str, Any]:
        return {
            "epoch": self.epochs_done,
            "position": self.position,
            "recipe": self.recipe.to_json(),
            "jets": self._jets_hash,
            "weights": self.module.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def _record(self, metrics: Metrics, timing: Metrics) -> None:
        """Checkpoint, state to resume from, metrics: in this order (see `record`)."""
        self.history.append(metrics)
        self.timings.append(timing)
        recipe, leads = self.recipe, self.world.leads
        if leads:
            save_checkpoint(
                recipe.folder,
                recipe.name,
                metrics["epoch"],
                self.result,
                recipe.inputs,
                recipe.classes,
                recipe.architecture,
                recipe.arguments,
                recipe.provenance | recipe.description() | {"metrics": metrics, "processes": self.world.size},
            )
        self._save()
        if leads:
            write_metrics(recipe.folder, self.history, recipe.settings.best)
            write_timings(recipe.folder, self.timings)
        self._add_events(metrics, timing)
        log.info("%s", summary(recipe.name, metrics, recipe.settings.epochs, timing["jets_per_second"]))


def summary(name: str, metrics: Metrics, epochs: int, rate: float | None) -> str:
    """One line per epoch: losses, accuracy, AUCs, jets per second."""
    shown = {key: "-" if value is None else f"{value:.4f}" for key, value in metrics.items()}
    aucs = " ".join(f"{key.removeprefix('auc_')} {text}" for key, text in shown.items() if key.startswith("auc_"))
    return (
        f"{name} epoch {metrics['epoch']}/{epochs}: loss {shown['training_loss']}, validation "
        f"{shown['validation_loss']}, accuracy {metrics['validation_accuracy']:.3f}, AUC {aucs}; "
        f"{'-' if rate is None else f'{rate:.0f}'} jets/s"
    )
