"""How a command was started: alone, or as one of several processes, by torchrun or by SLURM's srun."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from pfnano_tag.errors import UserError

LOWEST_PORT, PORTS = 15000, 15000
"""Where the processes of a SLURM step meet: below the ports that systems give out by themselves (32768 and above)."""


@dataclass(frozen=True)
class Launch:
    """One process of several.

    Parameters
    ----------
    rank, size : int
        Which process, from 0, of how many.
    local_rank : int
        Which of those on its machine: the number of its GPU.
    address : str
        Machine of rank 0; empty for a process alone.
    port : int
        Where rank 0 waits for the others.
    by : str
        The program that has started them.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    address: str = ""
    port: int = 0
    by: str = ""


def launch_of(environment: Mapping[str, str] | None = None) -> Launch:
    """Read how this process was started from its environment.

    Parameters
    ----------
    environment : mapping of str, optional
        Variables; those of the process when not given.

    Raises
    ------
    UserError
        When the variables contradict each other, or some are missing.
    """
    known = os.environ if environment is None else environment
    if "RANK" in known and "WORLD_SIZE" in known:
        size = _number(known, "WORLD_SIZE")
        return Launch() if size == 1 else _checked(_by_torchrun(known, size))
    # The script of a batch job sees SLURM_NTASKS as well, but is one process: only srun sets the number of the step.
    if "SLURM_PROCID" in known and "SLURM_STEP_NUM_TASKS" in known:
        size = _number(known, "SLURM_STEP_NUM_TASKS")
        return Launch() if size == 1 else _checked(_by_srun(known, size))
    return Launch()


def _by_torchrun(known: Mapping[str, str], size: int) -> Launch:
    rank, port = _number(known, "RANK"), _number(known, "MASTER_PORT")
    return Launch(rank, size, _number(known, "LOCAL_RANK"), _text(known, "MASTER_ADDR"), port, "torchrun")


def _by_srun(known: Mapping[str, str], size: int) -> Launch:
    rank, local = _number(known, "SLURM_PROCID"), _number(known, "SLURM_LOCALID")
    address = known.get("MASTER_ADDR") or first_host(_text(known, "SLURM_STEP_NODELIST"))
    if "MASTER_PORT" in known:
        return Launch(rank, size, local, address, _number(known, "MASTER_PORT"), "srun")
    # Steps of one job, and jobs on one machine, meet at different ports.
    place = _number(known, "SLURM_JOB_ID") + 997 * _number(known, "SLURM_STEP_ID")
    return Launch(rank, size, local, address, LOWEST_PORT + place % PORTS, "srun")


def first_host(nodes: str) -> str:
    """First machine of a list as SLURM writes it: `gpu[03-05,09],login1` gives `gpu03`."""
    depth, end = 0, len(nodes)
    for place, letter in enumerate(nodes):
        depth += {"[": 1, "]": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            end = place
            break
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", nodes[:end])


def _checked(launch: Launch) -> Launch:
    if not (0 <= launch.rank < launch.size and launch.local_rank >= 0):
        raise UserError(f"{launch.by} started process {launch.rank} of {launch.size}: numbers count from 0")
    return launch


def _text(known: Mapping[str, str], name: str) -> str:
    if not known.get(name):
        raise UserError(
            f"environment variable {name}: not set, though others tell of several processes; start them with "
            "torchrun or srun, or unset WORLD_SIZE"
        )
    return known[name]


def _number(known: Mapping[str, str], name: str) -> int:
    text = _text(known, name)
    if not text.isdecimal():
        raise UserError(f"environment variable {name}: {text!r} is no whole number; torchrun or srun set it")
    return int(text)
