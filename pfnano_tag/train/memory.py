"""The memory that a training will use, known before anything is read, from the counts of the preparation."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pfnano_tag.card.card import Card
from pfnano_tag.errors import DataError
from pfnano_tag.nano.targets import of_group
from pfnano_tag.prepare.prepared import Prepared
from pfnano_tag.prepare.splitting import SPLITS
from pfnano_tag.train.cache import USED
from pfnano_tag.train.decoding import FILES_AT_ONCE
from pfnano_tag.train.readers import IN_FLIGHT
from pfnano_tag.train.sharding import Share, share_of

GB = 1e9

PROGRAM = 0.5 * GB
"""Libraries, activations and optimiser of a network of two million parameters."""
READER = 0.1 * GB
"""Libraries of a reader process."""
FILE = 0.018 * GB
"""An open file: uproot's description of 1800 branches."""
WORKING = 4
"""Memory to read a chunk, over the size of its branches: they, derived columns and scaled ones (2 to 3 measured)."""

VALUE, VECTOR, TARGET = 4 + 1, 16, 4
"""Bytes of a feature's value with its placeholder flag, of a four-vector, and of a truth target."""
JET = 8 + 4 + 3 * 16 + 32
"""Bytes of a jet's label, weight, places of constituents, and of its number in permutations."""


@dataclass(frozen=True)
class MemoryPlan:
    """What the training stream holds, in bytes.

    Parameters
    ----------
    cache : str
        `none`, `ram` or `scratch`.
    vectors : bool
        Whether four-vectors are read.
    targets : tuple of str
        Truth targets that are read.
    window : int
        Training jets in the shuffle buffer.
    parts : dict of float
        Memory by what it is for.
    scratch : int
        Disk space of the cache.
    in_flight : int
        Chunks per reader process that may be read ahead.
    keeps_validation : bool
        Whether validation jets stay in memory although there is no cache.
    """

    cache: str
    vectors: bool
    targets: tuple[str, ...]
    window: int
    parts: dict[str, float]
    scratch: int
    in_flight: int = IN_FLIGHT
    keeps_validation: bool = False

    @property
    def total(self) -> float:
        """All memory."""
        return sum(self.parts.values())

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {size / GB:.2f}" for name, size in self.parts.items())
        disk = f"; {self.scratch / GB:.2f} GB of disk for the cache" if self.scratch else ""
        return f"about {self.total / GB:.1f} GB ({parts}), cache {self.cache}{disk}"


def constituents_per_jet(prepared: Prepared) -> dict[str, float]:
    """Mean number of constituents of a kept jet, by group."""
    kept = max(1, sum(prepared.total(split) for split in SPLITS))
    return {
        group: max((prepared.defaults[f.id].entries for f in features if f.id in prepared.defaults), default=0) / kept
        for group, features in prepared.inputs.groups.items()
        if group != "jet"
    }


def bytes_per_jet(prepared: Prepared, vectors: bool, targets: Sequence[str] = ()) -> float:
    """Mean memory of a scaled jet."""
    size = float(JET) + VALUE * len(prepared.inputs.groups.get("jet", ())) + TARGET * len(of_group(targets, "jet"))
    for group, mean in constituents_per_jet(prepared).items():
        features, truth = prepared.inputs.groups[group], of_group(targets, group)
        size += mean * (VALUE * len(features) + VECTOR * vectors + TARGET * len(truth))
    return size


def memory_plan(
    card: Card,
    prepared: Prepared,
    buffers: Sequence[int],
    vectors: bool,
    targets: Sequence[str] = (),
    drawn: Sequence[int] = (),
    share: Share | None = None,
) -> MemoryPlan:
    """Choose the cache and add up the memory of one process.

    Parameters
    ----------
    card : Card
        Section `resources`.
    prepared : Prepared
        Counts of jets and constituents.
    buffers : sequence of int
        `training.buffer` of each network.
    vectors : bool
        Whether a network needs four-vectors.
    targets : sequence of str
        Truth targets that networks need.
    drawn : sequence of int
        Jets per epoch of networks that draw theirs.
    share : Share, optional
        Which jets the process reads; all when not given.
    """
    cache = card.resources.cache
    share = share_of(prepared) if share is None else share
    most = max([share.jets["train"], *drawn])
    buffer = share.buffer(max(buffers))
    if cache == "auto":
        held = _plan(card, prepared, "ram", buffer, vectors, targets, most, share)
        if held.total <= allowed(card):
            return held
        cache = "none"
    return _plan(card, prepared, cache, buffer, vectors, targets, most, share)


