"""What a training leaves in a model's folder besides checkpoints, and how it goes on from there.

`resume.pt` is written after the epoch's checkpoint and before `metrics.jsonl` and `best.json`, and when a training is
asked to stop within an epoch; a resumed training starts behind the epoch and the batch that it names. Whatever a kill
leaves beyond it is made again, bit for bit.
"""

from __future__ import annotations

import io
import json
import logging
import pickle
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pfnano_tag.card.output import write_json, write_whole
from pfnano_tag.errors import CheckpointError
from pfnano_tag.evaluate.metrics import Metrics, best_of, grouped, is_known, kind_of
from pfnano_tag.infer.bookkeeping import checkpoint_path, epochs_of
from pfnano_tag.train.distributed import World
from pfnano_tag.train.failure import FAILED_BATCH
from pfnano_tag.train.tensorboard import EVENTS

log = logging.getLogger(__name__)

STATE_VERSION = 4
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
        Behind us, in all processes.
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

    def behind(self, jets: int, weight: float, loss: float) -> Position:
        """The place behind one more batch, whose sum of weights and mean loss are given."""
        return Position(self.batches + 1, self.jets + jets, self.loss + weight * loss, self.weight + weight)


def is_trained(folder: Path) -> bool:
    """Whether the folder holds a (partly) trained model."""
    return bool(epochs_of(folder)) or (folder / STATE).exists()


def is_resumable(folder: Path) -> bool:
    """Whether a training goes on from what the folder holds.

    A kill between the first checkpoint and its state leaves an epoch that is made again from the start, bit for bit.
    """
    kept = any((folder / name).exists() for name in (STATE, "optimizer.pt", "metrics.jsonl", "best.json"))
    return is_trained(folder) and (kept or epochs_of(folder) != [1])


def clear(folder: Path) -> None:
    """Remove a trained model: only files that a training writes."""
    for pattern in WRITTEN:
        for path in folder.glob(pattern):
            path.unlink()
    events = (folder / EVENTS).parent
    if events.is_dir() and not any(events.iterdir()):
        events.rmdir()


def random_states(world: World, device: torch.device) -> dict[str, Tensor | None]:
    """States of torch's random numbers in all processes, one row per rank; None for a GPU where there is none."""
    on_gpu = torch.cuda.get_rng_state(device)[None] if device.type == "cuda" else None
    return {
        "cpu": world.gathered(torch.get_rng_state()[None]),
        "cuda": None if on_gpu is None else world.gathered(on_gpu),
    }


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write what a trainer needs to go on.

    Parameters
    ----------
    folder : Path
        The model's folder.
    state : dict
        `epoch` (the last finished one), `position` (in the next), `random` (from `random_states`), `recipe` (JSON
        content), and states of torch's objects.
    """
    content = {"version": STATE_VERSION} | state
    content |= {"position": astuple(state["position"]), "recipe": json.dumps(state["recipe"])}
    buffer = io.BytesIO()  # torch hides the system's error when it writes to a full disk itself
    torch.save(content, buffer)
    with write_whole(folder / STATE) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_state(folder: Path) -> dict[str, Any]:
    """Read what `save_state` wrote; no code in the file is run.

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
        raise _damaged(path, error) from error
    if not isinstance(state, dict) or state.get("version") != STATE_VERSION:
        raise CheckpointError(f"{path}: not the training state of this version ({STATE_VERSION}); use --overwrite")
    try:
        return state | {"position": Position(*state["position"]), "recipe": json.loads(state["recipe"])}
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, error) from error


def unfit(folder: Path, error: BaseException) -> CheckpointError:
    """What to say when the state of a folder does not fit the network that its recipe promises."""
    return CheckpointError(
        f"{folder / STATE}: does not fit the network ({_first_line(error)}), as after a change of the code; use "
        "--overwrite"
    )


def _damaged(path: Path, error: BaseException) -> CheckpointError:
    return CheckpointError(
        f"{path}: damaged, so the training can't be resumed ({_first_line(error)}); put back a whole copy, or use "
        "--overwrite"
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or ["no content"]
    return f"{type(error).__name__}: {lines[0][:200]}"


def set_random_states(states: dict[str, Tensor | None], world: World, device: torch.device, where: str) -> None:
    """Set the random numbers of this process to a state of `random_states`, kept by as many processes.

    Another number of processes goes on with new random numbers, which a warning says.

    Parameters
    ----------
    states, world, device
        As in `random_states`.
    where : str
        Whose training it is, for the warning.
    """
    assert states["cpu"] is not None
    if len(states["cpu"]) != world.size:
        log.warning(
            "%s was trained by %d processes so far and goes on with %d: its batches are others than without a stop",
            where,
            len(states["cpu"]),
            world.size,
        )
        return
    torch.set_rng_state(states["cpu"][world.rank].clone())  # torch reads beyond a row of a larger tensor
    if device.type == "cuda" and states["cuda"] is not None:
        torch.cuda.set_rng_state(states["cuda"][world.rank].clone(), device)


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
