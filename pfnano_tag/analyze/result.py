"""The output of a data/MC job: what it holds, writing it, reading it.

One ROOT file. Per variable one TH2D: x the variable's bins with flow, y the flattened categories region x flavour
x model x variant x systematic x replica, Sumw2 filled. Sums of weights (`sums`) and cutflows are TH1D. Names of
categories, sums and steps, and the provenance, are JSON in the TObjString `provenance`. All numbers add up under
`hadd` for files of the same `settings` (its output keeps the provenance of the first file).
"""

from __future__ import annotations

import gc
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple

import numpy as np
import uproot
from numpy.typing import NDArray
from uproot.writing.identify import to_TAxis, to_TH1x, to_TH2x

from pfnano_tag.analyze.pairs import Axis
from pfnano_tag.card.output import write_whole
from pfnano_tag.errors import FileError

FORMAT, FORMAT_VERSION = "pfnano_tag job", 3
PROVENANCE, SUMS_KEY = "provenance", "sums"
VARIABLES_MARK = ', "variables": '
"""Stands in front of the last part of the provenance."""
NO_MODEL, NOMINAL, ALL_FLAVOURS = "none", "nominal", "all"
NO_REPLICA = -1

Array = NDArray[np.float64]
Kind = Literal["kinematics", "input", "output", "discriminant", "agreement", "stored", "pair", "expression"]

SUMS: dict[str, str] = {
    "files": "files",
    "entries": "events in the file",
    "entries_processed": "events in chunks that were read",
    "entries_used": "events that were looked at (certified sections, triggers, test split, finite weight)",
    "entries_bad_weight": "events dropped for a weight that is not finite",
    "entries_uncertified": "events outside the certified luminosity sections",
    "entries_not_fired": "certified events that fired none of the dataset's own triggers",
    "entries_of_others": "certified events left to other primary datasets, whose triggers they fired",
    "corrections_clamped": "objects or events with a correction taken at the edge of its range",
    "jets_not_finite": "jets dropped for a pT, eta or phi that is not finite",
    "inputs_not_finite": "inputs of networks that were not finite and became placeholders",
    "chunks": "chunks of the plan",
    "chunks_lost": "chunks that could not be read",
    "runs_count": "events generated (tree Runs)",
    "runs_sumw": "sum of generator weights (tree Runs; of all events in the file where there is none)",
    "sumw_entries": "sum of generator weights of all events in the file",
    "sumw_processed": "sum of generator weights of the events in chunks that were read",
    "sumw_used": "sum of generator weights of the events that were looked at",
    "sumw_effective": "runs_sumw x sumw_used / sumw_entries: what the histograms are to be divided by",
}
"""Bins of the histogram `sums`, in order. Sums of weights are 0 for data."""


class Category(NamedTuple):
    """One histogram of a variable.

    Parameters
    ----------
    region : str
        Name in section `regions` of the card.
    flavour : str
        A class of section `labels`, `undefined` (simulation), `data`, or `all` (summed: replicas).
    model : str
        Name of a network; `none` for what needs no network.
    variant : str
        `nominal` or the name of an attack.
    systematic : str
        `nominal` or the name of a systematic variation (`systematics.names_of`).
    replica : int
        Bootstrap replica; -1: the histogram itself.
    """

    region: str
    flavour: str
    model: str = NO_MODEL
    variant: str = NOMINAL
    systematic: str = NOMINAL
    replica: int = NO_REPLICA


