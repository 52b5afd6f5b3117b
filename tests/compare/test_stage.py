"""The comparison as a whole, on a small study with known content."""

import json

import numpy as np
import pytest
import uproot

from pfnano_tag.compare.stage import plan, run
from pfnano_tag.errors import Incomplete, StudyError


@pytest.fixture(scope="module")
def compared(shared_study):
    """A complete study, compared once, with pictures."""
    return shared_study, run(shared_study.card(), workers=1)


@pytest.fixture
def no_pictures(monkeypatch):
    """Leave the drawing out where pictures are not looked at."""
    monkeypatch.setattr("pfnano_tag.compare.stage.draw", lambda shown: shown.path)
    monkeypatch.setattr("pfnano_tag.compare.stage.draw_page", lambda *arguments: arguments[-1])


def test_histograms_are_written_as_th1d_per_category(compared):
    study, _ = compared
    with uproot.open(study.folder / "comparison" / "histograms.root") as file:
        good = file["dy/BvsL/good/nominal/b"]
        assert good.classname == "TH1D"
        variable = study.written["dy", "dy_1.root"]["BvsL"][0]
        place = variable.categories.index(("dy", "b", "good", "nominal", "nominal", -1))
        dy = sum(study.written["dy", f"dy_{i}.root"]["BvsL"][1].values[place] for i in (1, 2))
        tt = study.written["tt", "tt_1.root"]["BvsL"][1].values[place]
        scales = (2.0 * 1000 * 2.0 / 200, 0.5 * 1000 * 2.0 / 100)
        np.testing.assert_allclose(good.values(flow=True), scales[0] * dy + scales[1] * tt)
        np.testing.assert_allclose(good.variances(flow=True), scales[0] ** 2 * dy + scales[1] ** 2 * tt)
        data = file["dy/jet_pt/none/nominal/data"]
        assert data.values(flow=True).sum() == 9000
        np.testing.assert_allclose(data.variances(flow=True), data.values(flow=True))
        assert not [key for key in file if "/all" in key]


def test_results_hold_what_is_promised(compared):
    study, results = compared
    written = json.loads((study.folder / "comparison" / "results.json").read_text())
    assert written == {**{k: v for k, v in results.items() if k != "agreement"}, **results["agreement"]}
    entry = results["agreement"]["dy/BvsL/good/nominal"]
    assert {"chi2", "ndf", "p", "bins", "bootstrap", "shape"} <= entry.keys()
    assert entry["ndf"] == entry["bins"]
    assert entry["shape"]["ndf"] == entry["bins"] - 1
    assert entry["bootstrap"]["error"] > 0
    assert entry["data"] == 9000
    assert results["complete"]
    assert results["luminosity"] == 2.0
    assert results["agreement"]["dy/jet_pt/none/nominal"]["bootstrap"] is None
    assert results["cutflows"]["dy"]["dy"]["raw"] == [18.0, 10.0]
    assert results["cutflows"]["dy"]["dy"]["events"] == [36.0 * 20, 20.0 * 20]


def test_the_better_model_is_named_with_an_error(whole, no_pictures):
    results = run(whole.card("comparison.normalisation=data"), workers=1)
    for variable in ("BvsL", "mean"):
        between = results["differences"][f"dy/{variable}/nominal"]["good - bad"]
        assert between["better"] == "good"
        assert between["difference"] < -2 * between["error"]
    table = (whole.folder / "comparison" / "table.md").read_text()
    assert "good has the lowest mean chi2/ndf" in table
    assert "it agrees better with data than bad" in table
    assert "no AUCs: evaluation/results.json is not there" in table
    assert results["agreement"]["dy/BvsL/good/nominal"]["p"] > 1e-3


def test_pictures(compared):
    study, _ = compared
    pictures = {path.name for path in (study.folder / "comparison" / "dy").glob("*.png")}
    assert pictures == {"jet_pt.png", "BvsL_good.png", "BvsL_bad.png", "discriminants.png"}


