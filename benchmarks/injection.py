"""Faults of a process: killed at a place of its work, as by the system or by a batch system."""

from __future__ import annotations

import multiprocessing
import os
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from pfnano_tag.analyze import ledger, stage
from pfnano_tag.errors import Incomplete, UserError
from pfnano_tag.nano import baskets

PLACES = ("before", "reading", "predicting", "saving", "saved")
"""Where in the work on a chunk: before it, while reading its baskets, while networks run on it, in the middle of
writing its partial result, and when that is written but not yet noted as done."""


def die_at(place: str, number: int, with_signal: int = signal.SIGKILL) -> list[Any]:
    """Return patches that send this process a signal in the chunk that it begins as the number-th."""
    begun = [0]
    real = {
        "before": stage.process_chunk,
        "reading": baskets._fetched,
        "predicting": stage.fill_scores,
        "saving": np.savez,
        "saved": ledger.Ledger.save,
    }

    def die() -> None:
        os.kill(os.getpid(), with_signal)

    def before(*arguments: Any) -> Any:
        begun[0] += 1
        if place == "before" and begun[0] == number:
            die()
        return real["before"](*arguments)

    def reading(*arguments: Any) -> Any:
        if place == "reading" and begun[0] == number:
            die()
        return real["reading"](*arguments)

    def predicting(*arguments: Any) -> Any:
        if place == "predicting" and begun[0] == number:
            die()
        return real["predicting"](*arguments)

    def saving(file: Any, **content: Any) -> Any:
        if place == "saving" and begun[0] == number:
            file.write(b"PK half of it")
            file.flush()
            die()
        return real["saving"](file, **content)

    def saved(self: Any, chunk: int, partial: Any) -> None:
        real["saved"](self, chunk, partial)
        if place == "saved" and begun[0] == number:
            die()

    return [
        patch.object(stage, "process_chunk", before),
        patch.object(baskets, "_fetched", reading),
        patch.object(stage, "fill_scores", predicting),
        patch.object(np, "savez", saving),
        patch.object(ledger.Ledger, "save", saved),
    ]


def in_process(work: Callable[[], object], patches: list[Any]) -> int:
    """Do some work in a process of its own; return its exit code (minus the signal, where one killed it)."""

    def run() -> None:
        for one in patches:
            one.start()
        try:
            work()
        except Incomplete:
            os._exit(75)
        except UserError:
            os._exit(2)
        os._exit(0)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of torch: one each, none at work
        process = multiprocessing.get_context("fork").Process(target=run)
        process.start()
    process.join()
    return int(process.exitcode or 0)


def chunks_done(output: Path) -> int:
    """Return how many partial results a job has left."""
    return len(list(ledger.ledger_folder(output).glob("chunk_*.npz")))
