"""What a training leaves in a model's folder besides checkpoints, and how it goes on from there.

`optimizer.pt` is written after the epoch's checkpoint and before `metrics.jsonl` and `best.json`; the epoch it
names is the one a resumed training starts behind. Whatever a kill leaves beyond it is made again, bit for bit.
"""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import Any

import torch

from pfnano_tag.card.output import write_json, write_whole
from pfnano_tag.errors import CheckpointError
from pfnano_tag.infer.bookkeeping import checkpoint_path, epochs_of
from pfnano_tag.train.failure import forget

STATE_VERSION = 2
Metrics = dict[str, Any]


def is_trained(folder: Path) -> bool:
    """Whether the folder holds a (partly) trained model."""
    return bool(epochs_of(folder))


def clear(folder: Path) -> None:
    """Remove a trained model: only files that a training writes."""
    for pattern in ("best.json", "metrics.jsonl", "optimizer.pt", "epoch_*.json", "epoch_*.safetensors"):
        for path in folder.glob(pattern):
            path.unlink()
    forget(folder)


def save_state(folder: Path, epoch: int, state: dict[str, Any]) -> None:
    """Write a trainer's state (tensors, numbers, containers of them) and the random-number state behind an epoch."""
    content = {"version": STATE_VERSION, "epoch": epoch, "random": torch.get_rng_state()} | state
    buffer = io.BytesIO()  # torch hides the system's error when it writes to a full disk itself
    torch.save(content, buffer)
    with write_whole(folder / "optimizer.pt") as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_state(folder: Path) -> dict[str, Any]:
    """Read what `save_state` wrote; no code in the file is run.

    Raises
    ------
    CheckpointError
        When it is missing, damaged, or of another version.
    """
    path = folder / "optimizer.pt"
    try:
        state = torch.load(path, weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: missing, so the training can't be resumed; use --overwrite") from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path}: damaged, so the training can't be resumed: {error}") from error
    if not isinstance(state, dict) or state.get("version") != STATE_VERSION:
        raise CheckpointError(f"{path}: not the optimiser state of this version ({STATE_VERSION}); use --overwrite")
    return state


def read_metrics(folder: Path, last_epoch: int) -> list[Metrics]:
    """Metrics of the epochs up to `last_epoch`, ascending.

    Raises
    ------
    CheckpointError
        When an epoch is missing or a line can't be read.
    """
    path = folder / "metrics.jsonl"
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        kept = [line for line in lines if line["epoch"] <= last_epoch]
        complete = [line["epoch"] for line in kept] == list(range(1, last_epoch + 1))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: can't be read: {error}") from error
    if not complete:
        return [_metrics_in_checkpoint(folder, epoch) for epoch in range(1, last_epoch + 1)]
    return kept


def write_metrics(folder: Path, history: list[Metrics]) -> None:
    """Write `metrics.jsonl` (one line per epoch) and `best.json` (lowest validation loss, first of equals)."""
    with write_whole(folder / "metrics.jsonl") as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in history), encoding="utf-8")
    best = best_of(history)
    content = {"epoch": best["epoch"], "metric": "validation_loss", "value": best["validation_loss"]}
    write_json(folder / "best.json", content)


def best_of(history: list[Metrics]) -> Metrics:
    """The epoch with the lowest validation loss."""
    return min(history, key=lambda metrics: metrics["validation_loss"])


def _metrics_in_checkpoint(folder: Path, epoch: int) -> Metrics:
    """Metrics as the epoch's checkpoint has them, for a run that was killed before they were written."""
    path = checkpoint_path(folder, epoch)
    try:
        metrics: Metrics = json.loads(path.read_text(encoding="utf-8"))["training"]["metrics"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: can't be read, so the training can't be resumed: {error}") from error
    return metrics
