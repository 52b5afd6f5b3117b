"""Two-dimensional histograms: every jet in the cell that it belongs to, on the way through file, merge and TH2D."""

from __future__ import annotations

import numpy as np
import pytest
import uproot
from pydantic import ValidationError

from pfnano_tag.analyze import stage
from pfnano_tag.analyze.pairs import axis_of, cells_of, flattened, unflattened
from pfnano_tag.analyze.result import JobResult, Variable
from pfnano_tag.card.histograms import Histograms
from pfnano_tag.compare.histograms import plain
from pfnano_tag.infer import stage as infer_stage
from pfnano_tag.nano.reader import PFNanoFile
from tests.analyze.test_stage import ALL

PAIRS = [["CvsL", "CvsB"], ["BvsL", "jet_pt"], ["jet_pt", "jet_eta"]]
BINS = {"CvsL": [0, 0.1, 0.5, 1], "jet_pt": [20, 40, 80, 1000]}


def test_every_jet_is_in_its_cell():
    section = Histograms(pairs=PAIRS, pair_bins=BINS)
    axes = axis_of("CvsL", section), axis_of("CvsB", section)
    x = np.array([-1.0, 0.0, 0.1, 0.4999, 0.5, 1.0, np.nan])
    y = np.array([0.31, -1.0, 1.0, 0.05, 0.0, 0.9999, 0.0])
    assert axes[0].place(x).tolist() == [0, 1, 2, 2, 3, 3, 0]
    assert axes[1].place(y).tolist() == [7, 0, 20, 2, 1, 20, 1]
    cells = np.bincount(flattened(axes, {"CvsL": x, "CvsB": y}).astype(int), minlength=cells_of(axes))
    shown = unflattened(axes, np.concatenate([[0.0], cells, [0.0]]))
    assert shown.shape == (5, 22)
    for i, j in zip(axes[0].place(x), axes[1].place(y), strict=True):
        assert shown[i, j] == 1
    assert shown.sum() == 7


def test_pt_outside_its_bins_is_in_the_flow():
    pt = axis_of("jet_pt", Histograms())
    assert pt.place(np.array([10.0, 20.0, 999.0, 1000.0])).tolist() == [0, 1, 9, 10]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"pairs": [["CvsL", "CvsL"]]}, "of two quantities"),
        ({"pairs": [["CvsL", "CvsB"], ["CvsB", "CvsL"]]}, "stands there twice"),
        ({"pair_bins": {"CvsL": 5}}, "has no effect: no pair"),
        ({"pairs": PAIRS, "pair_bins": {"CvsL": [0, 0.5, 0.9]}}, "go from 0 to 1, not 0 to 0.9"),
        ({"pairs": PAIRS, "pair_bins": {"jet_pt": [20, 20, 50]}}, "must rise"),
        ({"pairs": [["CvsL", "jet_mass"]]}, "jet_eta"),
    ],
)
def test_bad_pairs_are_refused(content, message):
    with pytest.raises(ValidationError, match=message):
        Histograms.model_validate(content)


@pytest.fixture(scope="module")
def job(files, study, tmp_path_factory):
    """A job with pairs, and the scores of the same jets from `infer`."""
    from pfnano_tag.card.card import Card

    card = Card.model_validate(
        {
            "study": {"name": "test", "folder": str(study)},
            "datasets": [{"name": "mc", "files": ["f"], "kind": "mc", "cross_section": 2.0, "roles": ["analyze"]}],
            "models": {"first": {"architecture": "deepsets"}},
            "regions": ALL,
            "histograms": {"inputs": "none", "variants": ["fgsm"], "pairs": PAIRS, "pair_bins": BINS},
            "systematics": {"jes": {"kind": "jet_energy_scale", "shift": 0.2}},
            "comparison": {"replicas": 2},
            "resources": {"chunk": 0.02},
        }
    )
    folder = tmp_path_factory.mktemp("pairs")
    output, friends = folder / "mc.root", folder / "friends.root"
    stage.run(card, "mc", str(files["mc"]), output)
    infer_stage.run(card, str(files["mc"]), None, friends)
    with PFNanoFile(files["mc"]) as file, uproot.open(friends) as friend:
        chunk = file.chunk(0, file.num_entries)
        everything = np.ones(len(chunk["Jet_pt"].values), dtype=bool)
        kept = stage.clean(chunk, card.jets, np.ones(chunk.num_events), everything).kept
        event = np.repeat(np.arange(chunk.num_events), chunk["Jet_pt"].counts)[kept]
        jets = {
            "jet_pt": chunk["Jet_pt"].values[kept],
            "jet_eta": chunk["Jet_eta"].values[kept],
            "weight": chunk["genWeight"].astype(float)[event],
        }
        for name in ("BvsL", "CvsL", "CvsB"):
            branch = friend[f"Friends/Jet_first_{name}"].array()
            jets[name] = np.concatenate([np.asarray(part) for part in branch])[kept]
    return card, output, jets


