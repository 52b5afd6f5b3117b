"""Job outputs of a study of known truth: scores of each flavour are Gaussian in their logit, shifted in data."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.stats import norm

from pfnano_tag.analyze.histogramming import Histograms, logit
from pfnano_tag.analyze.pairs import flattened
from pfnano_tag.analyze.result import Cutflow, write_result
from pfnano_tag.analyze.variables import Network, flavours_of, variables_of
from pfnano_tag.card import read_card

REGIONS = {"b": "tt", "c": "wc", "light": "dy"}
YIELDS = {
    "tt": {"b": 6000, "c": 600, "light": 1400},
    "wc": {"b": 400, "c": 5000, "light": 2500},
    "dy": {"b": 60, "c": 400, "light": 9000},
}
MEANS = {
    "BvsL": {"b": 2.0, "c": -0.5, "light": -2.0},
    "CvsL": {"b": 0.8, "c": 0.7, "light": -1.0},
    "CvsB": {"b": -1.2, "c": 0.6, "light": 0.3},
}
SHIFTS = {"b": -0.25, "c": 0.2, "light": 0.15}
"""Of the logits of all discriminants in data."""
WIDTH, UNDEFINED, SIMULATED = 1.5, 0.03, 4
THRESHOLDS = {"0.1": 0.5, "0.01": 0.8}
CLASSES = ("b", "bb", "lepb", "c", "uds", "g")
CARD = """
study: {{name: toy, folder: {folder}}}
datasets:
  - {{name: mc, files: "{folder}/in/mc.root", kind: mc, cross_section: 1.0, roles: [analyze]}}
  - {{name: data, files: "{folder}/in/data.root", kind: data, luminosity: 1.0, roles: [analyze]}}
models: {{net: {{architecture: deepsets}}}}
regions: {{tt: {{selection: all_jets}}, wc: {{selection: all_jets}}, dy: {{selection: all_jets}}}}
weights: {{factors: {{w: {{kind: branches, nominal: w, up: wu, down: wd}}}}}}
histograms:
  inputs: none
  outputs: false
  stored: [Jet_btagDeepFlavB]
  pairs: [[CvsL, CvsB], [BvsL, jet_pt]]
  pair_bins: {{CvsL: 8, CvsB: 8, BvsL: [0, 0.25, 0.5, 0.8, 0.9, 1], jet_pt: [20, 60, 120, 1000]}}
comparison: {{replicas: 2}}
calibration: {{b: tt, c: wc, light: dy}}
"""


@dataclass
class ToyStudy:
    """A study's folder with the job outputs of one file of simulation and one of data."""

    folder: Path
    seed: int = 1
    yields: dict = field(default_factory=lambda: YIELDS)

    def card(self, *overrides):
        self.folder.mkdir(exist_ok=True, parents=True)
        path = self.folder / "card.yaml"
        path.write_text(CARD.format(folder=self.folder))
        return read_card(str(path), list(overrides))

    def write(self, *overrides, keep=lambda kind, region, flavour: True):
        """Write both job outputs and the evaluation."""
        card = self.card(*overrides)
        for number, kind in enumerate(("mc", "data")):
            random = np.random.default_rng([self.seed, number])
            histograms = fill(card, kind, random, self.yields, keep)
            self._job(card, kind, histograms)
        points = [{"mistag": float(name), "threshold": value} for name, value in THRESHOLDS.items()]
        one = {"hash": "net", "working_points": {"BvsL": points}}
        evaluation = {"models": {"net": one}, "stored": {"DeepJet": {"working_points": {"BvsL": points}}}}
        self.evaluation(evaluation)
        return card

    def evaluation(self, content):
        (self.folder / "evaluation").mkdir(exist_ok=True)
        (self.folder / "evaluation" / "results.json").write_text(json.dumps(content))

    def _job(self, card, kind, histograms):
        (self.folder / "in").mkdir(exist_ok=True)
        (self.folder / "in" / f"{kind}.root").touch()
        info = {
            "dataset": kind,
            "kind": kind,
            "study": "toy",
            "settings": "s" * 64,
            "models": {"net": {"epoch": 1, "hash": "net"}},
            "lost": [],
            "lumis": {},
            "split": "all",
        }
        sums = {"files": 1, "chunks": 1, "entries_used": 1, "sumw_used": 1000.0, "sumw_effective": 1000.0}
        flow = Cutflow(("all",), np.array([1.0]), np.array([1.0]))
        path = self.folder / "analysis" / kind / f"{kind}.root"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_result(path, info, sums, {"tt": flow}, histograms.contents())


def fill(card, kind, random, yields, keep):
    """Fill the real variables of a job with toy jets."""
    stored = [] if card.histograms.stored == "none" else card.histograms.stored
    variables = variables_of(card, kind, [Network("net", CLASSES, ())], stored)
    histograms = Histograms(variables)
    for region, flavours in yields.items():
        for flavour, expected in flavours.items():
            if keep(kind, region, flavour):
                count = random.poisson(expected * (SIMULATED if kind == "mc" else 1))
                _fill_jets(histograms, card, kind, region, flavour, count, random)
    return histograms


def _fill_jets(histograms, card, kind, region, flavour, count, random):
    weight = np.full(count, 1 / SIMULATED if kind == "mc" else 1.0)
    classes = flavours_of(card, kind)
    names = {"b": ["b", "bb"], "c": ["c"], "light": ["uds", "g", "undefined"]}[flavour]
    row = random.choice([0 if kind == "data" else classes.index(name) for name in names], count)
    values = {"jet_pt": np.clip(20 + random.exponential(60, count), 20, 900), "jet_eta": np.zeros(count)}
    undefined = random.random(count) < UNDEFINED
    for name, means in MEANS.items():
        mean = means[flavour] + (SHIFTS[flavour] if kind == "data" else 0.0)
        values[name] = np.where(undefined, -1.0, 1 / (1 + np.exp(-random.normal(mean, WIDTH, count))))
    weights = {"nominal": weight}
    if kind == "mc":  # more, or less, of the other flavours
        weights["w_up"] = weight * (1.0 if REGIONS[flavour] == region else 1.3)
        weights["w_down"] = weight * (1.0 if REGIONS[flavour] == region else 0.7)
    for name, variable in histograms.variables.items():
        place = (region, "net", "nominal")
        if variable.kind == "agreement":
            known = ~undefined
            own = {key: one[known] for key, one in weights.items()}
            histograms.fill(name, place, logit(values[variable.quantity][known]), own, row[known])
        elif variable.kind == "discriminant":
            histograms.fill(name, place, values[name], weights, row)
        elif variable.kind == "pair":
            histograms.fill(name, place, flattened(variable.axes, values), weights, row)
        elif variable.kind == "stored":
            histograms.fill(name, (region, "none", "nominal"), values["BvsL"], weights, row)


def efficiency(flavour, threshold, data):
    """Return the true efficiency of BvsL."""
    mean = MEANS["BvsL"][flavour] + (SHIFTS[flavour] if data else 0.0)
    return (1 - UNDEFINED) * norm.sf(np.log(threshold / (1 - threshold)), mean, WIDTH)


def true_factor(flavour, threshold):
    """Return the true scale factor of BvsL."""
    return efficiency(flavour, threshold, True) / efficiency(flavour, threshold, False)
