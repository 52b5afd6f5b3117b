"""Job outputs of a small study, with known content."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from pfnano_tag.analyze.pairs import Axis
from pfnano_tag.analyze.result import (
    ALL_FLAVOURS,
    Category,
    Content,
    Cutflow,
    JobResult,
    Variable,
    write_result,
)
from pfnano_tag.card import read_card

FLAVOURS = ("b", "c", "uds")
MODELS = ("good", "bad")
REPLICAS = 12
CARD = """
study: {{name: small, folder: {folder}}}
datasets:
  - {{name: dy, files: "{folder}/in/dy_*.root", kind: mc, cross_section: 2.0, roles: [analyze]}}
  - {{name: tt, files: "{folder}/in/tt_*.root", kind: mc, cross_section: 0.5, roles: [train, analyze]}}
  - {{name: muons, files: "{folder}/in/muons_*.root", kind: data, luminosity: 2.0, roles: [analyze]}}
models:
  good: {{architecture: deepsets}}
  bad: {{architecture: deepsets}}
comparison: {{bins: 8, replicas: {replicas}}}
"""


@dataclass
class Study:
    """A study folder with job outputs written on demand."""

    folder: Path
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))
    written: dict = field(default_factory=dict)

    def card(self, *overrides):
        path = self.folder / "card.yaml"
        path.write_text(CARD.format(folder=self.folder, replicas=REPLICAS))
        return read_card(str(path), list(overrides))

    def input(self, name):
        path = self.folder / "in" / name
        path.parent.mkdir(exist_ok=True)
        path.touch()

    def job(self, dataset, name, entries=4000, weight=1.0, sums=None, varied=None, variants=(), **info):
        """Write the output of one file; fills are remembered in `written`."""
        kind = "data" if dataset == "muons" else "mc"
        self.input(name)
        contents = contents_of(self.random, kind, entries, weight)
        contents = {n: with_variants(*c, variants) for n, c in contents.items()}
        if kind == "mc":
            contents = {n: with_systematics(*c, varied or {}) for n, c in contents.items()}
        flow = Cutflow(("all", "selected"), np.array([9.0, 5.0]), np.array([18.0, 10.0]))
        provenance = {
            "dataset": dataset,
            "kind": kind,
            "study": "small",
            "settings": "s" * 64,
            "models": {model: {"epoch": 1, "hash": model} for model in MODELS},
            "regions": ["dy"],
            "variants": ["nominal"],
            "replicas": REPLICAS,
            "split": "all",
            "lost": [],
            "lumis": {"1": [1, 2, 3, 7]} if kind == "data" else {},
            "dropped_lumis": {},
            "unknown_lumis": False,
            **info,
        }
        known = {
            "files": 1,
            "entries": 100,
            "entries_processed": 100,
            "entries_used": 100,
            "chunks": 4,
            "sumw_used": 100,
            "sumw_effective": 100,
        }
        path = self.folder / "analysis" / dataset / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_result(path, provenance, {**known, **(sums or {})}, {"dy": flow}, contents)
        self.written[dataset, name] = contents
        return path


def contents_of(random, kind, entries, weight):
    """Fill a kinematic variable and, per model, a discriminant with its logit; `bad` is shifted in simulation."""
    flavours = ("data",) if kind == "data" else FLAVOURS
    flavour = random.integers(0, len(flavours), entries)
    logit = random.normal(0, 2, entries)
    replica_weights = random.poisson(1.0, (REPLICAS, entries)) * weight
    pt = random.exponential(80.0, entries)
    found = {"jet_pt": _plain("jet_pt", "kinematics", 20, 0, 300, [("none", pt)], flavours, flavour, weight)}
    scores, models = [], []
    for model in MODELS:
        shift = 0.6 if (model, kind) == ("bad", "mc") else 0.0
        models.append((model, logit + shift))
        scores.append((model, 1 / (1 + np.exp(-logit - shift))))
    found["BvsL"] = _plain("BvsL", "discriminant", 10, 0, 1, scores, flavours, flavour, weight)
    variable, content = _plain("BvsL", "agreement", 48, -12, 12, models, flavours, flavour, weight)
    rows, categories = [content.values], list(variable.categories)
    for model, values in models:
        edges = variable.edges
        rows.append([_fill(values, edges, one) for one in replica_weights])
        categories += [Category("dy", ALL_FLAVOURS, model, replica=i) for i in range(REPLICAS)]
    values = np.concatenate(rows)
    variable = Variable("agreement_BvsL", "agreement", "BvsL", "logit", "", 48, -12.0, 12.0, tuple(categories))
    found["agreement_BvsL"] = variable, Content(values, np.abs(values) * weight)
    return found


def with_systematics(variable, content, varied):
    """Add variations of nominal inputs: each nominal row times a function of the bin's place in 0 to 1."""
    place = np.linspace(0, 1, variable.bins + 2)
    rows = [i for i, c in enumerate(variable.categories) if c.replica == -1 and c.variant == "nominal"]
    categories, values, variances = list(variable.categories), [content.values], [content.variances]
    for name, factor in varied.items():
        categories += [variable.categories[i]._replace(systematic=name) for i in rows]
        values.append(content.values[rows] * factor(place))
        variances.append(content.variances[rows] * factor(place) ** 2)
    return replace(variable, categories=tuple(categories)), Content(np.vstack(values), np.vstack(variances))