def test_sections_are_written(compared):
    study, _ = compared
    assert json.loads((study.folder / "comparison" / "lumis_muons.json").read_text()) == {"1": [[1, 3], [7, 7]]}


def test_incomplete_is_written_and_said(whole, no_pictures):
    whole.input("dy_3.root")
    whole.job("muons", "muons_2.root", sums={"chunks_lost": 2}, lost=[{"start": 0}], dropped_lumis={"1": [8]})
    with pytest.raises(Incomplete, match="dy: 1 of 3 files not analyzed; muons: 2 of 8 chunks lost"):
        run(whole.card(), workers=1)
    folder = whole.folder / "comparison"
    results = json.loads((folder / "results.json").read_text())
    assert not results["complete"]
    assert "INCOMPLETE: dy: 1 of 3 files not analyzed" in (folder / "table.md").read_text()
    assert json.loads((folder / "dropped_lumis_muons.json").read_text()) == {"1": [[8, 8]]}


def test_few_jets_give_no_number(study, no_pictures):
    study.job("dy", "dy_1.root", 500)
    study.job("muons", "muons_1.root", 6)
    with pytest.raises(Incomplete):  # tt is missing
        run(study.card("comparison.normalisation=data"), workers=1)
    results = json.loads((study.folder / "comparison" / "results.json").read_text())
    entry = results["dy/BvsL/good/nominal"]
    assert entry["chi2"] is None
    assert "fewer than two bins" in entry["reason"]
    assert results["differences"] == {}


def test_other_processes_draw_the_same(compared, monkeypatch):
    study, _ = compared
    picture = study.folder / "comparison" / "dy" / "jet_pt.png"
    before = picture.read_bytes()
    old = picture.rename(picture.with_name("BvsL_gone.png"))
    monkeypatch.setattr("pfnano_tag.compare.stage.FEW_PICTURES", 0)
    run(study.card(), workers=2)
    assert picture.read_bytes() == before
    assert not old.exists()  # a picture of an earlier comparison


def test_folder_of_another_card_is_refused(whole, no_pictures):
    run(whole.card(), workers=1)
    with pytest.raises(StudyError, match="datasets"):
        run(whole.card("datasets.0.cross_section=3.0"), workers=1)


def test_plan(whole):
    whole.input("dy_3.root")
    text = plan(whole.card())
    assert "dataset dy (mc): 2 job outputs, 1 files not analyzed" in text


def test_pairs_are_written_as_th2d_with_their_variations(tmp_path, no_pictures):
    from tests.calibrate.toy_study import ToyStudy

    card = ToyStudy(tmp_path / "study").write("histograms.stored=none")
    (card.folder / "evaluation" / "results.json").unlink()
    run(card, workers=1)
    with (
        uproot.open(card.folder / "comparison" / "histograms.root") as file,
        uproot.open(card.folder / "analysis" / "mc" / "mc.root") as job,
    ):
        histogram, varied = file["tt/pair_CvsL_CvsB/net/nominal/c"], file["tt/pair_CvsL_CvsB/net/nominal/c__w_up"]
        assert histogram.classname == "TH2D"
        assert histogram.axis("x").edges().tolist() == np.linspace(0, 1, 9).tolist()
        np.testing.assert_allclose(varied.values(), 1.3 * histogram.values())
        assert histogram.values(flow=True)[0, 0] > 0  # jets without a score
        stored = job["pair_CvsL_CvsB"].values()
        keys = [key for key in file.keys(cycle=False) if "/pair_CvsL_CvsB/net/" in key and key.count("/") == 4]
        found = sum(file[key].values(flow=True).sum() for key in keys if not key.endswith("/data"))
        # Every row of the job is one TH2D; cross section x luminosity / sum of weights is 1.
        assert found == pytest.approx(stored.sum())
