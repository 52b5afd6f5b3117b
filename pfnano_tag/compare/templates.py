"""Templates for fits: `comparison/templates/VARIABLE[_MODEL][_VARIANT]` as .root, .txt (Combine), .json (pyhf).

A channel is a region, a process a flavour or a dataset (`comparison.stack_by`); simulation is normalised to
luminosity, whatever the pictures show. Bins are those of the pictures: flow in the edge bins, jets without a score
left out. The ROOT file holds TH1D `REGION/PROCESS`, `REGION/PROCESS_SOURCEUp`, `REGION/PROCESS_SOURCEDown` and
`REGION/data_obs`; a variation without its opposite gets its mirror image. Templates can't be negative: such bins
become 0, and are counted. Regions that a fit with Poisson counts can't use are left out with the reason.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import uproot

from pfnano_tag.analyze.result import NO_MODEL, NOMINAL, Array, Variable
from pfnano_tag.analyze.variables import flavours_of
from pfnano_tag.card.card import Card
from pfnano_tag.card.output import write_json, write_whole
from pfnano_tag.compare.blinding import Windows, hidden_bins
from pfnano_tag.compare.histograms import th1d
from pfnano_tag.compare.merging import Rows, total
from pfnano_tag.compare.parts import Part, parts_of
from pfnano_tag.compare.shifts import Source, sources_of
from pfnano_tag.compare.stacks import visible
from pfnano_tag.compare.workspaces import Channel, Process, datacard, workspace
from pfnano_tag.errors import CardError, nearest

log = logging.getLogger(__name__)


def components_of(card: Card) -> tuple[str, ...]:
    """Return the processes that simulation can be split into, in the card's order."""
    if card.comparison.stack_by == "dataset":
        return tuple(dataset.name for dataset in card.datasets_for("analyze") if dataset.kind == "mc")
    return flavours_of(card, "mc")


@dataclass
class Templates:
    """Writes the templates of chosen variables as `compare_all` comes to them.

    Parameters
    ----------
    folder : Path
        `comparison/templates`; files of an earlier comparison are removed.
    variables : sequence of str
        Names of variables.
    signal : str
        Process whose rate is measured.
    blind : mapping
        Windows of the card in which data are not looked at.
    written : list of dict
        What was written, for the results: variable, model, variant, files, channels, and what was left out.
    """

    folder: Path
    variables: Sequence[str]
    signal: str
    blind: Windows = field(default_factory=dict)
    written: list[dict[str, Any]] = field(default_factory=list)

    @staticmethod
    def of(card: Card, folder: Path, variables: Sequence[str], signal: str | None = None) -> Templates:
        """Return the writer of a study's templates.

        Raises
        ------
        CardError
            When a variable is blinded, or the signal is no process.
        """
        blinded = [name for name in variables if name in card.comparison.blind]
        if blinded:
            raise CardError(_blinded(blinded[0]))
        known = components_of(card)
        chosen = signal or known[0]
        if chosen not in known:
            hint = nearest(chosen, known) or known
            raise CardError(f"--signal {chosen}: no process of simulation; nearest: {', '.join(hint)}")
        return Templates(folder, tuple(dict.fromkeys(variables)), chosen, card.comparison.blind)

    def check(self, known: Mapping[str, Variable]) -> None:
        """Refuse variables that the job outputs lack, that have two axes, or that are blinded by another's window.

        Raises
        ------
        CardError
            Naming the nearest variables.
        """
        names = sorted(name for name, variable in known.items() if variable.kind not in ("agreement", "pair"))
        for name in self.variables:
            if name in known and known[name].kind == "pair":
                raise CardError(f"--templates {name}: has two axes, templates have one; it is in histograms.root")
            if name not in names:
                hint = nearest(name, names) or names
                raise CardError(f"--templates {name}: no such variable; nearest: {', '.join(hint)}")
            if hidden_bins(known[name], self.blind).any():
                raise CardError(_blinded(name))

    def __call__(self, variable: Variable, simulation: Rows, data: Rows) -> None:
        """Write the templates of a variable if it was asked for."""
        if variable.name not in self.variables:
            return
        parts: dict[tuple[str, str], list[Part]] = {}
        for part in parts_of(simulation, data):
            parts.setdefault((part.model, part.variant), []).append(part)
        for (model, variant), regions in parts.items():
            self._write(variable, model, variant, regions)

    def finish(self) -> list[dict[str, Any]]:
        """Remove the templates of an earlier comparison, and return what was written by this one."""
        now = {name for one in self.written for name in one["files"]}
        for old in self.folder.glob("*"):
            if old.suffix in (".root", ".txt", ".json") and old.name not in now:
                old.unlink()
        return self.written

    def _write(self, variable: Variable, model: str, variant: str, regions: Iterable[Part]) -> None:
        left_out: dict[str, str] = {}
        channels, negative = [], 0
        for part in regions:
            reason = unfit(part)
            if reason:
                left_out[part.region] = reason
                continue
            channel, count = channel_of(variable.kind, part)
            channels.append(channel)
            negative += count
        names = [variable.name, *(n for n, none in ((model, NO_MODEL), (variant, NOMINAL)) if n != none)]
        stem = "_".join(names)
        found: dict[str, Any] = {"variable": variable.name, "model": model, "variant": variant, "signal": self.signal}
        found |= {"channels": [one.name for one in channels], "left_out": left_out, "negative_bins": negative}
        if not any(self.signal in channel.processes for channel in channels):
            found |= {"files": [], "reason": f"no channel has the signal {self.signal}"}
            log.warning("templates %s: no channel has the signal %s; not written", stem, self.signal)
        else:
            with write_whole(self.folder / f"{stem}.root") as temporary, uproot.recreate(temporary) as file:
                for channel in channels:
                    for key, values, variances in histograms_of(channel):
                        file[f"{channel.name}/{key}"] = th1d(variable, _padded(values), _padded(variances))
            with write_whole(self.folder / f"{stem}.txt") as temporary:
                temporary.write_text(datacard(channels, self.signal, f"{stem}.root"), encoding="utf-8")
            write_json(self.folder / f"{stem}.json", workspace(channels, self.signal, stem))
            found["files"] = [f"{stem}.{suffix}" for suffix in ("root", "txt", "json")]
        for region, reason in left_out.items():
            log.warning("templates %s: region %s is left out: %s", stem, region, reason)
        self.written.append(found)