def with_variants(variable, content, variants):
    """Add attacked inputs of all networks: the rows of nominal ones, moved by one bin."""
    rows = [i for i, c in enumerate(variable.categories) if c.model != "none"]
    categories, values, variances = list(variable.categories), [content.values], [content.variances]
    for name in variants:
        categories += [variable.categories[i]._replace(variant=name) for i in rows]
        values.append(np.roll(content.values[rows], 1, axis=1))
        variances.append(np.roll(content.variances[rows], 1, axis=1))
    return replace(variable, categories=tuple(categories)), Content(np.vstack(values), np.vstack(variances))


def _fill(values, edges, weights):
    return np.bincount(np.digitize(values, edges), weights, len(edges) + 1)


def _plain(name, kind, bins, low, high, filled, flavours, flavour, weight):
    edges = np.linspace(low, high, bins + 1)
    rows, categories = [], []
    for model, values in filled:
        for i, one in enumerate(flavours):
            chosen = values[flavour == i]
            rows.append(_fill(chosen, edges, np.full(len(chosen), weight)))
            categories.append(Category("dy", one, model))
    variable = Variable(name, kind, name, name, "", bins, float(low), float(high), tuple(categories))
    content = np.array(rows)
    return variable, Content(content, content * weight)


def with_pair_and_cut(path):
    """Add to a job output a pair of BvsL and pT, and pT without the cut on it, each all ones."""
    axes = (Axis("BvsL", "BvsL", "", (0.0, 0.5, 1.0)), Axis("jet_pt", "pt", "GeV", (20.0, 50.0, 100.0)))
    with JobResult(path) as job:
        contents = {name: (one, job.read(name)) for name, one in job.variables.items()}
        for name, kind, like in (
            ("pair_BvsL_jet_pt", "pair", "BvsL"),
            ("without_cut_jet_pt", "kinematics", "jet_pt"),
        ):
            bins, used = (16, axes) if kind == "pair" else (20, ())
            high, quantity = (16.0, "BvsL:jet_pt") if used else (300.0, "jet_pt")
            categories = job.variables[like].categories
            ones = np.ones((len(categories), bins + 2))
            variable = Variable(name, kind, quantity, name, "", bins, 0.0, high, categories, used)
            contents[name] = variable, Content(ones, ones.copy())
        write_result(path, job.info, job.sums, job.cutflows, contents)


def fill(study, **more):
    """Write the outputs of a complete study: two files of dy, one of tt, two of data."""
    study.job("dy", "dy_1.root", 6000, **more)
    study.job("dy", "dy_2.root", 3000, **more)
    study.job("tt", "tt_1.root", 2000, split="test", **more)
    study.job("muons", "muons_1.root", 5000, **more)
    study.job("muons", "muons_2.root", 4000, **more)
    return study


@pytest.fixture
def study(tmp_path):
    """An empty study folder."""
    folder = tmp_path / "small"
    folder.mkdir()
    return Study(folder)


@pytest.fixture
def whole(study):
    """A complete study: two files of dy, one of tt, two of data."""
    return fill(study)


@pytest.fixture(scope="module")
def shared_study(tmp_path_factory):
    """A complete study that the tests of a module share."""
    return fill(Study(tmp_path_factory.mktemp("shared")))