def _plan(
    card: Card,
    prepared: Prepared,
    cache: str,
    buffer: int,
    vectors: bool,
    targets: Sequence[str],
    most: int,
    share: Share,
) -> MemoryPlan:
    per_jet, used = bytes_per_jet(prepared, vectors, targets), share.jets
    chunks = max(1, sum(map(len, share.chunks)))
    block = per_jet * sum(used.values()) / chunks
    readers = card.resources.readers
    files = FILE * min(FILES_AT_ONCE, sum(map(bool, share.chunks)))
    working = WORKING * card.resources.chunk_bytes + files
    window = round(min(buffer, most) + most / chunks)
    parts = {"program": PROGRAM}
    if cache == "ram":
        parts["jets"] = per_jet * sum(used.values())
    else:
        parts["shuffle buffer"] = per_jet * window
    if readers:
        parts[f"{readers} reader{'s' if readers > 1 else ''}"] = readers * (READER + working)
        parts["chunks in flight"] = (IN_FLIGHT * readers + 1) * block
    else:
        parts["reading"] = working + block
    scratch = round(per_jet * sum(used.values())) if cache == "scratch" else 0
    plan = MemoryPlan(cache, vectors, tuple(targets), window, parts, scratch)
    return _with_spare(plan, allowed(card), per_jet * used["validation"], block, readers) if cache == "none" else plan


def _with_spare(plan: MemoryPlan, limit: float, validation: float, block: float, readers: int) -> MemoryPlan:
    """Use memory that is left: keep the validation jets, and read ahead up to half of the shuffle buffer.

    While a network learns from half of the buffer, a reader could otherwise wait with its `IN_FLIGHT` chunks.

    Parameters
    ----------
    plan : MemoryPlan
        What is needed.
    limit, validation, block : float
        Memory that may be used, of all validation jets, and of a chunk's jets [bytes].
    readers : int
        Reader processes.
    """
    if plan.total + validation <= limit:
        plan = replace(plan, parts=plan.parts | {"validation jets": validation}, keeps_validation=True)
    if not readers or not block:  # a process may have no chunks of its own
        return plan
    wanted = math.ceil(plan.parts["shuffle buffer"] / 2 / block / readers) - IN_FLIGHT
    more = max(0, min(wanted, int((limit - plan.total) / (readers * block))))
    in_flight = {"chunks in flight": plan.parts["chunks in flight"] + more * readers * block}
    return replace(plan, parts=plan.parts | in_flight, in_flight=IN_FLIGHT + more)


def allowed(card: Card) -> float:
    """Memory that may be used: the card's, or the machine's where that is less."""
    return min(card.resources.memory * GB, _machine())


def check_memory(card: Card, prepared: Prepared, plan: MemoryPlan) -> None:
    """Refuse a training that does not fit into memory, before anything is read.

    Raises
    ------
    DataError
        With what is needed, what is allowed, and what to do.
    """
    if plan.total <= allowed(card):
        return
    jets = sum(prepared.total(split) for split in USED)
    lower = ["training.buffer"] if plan.cache != "ram" else []
    lower += [*(["resources.readers"] if card.resources.readers else []), "resources.chunk"]
    advice = f"lower {', '.join(lower[:-1])} or {lower[-1]}" if len(lower) > 1 else f"lower {lower[0]}"
    if plan.cache == "ram":
        advice = f"set resources.cache=auto, or {advice}"
    if plan.total <= _machine():
        advice = f"raise resources.memory to {math.ceil(plan.total / GB * 10) / 10:.1f} or more, or {advice}"
        limit = f"resources.memory allows {card.resources.memory:g} GB"
    else:
        limit = f"this machine has {_machine() / GB:.1f} GB"
    raise DataError(f"training on {jets} jets needs {plan}; {limit}: {advice}")


def _machine() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
