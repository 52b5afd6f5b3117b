"""A range test of the learning rate (Smith, arXiv:1506.01186, section 3.3): it rises from batch to batch.

The loss falls where the rate is large enough, and explodes where it is too large. The test begins with new weights,
and leaves a table and a picture beside a model's checkpoints, which it neither needs nor changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import numpy as np

from pfnano_tag.card.command import progress
from pfnano_tag.card.output import write_json
from pfnano_tag.errors import DataError, Incomplete
from pfnano_tag.models.batch import Batch
from pfnano_tag.train.interruption import Interruption
from pfnano_tag.train.optimisation import bound_gradient, set_learning_rate
from pfnano_tag.train.wrapper import Trainer

BATCHES = 140
"""Most batches of a test: twenty per decade."""
LOWEST, HIGHEST = 1e-6, 10.0
MEMORY = 0.9
"""How much of the smoothed loss is kept from batch to batch."""
EXPLODED = 3.0
"""The test ends where the smoothed loss is so many times its lowest."""
MARGIN = 10.0
"""The suggestion lies this factor below the rate at which the smoothed loss is lowest."""


@dataclass(frozen=True)
class RateScan:
    """Result of a range test.

    Parameters
    ----------
    rates : list of float
        Learning rate of each batch.
    losses : list of float
        Loss of each batch before its step.
    """

    rates: list[float]
    losses: list[float]

    @property
    def smoothed(self) -> list[float]:
        """Running mean `m = 0.9 m + 0.1 loss` over `1 - 0.9^n`, its sum of weights."""
        means, running = [], 0.0
        for number, loss in enumerate(self.losses, 1):
            running = MEMORY * running + (1 - MEMORY) * loss
            means.append(running / (1 - MEMORY**number))
        return means

    @property
    def suggestion(self) -> float | None:
        """A tenth of the rate at which the smoothed loss is lowest; None where it never fell."""
        lowest = int(np.argmin(self.smoothed))
        return self.rates[lowest] / MARGIN if lowest > 0 else None

    def in_words(self) -> str:
        """One line for people."""
        if self.suggestion is None:
            return "the loss never fell, so no learning rate is suggested"
        lowest = self.suggestion * MARGIN
        return f"learning rate {self.suggestion:.2g} suggested, a tenth of {lowest:.2g}, where the loss is lowest"


def rate_of(number: int) -> float:
    """Learning rate of a batch of the test: rises exponentially from `LOWEST` to `HIGHEST`."""
    return float(LOWEST * (HIGHEST / LOWEST) ** (number / (BATCHES - 1)))


def scan(trainer: Trainer, interruption: Interruption) -> RateScan:
    """Train with a rising learning rate until the loss explodes.

    Parameters
    ----------
    trainer : Trainer
        New, with nothing restored; its weights are of no use afterwards.
    interruption : Interruption
        Asked after each batch.

    Raises
    ------
    Incomplete
        When asked to stop.
    DataError
        When the loss is not finite at the lowest learning rate.
    """
    name, clip = trainer.recipe.name, trainer.recipe.settings.gradient_clip
    found = RateScan([], [])
    trainer.module.train()
    batches = progress(
        islice(_batches(trainer), BATCHES), total=BATCHES, description=f"{name} learning rate", unit="batches"
    )
    for place, (epoch, number, batch) in enumerate(batches):
        loss = trainer.objective.gradient(trainer.module, batch.to(trainer.device), epoch, number)
        value = float(trainer.world.add_gradients(trainer.module, loss).sum())
        if not np.isfinite(value):
            break
        found.rates.append(rate_of(place))
        found.losses.append(value)
        if found.smoothed[-1] > EXPLODED * min(found.smoothed):
            break
        set_learning_rate(trainer.optimizer, found.rates[-1])
        norm = bound_gradient(trainer.module, clip)
        if not bool(norm.isfinite()):
            break
        trainer.optimizer.step()
        if trainer.world.sums(interruption.asked)[0]:
            raise Incomplete(f"model {name}: stopped in the test of its learning rate; nothing was written")
    if not found.rates:
        raise DataError(f"model {name}: the loss of the first batch is not finite; `train` says why")
    return found


def write(folder: Path, name: str, found: RateScan) -> None:
    """Write `learning_rate.json` and `learning_rate.png` to the model's folder."""
    from pfnano_tag.plotting import curves  # a training does without matplotlib and its memory
    from pfnano_tag.plotting.style import save

    content = {"suggestion": found.suggestion, "rates": found.rates}
    content |= {"losses": found.losses, "smoothed": found.smoothed}
    write_json(folder / "learning_rate.json", content)
    rates = np.array(found.rates)
    lines = [
        curves.Curve("loss of a batch", rates, np.array(found.losses), colour="#9c9ca1"),
        curves.Curve("smoothed", rates, np.array(found.smoothed), colour="#5790fc"),
    ]
    drawn = curves.against_rate(lines, "training loss", found.suggestion, "Simulation", name)
    save(drawn, folder / "learning_rate.png")


def _batches(trainer: Trainer) -> Iterator[tuple[int, int, Batch]]:
    """Batches with epoch (from 1) and number (from 0), epoch after epoch."""
    for epoch in count(1):
        for number, batch in enumerate(trainer.loader.epoch(epoch)):
            yield epoch, number, batch