def _blinded(name: str) -> str:
    return (
        f"--templates {name}: the card blinds it (comparison.blind); a fit would look at the data. "
        "Choose another variable, or take the window out"
    )


def unfit(part: Part) -> str:
    """Return why a region can't be fitted with Poisson counts; empty when it can."""
    if not part.data or not part.simulation:
        return "no data" if not part.data else "no simulation"
    values, variances = total(part.data)
    if not np.array_equal(values, variances):
        return "its data are no counts (prescales, or same-sign events subtracted)"
    if not (total(part.simulation)[0] > 0).any():
        return "nothing is simulated there"
    return ""


def channel_of(kind: str, part: Part) -> tuple[Channel, int]:
    """Return a region's templates, and in how many bins of nominal templates a negative sum became 0.

    Parameters
    ----------
    kind : str
        Of the variable: whether its underflow is shown.
    part : Part
        The region; simulation normalised to luminosity.
    """
    sources = sources_of([NOMINAL, *part.varied])
    processes, negative = {}, 0
    for name in dict.fromkeys(category.flavour for category in part.simulation):
        nominal, variances = _shown(kind, part.simulation, name)
        if not nominal.sum() > 0:
            continue
        varied = {source.name: _both_ways(kind, part, source, name, nominal) for source in sources}
        negative += int((nominal < 0).sum())
        processes[name] = Process(np.maximum(nominal, 0.0), variances, varied)
    observed = visible(kind, total(part.data)[0])
    return Channel(part.region, observed, processes), negative


def _shown(kind: str, rows: Rows, component: str) -> tuple[Array, Array]:
    values, variances = total({category: one for category, one in rows.items() if category.flavour == component})
    return visible(kind, values), visible(kind, variances)


def _both_ways(kind: str, part: Part, source: Source, component: str, nominal: Array) -> tuple[Array, Array]:
    """Return a source's templates up and down, not negative; the mirror image for one that has no opposite."""
    up = _shown(kind, part.varied[source.up], component)[0]
    down = 2 * nominal - up if source.down is None else _shown(kind, part.varied[source.down], component)[0]
    return np.maximum(up, 0.0), np.maximum(down, 0.0)


def histograms_of(channel: Channel) -> Iterable[tuple[str, Array, Array]]:
    """Yield (key, values, variances) of all histograms of a channel; those varied carry nominal variances."""
    yield "data_obs", channel.observed, channel.observed
    for name, process in channel.processes.items():
        yield name, process.values, process.variances
        for source, (up, down) in process.varied.items():
            yield f"{name}_{source}Up", up, process.variances
            yield f"{name}_{source}Down", down, process.variances


def _padded(values: Array) -> Array:
    """Return values with empty flow bins: what they held is in the edge bins."""
    return np.concatenate([[0.0], values, [0.0]])