@pytest.mark.parametrize("pair", PAIRS, ids="_".join)
def test_the_job_fills_what_histogram2d_counts(job, pair):
    _, output, jets = job
    with JobResult(output) as result:
        variable, content = result.variables["pair_" + "_".join(pair)], result.read("pair_" + "_".join(pair))
    model = "none" if pair == PAIRS[2] else "first"
    chosen = [i for i, c in enumerate(variable.categories) if c[2:] == (model, "nominal", "nominal", -1)]
    found = unflattened(variable.axes, content.values[chosen].sum(axis=0))
    edges = [[-np.inf, *axis.edges, np.inf] for axis in variable.axes]
    for one, axis in zip(edges, variable.axes, strict=True):
        if axis.is_score:
            one[-2] = np.nextafter(1, 2)
    expected, _, _ = np.histogram2d(*(jets[name].astype(float) for name in pair), edges, weights=jets["weight"])
    np.testing.assert_allclose(found, expected, atol=1e-9)
    squares = unflattened(variable.axes, content.variances[chosen].sum(axis=0))
    expected, _, _ = np.histogram2d(*(jets[name].astype(float) for name in pair), edges, weights=jets["weight"] ** 2)
    np.testing.assert_allclose(squares, expected, atol=1e-9)


def test_variants_and_systematics_are_axes_of_pairs_too(job):
    _, output, _ = job
    with JobResult(output) as result:
        scores, pt = (result.variables[f"pair_{name}"] for name in ("CvsL_CvsB", "BvsL_jet_pt"))
        assert {(c.variant, c.systematic) for c in scores.categories} == {
            ("nominal", "nominal"),
            ("nominal", "jes"),
            ("fgsm", "nominal"),
        }
        content = result.read(pt.name)
        of = {}
        for systematic in ("nominal", "jes"):
            chosen = [c.variant == "nominal" and c.systematic == systematic for c in pt.categories]
            of[systematic] = unflattened(pt.axes, content.values[chosen].sum(axis=0)).sum(axis=0)
    assert not np.allclose(of["nominal"], of["jes"])  # jets move to other bins of pT
    assert of["jes"][-2] > of["nominal"][-2]


def test_a_description_survives_the_file(job):
    _, output, _ = job
    with JobResult(output) as result:
        for variable in result.variables.values():
            assert Variable.from_json(variable.to_json()) == variable
            assert bool(variable.axes) == (variable.kind == "pair")


def test_a_th2d_has_the_cells_and_the_flow(job, tmp_path):
    _, output, _ = job
    with JobResult(output) as result:
        variable, content = result.variables["pair_BvsL_jet_pt"], result.read("pair_BvsL_jet_pt")
    values, variances = content.values[0], content.variances[0]
    with uproot.recreate(tmp_path / "x.root") as file:
        file["one"] = plain(variable, values, variances)
    with uproot.open(tmp_path / "x.root") as file:
        histogram = file["one"]
        assert histogram.classname == "TH2D"
        assert histogram.axis("y").edges().tolist() == BINS["jet_pt"]
        np.testing.assert_array_equal(histogram.values(flow=True), unflattened(variable.axes, values))
        np.testing.assert_array_equal(histogram.variances(flow=True), unflattened(variable.axes, variances))
