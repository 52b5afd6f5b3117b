"""What a training leaves in a model's folder besides checkpoints, and how it goes on from there.

`resume.pt` is written after the epoch's checkpoint and before `metrics.jsonl` and `best.json`, and when a training is
asked to stop within an epoch; a resumed training starts behind the epoch and the batch that it names. Whatever a kill
leaves beyond it is made again, bit for bit.
"""

from __future__ import annotations

import io
import json
import pickle
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import torch

from pfnano_tag.card.output import write_json, write_whole
from pfnano_tag.errors import CheckpointError
from pfnano_tag.evaluate.metrics import Metrics, best_of, grouped, is_known, kind_of
from pfnano_tag.infer.bookkeeping import checkpoint_path, epochs_of
from pfnano_tag.models.batch import Batch
from pfnano_tag.train.failure import FAILED_BATCH
from pfnano_tag.train.tensorboard import EVENTS

STATE_VERSION = 3
STATE = "resume.pt"
WRITTEN = (
    "best.json",
    "metrics.jsonl",
    "timing.json",
    STATE,
    "optimizer.pt",  # of versions that kept no place in the epoch
    "epoch_*.json",
    "epoch_*.safetensors",
    FAILED_BATCH,
    EVENTS,
)
"""Files of a training in its model's folder."""


@dataclass(frozen=True)
class Position:
    """Where a training stands in an epoch that it has not finished.

    Parameters
    ----------
    batches, jets : int
        Behind us.
    loss : float
        Sum of w l over them.
    weight : float
        Sum of w.
    """

    batches: int = 0
    jets: int = 0
    loss: float = 0.0
    weight: float = 0.0

    @property
    def mean_loss(self) -> float:
        """Mean loss of the epoch so far, sum(w l) / sum(w)."""
        return self.loss / self.weight if self.weight else 0.0

    def behind(self, batch: Batch, loss: float) -> Position:
        """The place behind one more batch, whose mean loss is given."""
        weight = 1.0 if batch.weight_B is None else float(batch.weight_B.sum())
        return Position(self.batches + 1, self.jets + len(batch), self.loss + weight * loss, self.weight + weight)


def is_trained(folder: Path) -> bool:
    """Whether the folder holds a (partly) trained model."""
    return bool(epochs_of(folder)) or (folder / STATE).exists()


def clear(folder: Path) -> None:
    """Remove a trained model: only files that a training writes."""
    for pattern in WRITTEN:
        for path in folder.glob(pattern):
            path.unlink()
    events = (folder / EVENTS).parent
    if events.is_dir() and not any(events.iterdir()):
        events.rmdir()


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write what a trainer needs to go on, with the random-number states of this moment.

    Parameters
    ----------
    folder : Path
        The model's folder.
    state : dict
        `epoch` (the last finished one), `position` (in the next), `recipe` (JSON content), and states of torch's
        objects.
    """
    random = {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}
    content = {"version": STATE_VERSION, "random": random} | state
    content |= {"position": astuple(state["position"]), "recipe": json.dumps(state["recipe"])}
    buffer = io.BytesIO()  # torch hides the system's error when it writes to a full disk itself
    torch.save(content, buffer)
    with write_whole(folder / STATE) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_state(folder: Path) -> dict[str, Any]:
    """Read what `save_state` wrote, and set the random-number states; no code in the file is run.

    Raises
    ------
    CheckpointError
        When it is missing, damaged, or of another version.
    """
    path = folder / STATE
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: missing, so the training can't be resumed; use --overwrite") from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path}: damaged, so the training can't be resumed: {error}") from error
    if not isinstance(state, dict) or state.get("version") != STATE_VERSION:
        raise CheckpointError(f"{path}: not the training state of this version ({STATE_VERSION}); use --overwrite")
    random = state.pop("random")
    torch.set_rng_state(random["cpu"])
    if len(random["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(random["cuda"])
    return state | {"position": Position(*state["position"]), "recipe": json.loads(state["recipe"])}


def read_metrics(folder: Path, last_epoch: int, metric: str) -> list[Metrics]:
    """Metrics of the epochs up to `last_epoch`, ascending.

    Raises
    ------
    CheckpointError
        When an epoch is missing, a line can't be read, or the metric that chooses the best epoch was not followed.
    """
    path = folder / "metrics.jsonl"
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        kept = [line for line in lines if line["epoch"] <= last_epoch]
        complete = [line["epoch"] for line in kept] == list(range(1, last_epoch + 1))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: can't be read: {error}") from error
    if not complete:
        kept = [_metrics_in_checkpoint(folder, epoch) for epoch in range(1, last_epoch + 1)]
    without = [line["epoch"] for line in kept if metric not in line]
    if without:
        names = grouped(name for name in kept[without[0] - 1] if kind_of(name) not in (None, "learning_rate"))
        raise CheckpointError(
            f"{path}: can't choose the best epoch by {metric}: epoch {without[0]} has {', '.join(names)}; set "
            "training.best to one of these, or start again with --overwrite"
        )
    return kept


def write_metrics(folder: Path, history: list[Metrics], metric: str) -> None:
    """Write `metrics.jsonl` (one line per epoch) and `best.json`: the epoch with the best value of a metric."""
    with write_whole(folder / "metrics.jsonl") as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in history), encoding="utf-8")
    best = best_of(history, metric)
    value = best.get(metric)
    content = {"epoch": best["epoch"], "metric": metric, "value": value if is_known(value) else None}
    write_json(folder / "best.json", content)


def _metrics_in_checkpoint(folder: Path, epoch: int) -> Metrics:
    """Metrics as the epoch's checkpoint has them, for a run that was killed before they were written."""
    path = checkpoint_path(folder, epoch)
    try:
        metrics: Metrics = json.loads(path.read_text(encoding="utf-8"))["training"]["metrics"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: can't be read, so the training can't be resumed: {error}") from error
    return metrics