@dataclass(frozen=True)
class Variable:
    """What is histogrammed, in bins of equal width.

    Parameters
    ----------
    name : str
        Key in the ROOT file.
    kind : str
        kinematics, input, output, discriminant, agreement (logit of a discriminant, finely binned), stored, or pair
        (two-dimensional, flattened: see `pairs`).
    quantity : str
        Input identifier, output node, discriminant, or branch behind it.
    label, unit : str
        For axes (LaTeX).
    bins, low, high : int, float, float
        Axis. Scores in [0, 1] include their upper end; a score that is not defined (-1) is in the underflow of
        kinds `discriminant` and `stored`, and in no bin of kind `agreement`. Placeholders of inputs are left out.
    categories : tuple of Category
        Rows of the content.
    axes : tuple of Axis
        The two axes of a pair; empty for all others.
    """

    name: str
    kind: Kind
    quantity: str
    label: str
    unit: str
    bins: int
    low: float
    high: float
    categories: tuple[Category, ...]
    axes: tuple[Axis, ...] = ()

    @property
    def edges(self) -> Array:
        """Bin edges [bins + 1]."""
        return np.linspace(self.low, self.high, self.bins + 1)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the content: categories, bins + 2 (underflow first, overflow last)."""
        return len(self.categories), self.bins + 2

    def to_json(self) -> dict[str, Any]:
        """Return the variable as JSON content."""
        plain = asdict(replace(self, categories=()))  # asdict copies tuples one by one: slow for thousands of them
        return {**plain, "categories": [list(category) for category in self.categories]}

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> Variable:
        """Return a variable from JSON content."""
        categories = tuple(Category(*category) for category in content["categories"])
        axes = tuple(Axis(**{**axis, "edges": tuple(axis["edges"])}) for axis in content.get("axes", ()))
        return Variable(**{**content, "categories": categories, "axes": axes})


@dataclass(frozen=True)
class Content:
    """Filled histograms of one variable.

    Parameters
    ----------
    values, variances : ndarray of float64 [categories, bins + 2]
        Sums of weights and of their squares; underflow first, overflow last.
    """

    values: Array
    variances: Array


@dataclass(frozen=True)
class Cutflow:
    """Events after each step of a region's selection.

    Parameters
    ----------
    steps : tuple of str
        Names.
    raw, weighted : ndarray of float64 [steps]
        Numbers of events and sums of their weights.
    """

    steps: tuple[str, ...]
    raw: Array
    weighted: Array

    @property
    def emptied_by(self) -> str | None:
        """The step that no event passes, though some come to it; None where there is none."""
        if self.raw[0] == 0 or self.raw[-1] > 0:
            return None
        return self.steps[int(np.flatnonzero(self.raw == 0)[0])]


class JobResult:
    """A job's output, open for reading; a context manager. Variables are read one by one.

    Parameters
    ----------
    path : str or Path
        The ROOT file.

    Attributes
    ----------
    info : dict
        Provenance. `dataset`, `kind` (mc or data), `study`, `settings` (hash over all that must agree between the
        jobs of a comparison), `models` ({name: {epoch, hash, ...}}), `regions`, `flavours`, `variants`,
        `systematics`, `replicas`, `split` (`all` or `test`: only events of the test split entered), `merged_labels`
        (classes that the file can't tell from b), `arrays` ({file, rows} of the rows of jets, or null), `file`
        ({path, identity, entries}), `lost` ([{start, stop, reason, events}]), `sliced` ([{start, stop, slices}]:
        chunks done in slices for want of memory, whose sums are equal to 1e-12, not to the bit), `backend` (torch or
        onnx), `lumis` ({run: [sections]} that were processed whole; data), `dropped_lumis` (the same, for sections
        that lost events), `unknown_lumis` (bool: a lost chunk could not tell its sections), `code_version`.
    sums : dict of float
        By the names in `SUMS`.
    cutflows : dict of Cutflow
        By region.
    variables : dict of Variable
        By name.

    Raises
    ------
    FileError
        When the file can't be read or is no job output of this format version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileError(f"{path}: no such file; run `analyze` first")
        try:
            # What was read is not kept: of a hundred variables that would be gigabytes.
            self._file = uproot.open(self.path, object_cache=None, array_cache=None)
        except (OSError, ValueError, KeyError, IndexError, uproot.DeserializationError) as error:
            raise FileError(f"{path}: can't be read as a ROOT file: {error}") from error
        try:
            self._describe()
        except BaseException:
            self._file.close()
            raise

    def _describe(self) -> None:
        try:
            content, described = _parsed(str(self._file[PROVENANCE]))
        except (OSError, ValueError, KeyError, uproot.DeserializationError) as error:
            raise FileError(f"{self.path}: not the output of a data/MC job, or damaged: {error}") from error
        if content.get("format") != FORMAT or content.get("format_version") != FORMAT_VERSION:
            found = f"{content.get('format')!r} version {content.get('format_version')!r}"
            raise FileError(
                f"{self.path}: format {found}, expected {FORMAT!r} version {FORMAT_VERSION}; analyze it again"
            )
        self.info: dict[str, Any] = content["info"]
        try:
            self.variables = {variable.name: variable for variable in _variables(described)}
        except (ValueError, KeyError, TypeError) as error:
            raise FileError(f"{self.path}: damaged: its variables can't be read: {error!r}") from error
        self.sums = dict(zip(content["sums"], map(float, self._file[SUMS_KEY].values()), strict=True))
        self.cutflows = {
            region: Cutflow(tuple(steps), *(self._file[key].values() for key in _cutflow_keys(region)))
            for region, steps in content["cutflows"].items()
        }

    def __enter__(self) -> JobResult:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, and let go of what was read."""
        self._file.close()
        # uproot's objects refer to each other: of thousands of files, those of many would wait for a full collection.
        gc.collect(1)

    @property
    def complete(self) -> bool:
        """Whether every chunk of the file is in."""
        return not self.info["lost"]

    def read(self, name: str) -> Content:
        """Return the content of one variable.

        Parameters
        ----------
        name : str
            Name of a variable.

        Raises
        ------
        FileError
            When the histogram is missing or has another shape than the provenance says.
        """
        variable = self.variables[name]
        try:
            histogram = self._file[name]
            values, variances = histogram.values(flow=True), histogram.variances(flow=True)
        except (KeyError, OSError, ValueError, uproot.DeserializationError) as error:
            raise FileError(f"{self.path}: histogram {name!r} can't be read: {error}") from error
        rows, columns = variable.shape
        if values.shape != (columns, rows + 2):
            raise FileError(f"{self.path}: histogram {name!r} has shape {values.shape}, not {(columns, rows + 2)}")
        return Content(np.ascontiguousarray(values[:, 1:-1].T), np.ascontiguousarray(variances[:, 1:-1].T))


def write_result(
    path: str | Path,
    info: Mapping[str, Any],
    sums: Mapping[str, float],
    cutflows: Mapping[str, Cutflow],
    contents: Mapping[str, tuple[Variable, Content]],
) -> None:
    """Write a job's output, whole or not at all.

    Parameters
    ----------
    path : str or Path
        The ROOT file.
    info : mapping
        Provenance, see `JobResult`.
    sums : mapping
        By the names in `SUMS`; missing ones are 0.
    cutflows : mapping of Cutflow
        By region.
    contents : mapping of (Variable, Content)
        By variable name.
    """
    description = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "info": dict(info),
        "sums": list(SUMS),
        "cutflows": {region: list(cutflow.steps) for region, cutflow in cutflows.items()},
        "variables": [variable.to_json() for variable, _ in contents.values()],
    }
    with write_whole(path) as temporary, uproot.recreate(temporary, compression=uproot.ZSTD(3)) as file:
        file[PROVENANCE] = json.dumps(description, allow_nan=False)
        file[SUMS_KEY] = _th1(SUMS_KEY, np.array([float(sums.get(name, 0.0)) for name in SUMS]))
        for region, cutflow in cutflows.items():
            for key, values in zip(_cutflow_keys(region), (cutflow.raw, cutflow.weighted), strict=True):
                file[key] = _th1(key, values)
        for name, (variable, content) in contents.items():
            file[name] = _th2(variable, content)


def _parsed(text: str) -> tuple[dict[str, Any], str]:
    """Return the provenance, and the text of its last part (by `write_result`), which describes the variables.

    Raises
    ------
    ValueError
        When it is no JSON.
    """
    head, found, tail = text.rpartition(VARIABLES_MARK)
    if found:
        try:
            return json.loads(head + "}"), tail[:-1]
        except ValueError:
            pass  # of another order: parsed as a whole
    content: dict[str, Any] = json.loads(text)
    return content, json.dumps(content.get("variables", []))


@lru_cache(maxsize=8)
def _variables(text: str) -> tuple[Variable, ...]:
    """Return variables from JSON: parsed once for thousands of outputs that have the same text."""
    return tuple(map(Variable.from_json, json.loads(text)))


def _cutflow_keys(region: str) -> tuple[str, str]:
    return f"cutflow_{region}", f"cutflow_weighted_{region}"


def _axis(name: str, bins: int, low: float, high: float, title: str = "") -> Any:
    return to_TAxis(fName=name, fTitle=title, fNbins=bins, fXmin=low, fXmax=high)


def _th1(name: str, values: Array) -> Any:
    """Return a TH1D with one bin per value; variances are not meant (they are the values' squares)."""
    data = np.concatenate([[0.0], values, [0.0]])
    axis = _axis("xaxis", max(1, len(values)), 0.0, max(1, len(values)))
    return to_TH1x(name, name, data, float(np.sum(values)), 0.0, 0.0, 0.0, 0.0, data**2, axis)


def _th2(variable: Variable, content: Content) -> Any:
    rows, columns = variable.shape
    data, squares = (np.zeros((rows + 2, columns)) for _ in range(2))
    data[1:-1], squares[1:-1] = content.values, content.variances
    x = _axis("xaxis", variable.bins, variable.low, variable.high, variable.label)
    y = _axis("yaxis", rows, 0.0, float(rows), "category")
    statistics = (float(data.sum()), float(data.sum()), float(squares.sum()), 0.0, 0.0, 0.0, 0.0, 0.0)
    return to_TH2x(variable.name, variable.quantity, data.ravel(), *statistics, squares.ravel(), x, y)
