"""Production of files: under a temporary name, in worker processes, resumed, with a manifest.

The content of a file depends on its unit and the master seed alone: not on the other units, the number of
workers, or who made the pool of minimum-bias events.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import uproot

from pfnano_tag.card.command import progress
from pfnano_tag.card.output import write_json, write_whole
from pfnano_tag.errors import Incomplete, UserError
from pfnano_tag.generate.clustering import import_fastjet
from pfnano_tag.generate.hard_events import HardEvents
from pfnano_tag.generate.layouts import LAYOUTS
from pfnano_tag.generate.processes import PROCESS_IDS, import_pythia, pythia_seed
from pfnano_tag.generate.ragged import Array
from pfnano_tag.generate.response import response_of
from pfnano_tag.generate.simulation import Choices, identity, simulate
from pfnano_tag.generate.underlying_event import POOL_EVENTS, Pool, make_pool
from pfnano_tag.generate.units import CHUNK, MODES, Unit, versions
from pfnano_tag.generate.writing import FileWriter

log = logging.getLogger(__name__)
#: marks the provenance of a generated file
GENERATOR = "pfnano_tag"


def pool_for(mode: str, seed: int, events: int = POOL_EVENTS) -> Pool:
    """The minimum-bias pool of a mode and master seed."""
    sequence = np.random.SeedSequence([seed, PROCESS_IDS["minbias"], MODES.index(mode)])
    return make_pool(response_of(mode), pythia_seed(sequence), events)


def cached_pool(folder: Path, mode: str, seed: int, events: int) -> Path:
    """File of the pool in `folder`, made if it is not there; its name holds what it depends on."""
    content = json.dumps([seed, mode, asdict(response_of(mode)), events, versions()], sort_keys=True)
    path = folder / f"minbias_{mode}_{hashlib.sha256(content.encode()).hexdigest()[:12]}.npz"
    if not path.exists():
        log.info("making %d minimum-bias events (%s) for pile-up and underlying event", events, mode)
        pool_for(mode, seed, events).save(path)
    return path


def make_file(unit: Unit, path: str | Path, pool: Pool | None = None, show: bool = False) -> dict[str, Any]:
    """Make the file of a unit under a temporary name and renames it.

    Parameters
    ----------
    pool : Pool or None
        Minimum-bias pool of the unit's mode and seed; made here where it is None.
    show : bool
        Show a progress bar over chunks.

    Returns
    -------
    dict
        The file's provenance: settings, cross section [pb], counts, sums of weights, content hash.
    """
    unit.check()
    import_fastjet()
    import_pythia()
    if pool is None:
        pool = pool_for(unit.physics, unit.seed, unit.pool_events)
    hard = HardEvents(unit, np.random.SeedSequence(unit.entropy()))
    chunks: Iterable[tuple[int, int]] = unit.chunks()
    if show:
        chunks = progress(chunks, total=len(unit.chunks()), description=unit.name, unit="chunks")
    with write_whole(path) as temporary:
        layout = LAYOUTS[unit.layout]
        types = layout.types(unit.stored, unit.fat_jets)
        writer = FileWriter(temporary, layout, types, unit.compression, unit.container)
        totals = _Totals()
        for start, number in chunks:
            _add_chunk(unit, hard, pool, writer, totals, start, number)
        summary = _summary(unit, hard, totals)
        summary["content"] = writer.digest()
        writer.close(totals.lumis(), totals.runs(unit.stored), summary)
    return summary


def _add_chunk(
    unit: Unit, hard: HardEvents, pool: Pool, writer: FileWriter, totals: _Totals, start: int, number: int
) -> None:
    """Make and writes one chunk."""
    record, weights = hard.take(number)
    rng = np.random.default_rng(np.random.SeedSequence([*unit.entropy(), 1 + start // CHUNK]))
    choices = Choices(unit.underlying_event == "overlay", unit.stored, unit.candidates == "all", unit.fat_jets)
    chunk = simulate(record, weights, pool, response_of(unit.physics), choices, rng)
    ids = identity(unit.physics, unit.sample_number, unit.index, start, number, unit.events)
    writer.add(*LAYOUTS[unit.layout].content(chunk.with_scalars(ids)))
    totals.add(ids, weights, len(chunk.tables["Jet"]))


@dataclass
class _Totals:
    """Sums over the chunks of a file."""

    events: int = 0
    jets: int = 0
    sumw: float = 0.0
    sumw2: float = 0.0
    pairs: list[Array] = field(default_factory=list)

    def add(self, ids: dict[str, Array], weights: Array, jets: int) -> None:
        self.events += len(weights)
        self.jets += jets
        stored = weights.astype(np.float32).astype(np.float64)
        self.sumw += float(stored.sum())
        self.sumw2 += float((stored**2).sum())
        self.pairs.append(np.stack([ids["run"], ids["luminosityBlock"]], axis=1).astype(np.int64))

    def lumis(self) -> Array:
        return np.unique(np.concatenate(self.pairs), axis=0)

    def runs(self, mode: str) -> dict[str, Array]:
        """Columns of the `Runs` tree; data have only the run numbers."""
        runs = {"run": np.unique(self.lumis()[:, 0]).astype(np.uint32)}
        if mode == "mc":
            runs["genEventCount"] = np.array([self.events], np.int64)
            runs["genEventSumw"] = np.array([self.sumw])
            runs["genEventSumw2"] = np.array([self.sumw2])
        return runs


def _summary(unit: Unit, hard: HardEvents, totals: _Totals) -> dict[str, Any]:
    """Provenance of a file, as it comes back from JSON (tuples are lists)."""
    value, error = hard.cross_section()
    content = {
        "generator": GENERATOR,
        "note": "toy detector: nothing made with this file is a CMS result",
        **asdict(unit),
        "sample": unit.name,
        "settings": unit.settings_hash(),
        "versions": versions(),
        "cross_section_pb": value,
        "cross_section_error_pb": error,
        "filter_efficiency": hard.accepted / hard.tried,
        "num_events": totals.events,
        "num_jets": totals.jets,
        "sumw": totals.sumw,
        "sumw2": totals.sumw2,
    }
    return dict(json.loads(json.dumps(content)))


def read_summary(path: str | Path) -> dict[str, Any] | None:
    """Provenance of a generated file, None where it is missing or has none."""
    if not Path(path).exists():
        return None
    try:
        with uproot.open(path) as stored:
            keys = {key.split(";")[0] for key in stored.keys()}  # noqa: SIM118 (not a dict)
            if "tag" not in keys:
                return None
            content = json.loads(str(stored["tag"]))
    except (OSError, ValueError, KeyError, uproot.DeserializationError) as error:
        log.warning("%s can't be read (%s): it will be made again", path, error)
        return None
    return content if isinstance(content, dict) and content.get("generator") == GENERATOR else None


def _job(unit: Unit, path: Path, pool: Path) -> dict[str, Any]:
    """What a worker does."""
    return make_file(unit, path, Pool.load(pool))


def produce(units: list[Unit], folder: Path, workers: int, manifest: bool = True) -> dict[str, Any]:
    """Make all units that are not complete yet, and the manifest.

    Files are `folder/<sample>/<sample>_<index>.root`, the manifest is `folder/manifest.json`.  A file is
    complete, and skipped, if its stored settings hash is the unit's.  With `manifest` false none is written.

    Raises
    ------
    Incomplete
        A worker process died; what is complete stays.
    """
    import_fastjet()
    import_pythia()
    for unit in units:
        unit.check()
    _check_sample_numbers(units)
    paths = {unit: folder / unit.name / f"{unit.name}_{unit.index}.root" for unit in units}
    summaries = {}
    for unit, path in paths.items():
        stored = read_summary(path)
        if stored is not None and stored.get("settings") == unit.settings_hash():
            summaries[unit] = stored
    missing = [unit for unit in units if unit not in summaries]
    log.info("%d files: %d complete, %d to make", len(units), len(summaries), len(missing))
    keys = [(unit.physics, unit.seed, unit.pool_events) for unit in missing]
    pools = {key: cached_pool(folder, *key) for key in sorted(set(keys))}
    jobs = [(unit, paths[unit], pools[key]) for unit, key in zip(missing, keys, strict=True)]
    for unit, summary in progress(_run(jobs, workers), len(jobs), "generate", "files"):
        summaries[unit] = summary
    content = _manifest([(paths[unit].relative_to(folder), summaries[unit]) for unit in units])
    if manifest:
        write_json(folder / "manifest.json", content)
    return content


def _check_sample_numbers(units: list[Unit]) -> None:
    """Data samples whose names give the same number would share event numbers."""
    names: dict[int, str] = {}
    for unit in units:
        other = names.setdefault(unit.sample_number, unit.name)
        if unit.physics == "data" and other != unit.name:
            raise UserError(f"generate.samples: {other} and {unit.name} would get equal event numbers; rename one")


def _run(jobs: list[tuple[Unit, Path, Path]], workers: int) -> Iterator[tuple[Unit, dict[str, Any]]]:
    """Run jobs in fresh processes (or here, for one worker) and yields them as they end."""
    if workers == 1 or len(jobs) < 2:
        for unit, path, pool in jobs:
            yield unit, _job(unit, path, pool)
        return
    executor = ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn"))
    try:
        futures = {executor.submit(_job, *job): job[0] for job in jobs}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool as error:
        raise Incomplete(
            "a worker process died (out of memory, or killed); complete files stay: run the command again"
        ) from error
    finally:
        executor.shutdown(cancel_futures=True)


def _manifest(files: list[tuple[Path, dict[str, Any]]]) -> dict[str, Any]:
    """Manifest: per file its provenance, per sample totals and the mean cross section."""
    samples: dict[str, Any] = {}
    for name in dict.fromkeys(summary["sample"] for _, summary in files):
        own = [s for _, s in files if s["sample"] == name]
        weight = np.array([1.0 / max(s["cross_section_error_pb"], 1e-30) ** 2 for s in own])
        sigma = np.array([s["cross_section_pb"] for s in own])
        samples[name] = {
            "process": own[0]["process"],
            "mode": own[0]["mode"],
            "options": own[0]["options"],
            "cross_section_pb": float((weight * sigma).sum() / weight.sum()),
            "cross_section_error_pb": float(weight.sum() ** -0.5),
            "num_files": len(own),
        } | {key: sum(s[key] for s in own) for key in ("num_events", "num_jets", "sumw", "sumw2")}
    return {
        "versions": versions(),
        "samples": samples,
        "files": [{"path": str(path), **summary} for path, summary in files],
    }
