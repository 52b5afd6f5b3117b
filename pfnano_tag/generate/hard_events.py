"""Hard events from Pythia, chunk by chunk, with the filter that a process may need."""

from __future__ import annotations

import numpy as np

from pfnano_tag.generate.event_record import concatenate_records, read_batch, select_events
from pfnano_tag.generate.processes import make_pythia, pythia_seed, settings_of
from pfnano_tag.generate.ragged import Array, Table
from pfnano_tag.generate.response import response_of
from pfnano_tag.generate.units import Unit

_MILLIBARN = 1e9  # in pb


class HardEvents:
    """Chunks of accepted hard events from Pythia, and the efficiency of the filter."""

    def __init__(self, unit: Unit, sequence: np.random.SeedSequence) -> None:
        lines = settings_of(unit.process, unit.options)
        mpi = unit.underlying_event == "pythia"
        self._pythia = make_pythia(lines, response_of(unit.physics).tune, mpi, pythia_seed(sequence))
        self._charm = unit.process == "wjets" and unit.options.flavour == "charm"
        self.tried = self.accepted = 0

    def _batch(self, events: int) -> tuple[Table, Array]:
        record, weights = read_batch(self._pythia.nextBatch(events))
        self.tried += events
        if not self._charm:
            self.accepted += events
            return record, weights
        outgoing = (record["status"] == -23) & (np.abs(record["id"]) == 4)
        keep = np.bincount(record.event[outgoing], minlength=events) > 0
        self.accepted += int(keep.sum())
        return select_events(record, keep), weights[keep]

    def take(self, events: int) -> tuple[Table, Array]:
        """The next `events` accepted events; with a filter the rest of the last batch is dropped."""
        record, weights = self._batch(events)
        records, parts = [record], [weights]
        while sum(len(p) for p in parts) < events:
            record, weights = self._batch(events)
            records.append(record)
            parts.append(weights)
        weights = np.concatenate(parts)
        keep = np.arange(len(weights)) < events
        record = records[0] if len(records) == 1 else concatenate_records(records)
        return (record, weights) if keep.all() else (select_events(record, keep), weights[keep])

    def cross_section(self) -> tuple[float, float]:
        """Cross section and its statistical error [pb], filter included."""
        info = self._pythia.infoPython()
        share = self.accepted / self.tried
        return info.sigmaGen() * _MILLIBARN * share, info.sigmaErr() * _MILLIBARN * share
