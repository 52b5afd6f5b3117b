"""The calibration as a whole, on a study whose truth is known, and its bad input."""

import json

import numpy as np
import pytest

from pfnano_tag.calibrate.stage import plan, run
from pfnano_tag.errors import CardError, DataError, Incomplete, StudyError
from tests.calibrate.toy_study import THRESHOLDS, ToyStudy, efficiency, true_factor

pytest.importorskip("iminuit", reason="the extra `fit` is not installed")


@pytest.fixture(autouse=True)
def few_pictures(monkeypatch, request):
    """Draw only where pictures are looked at."""
    if "pictures" not in request.node.name:
        monkeypatch.setattr("pfnano_tag.calibrate.stage.draw_all", lambda *arguments: [])


def test_scale_factors_are_the_true_ones(calibrated):
    _, results, _ = calibrated
    for tagger in ("net", "DeepJet"):
        for name in THRESHOLDS:
            found = results["scale_factors"][tagger]["BvsL"][name]
            for flavour, factor in found["scale_factors"].items():
                true = true_factor(flavour, found["threshold"])
                assert factor["value"] == pytest.approx(true, abs=3.5 * factor["total"]), (tagger, name, flavour)
                assert 0 < factor["statistical"] < factor["total"] < 0.5
                simulated = efficiency(flavour, found["threshold"], False)
                assert found["efficiency"][flavour] == pytest.approx(simulated, rel=0.05)


def test_thresholds_are_edges_near_those_asked_for(calibrated):
    _, results, _ = calibrated
    for name, asked in THRESHOLDS.items():
        found = results["scale_factors"]["net"]["BvsL"][name]
        assert found["asked"] == asked
        shift = np.log(found["threshold"] / (1 - found["threshold"])) - np.log(asked / (1 - asked))
        assert abs(shift) <= 0.025 + 1e-9
        # The pair's edges were given by the card.
        assert {one["threshold"] for one in found["pt"]} == {asked}


def test_bins_of_pt_agree_with_the_truth_which_does_not_depend_on_pt(calibrated):
    _, results, _ = calibrated
    pulls = [
        (one["scale_factors"][flavour]["value"] - true_factor(flavour, one["threshold"]))
        / one["scale_factors"][flavour]["total"]
        for point in results["scale_factors"]["net"]["BvsL"].values()
        for one in point["pt"]
        for flavour in ("b", "c", "light")
        if one["scale_factors"] is not None
    ]
    assert len(pulls) >= 15
    assert np.abs(pulls).max() < 4
    assert results["scale_factors"]["DeepJet"]["BvsL"]["0.1"]["pt"] == []


def test_results_are_written(calibrated):
    card, results, folder = calibrated
    assert json.loads((folder / "results.json").read_text()) == results
    assert results["complete"]
    assert results["card"] == card.hash()
    assert results["regions"] == {"b": "tt", "c": "wc", "light": "dy"}


def test_pictures_are_drawn_and_old_ones_removed(tmp_path):
    study = ToyStudy(tmp_path / "study")
    card = study.write("calibration.taggers=[net]")
    points = [{"mistag": 0.1, "threshold": 0.5}]
    study.evaluation({"models": {"net": {"hash": "net", "working_points": {"BvsL": points}}}})
    folder = study.folder / "calibration"
    folder.mkdir()
    (folder / "old.png").touch()
    run(card)
    assert {path.name for path in folder.glob("*.png")} == {
        "net_BvsL_0.1_fit.png",
        "net_BvsL_0.1_pt.png",
        "net_BvsL_scale_factors.png",
        "net_CvsL_CvsB_weights.png",
    }


def test_shapes_close(calibrated):
    _, results, _ = calibrated
    for region in results["shapes"]["net"]["pair_CvsL_CvsB"]["closure"].values():
        assert region["chi2_before"] > 1.5 * region["cells"]
        assert region["chi2_after"] < region["cells"]


def test_the_plan_names_what_is_done(tmp_path):
    text = plan(ToyStudy(tmp_path / "study").write())
    assert "region of light: dy" in text
    assert "scale factors: net BvsL at mistag 0.1, 0.01" in text
    assert "shape weights: net CvsL:CvsB" in text


def test_two_regions_leave_the_third_flavour_to_its_prior(tmp_path):
    card = ToyStudy(tmp_path / "study").write("calibration={b: tt, light: dy}")
    results = run(card)
    found = results["scale_factors"]["net"]["BvsL"]["0.1"]
    assert set(found["scale_factors"]) == {"b", "light"}
    assert 0.5 < found["fit"]["unmeasured"]["c"] < 1.5
    for flavour, factor in found["scale_factors"].items():
        assert factor["value"] == pytest.approx(true_factor(flavour, found["threshold"]), abs=4 * factor["total"])
    weights = results["shapes"]["net"]["pair_CvsL_CvsB"]["weights"]
    assert set(weights) == {"b", "light"}


def test_no_regions_named(tmp_path):
    card = ToyStudy(tmp_path / "study").write("calibration={}")
    with pytest.raises(CardError, match=r"no region is named.*section regions has: tt, wc, dy"):
        run(card)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("calibration={b: tt}", "one region is too few"),
        ("calibration={b: tt, light: tt}", "a region of its own"),
        ("calibration.light=zjets", r"calibration.light: 'zjets' is not in section regions"),
        ("calibration.composition=null", "set templates to 2 or more"),
        ("calibration.unmeasured=0.5", "no effect: b, c and light all have a region"),
        ("calibration.limits=[1.5, 3]", "a range around 1"),
    ],
)
def test_a_wrong_section_is_refused(tmp_path, override, message):
    with pytest.raises(CardError, match=message):
        ToyStudy(tmp_path / "study").card(override)


def test_a_region_without_data(tmp_path):
    card = ToyStudy(tmp_path / "study").write(keep=lambda kind, region, flavour: (kind, region) != ("data", "wc"))
    with pytest.raises(DataError, match=r"region wc \(calibration.c\).*0 jets in data"):
        run(card)
    assert not (card.folder / "calibration" / "results.json").exists()


def test_a_flavour_without_simulation(tmp_path):
    card = ToyStudy(tmp_path / "study").write(
        keep=lambda kind, region, flavour: (kind, region, flavour) != ("mc", "wc", "c")
    )
    with pytest.raises(DataError, match=r"region wc \(calibration.c\).*0 simulated c jets"):
        run(card)


def test_too_few_jets_are_named_and_the_rest_is_written(tmp_path):
    card = ToyStudy(tmp_path / "study").write("calibration.least=1500", "histograms.stored=none")
    with pytest.raises(Incomplete, match="fewer than 1500"):
        run(card)
    results = json.loads((card.folder / "calibration" / "results.json").read_text())
    points = results["scale_factors"]["net"]["BvsL"]
    assert points["0.1"]["scale_factors"] is not None
    assert points["0.01"]["scale_factors"] is None
    assert "light jets passing" in points["0.01"]["reason"]
    assert not results["complete"]
    content = json.loads((card.folder / "calibration" / "corrections.json").read_text())
    assert "0.01" not in json.dumps(content["corrections"][0]["data"])


def test_nothing_could_be_measured(tmp_path):
    card = ToyStudy(tmp_path / "study").write("calibration.least=1e9", "histograms.stored=none")
    with pytest.raises(DataError, match="nothing could be measured"):
        run(card)


def test_without_evaluation(tmp_path):
    study = ToyStudy(tmp_path / "study")
    card = study.write()
    (study.folder / "evaluation" / "results.json").unlink()
    with pytest.raises(StudyError, match=r"evaluation/results.json: not there.*run `evaluate`"):
        run(card)


def test_an_evaluation_of_another_training(tmp_path):
    study = ToyStudy(tmp_path / "study")
    card = study.write()
    points = [{"mistag": 0.1, "threshold": 0.5}]
    study.evaluation({"models": {"net": {"hash": "other", "working_points": {"BvsL": points}}}})
    with pytest.raises(StudyError, match="network net: evaluation/results.json is of another training"):
        run(card)


def test_unknown_taggers_and_discriminants(tmp_path):
    study = ToyStudy(tmp_path / "study")
    study.write()
    with pytest.raises(CardError, match=r"calibration.taggers: 'nett'.*nearest: net"):
        run(study.card("calibration.taggers=[nett]"))
    with pytest.raises(CardError, match=r"calibration.discriminants: 'QvsG'"):
        run(study.card("calibration.discriminants=[QvsG]"))


def test_jobs_without_the_histograms(tmp_path):
    study = ToyStudy(tmp_path / "study")
    card = study.write("histograms.discriminants=[CvsL]", "histograms.stored=none")
    with pytest.raises(StudyError, match="nothing to calibrate"):
        run(card)


def test_a_working_point_without_threshold(tmp_path):
    study = ToyStudy(tmp_path / "study")
    card = study.write()
    points = [{"mistag": 0.1, "threshold": 0.5}, {"mistag": 0.001, "threshold": None}]
    study.evaluation({"models": {"net": {"hash": "net", "working_points": {"BvsL": points}}}})
    with pytest.raises(Incomplete, match=r"net BvsL at mistag 0.001: evaluate found no threshold"):
        run(card)


def test_shapes_that_do_not_fit_are_warned_of(tmp_path, caplog):
    study = ToyStudy(tmp_path / "study")
    card = study.write("calibration.taggers=[net]", "calibration.templates=3", "calibration.composition=null")
    results = run(card)
    fit = results["scale_factors"]["net"]["BvsL"]["0.1"]["fit"]
    assert fit["ndf"] == 6
    assert fit["p"] < 0.01
    assert "net BvsL at mistag 0.1: the fit is poor" in caplog.text


def test_data_that_the_card_blinds_are_not_fitted(tmp_path):
    study = ToyStudy(tmp_path / "study")
    for window, named in (("BvsL: [0.9, 1]", "agreement_BvsL"), ("jet_pt: [60, 100]", "pair_BvsL_jet_pt")):
        card = study.write(f"comparison.blind={{{window}}}")
        for step in (run, plan):
            with pytest.raises(CardError, match=f"the card blinds .*{named}.* a fit would look at the data"):
                step(card)
    assert not (study.folder / "calibration").exists()
    assert run(study.write("comparison.blind={CvsL: [0.9, 1]}", "histograms.pairs=[]", "histograms.pair_bins={}"))


@pytest.mark.parametrize(
    "key",
    [
        "weights.factors={statistics: {kind: branches, nominal: w, up: wu}}",
        "systematics={statistics_up: {kind: jet_energy_scale, shift: 0.1}}",
    ],
)
def test_no_source_may_have_the_name_of_the_statistical_errors(tmp_path, key):
    """It would take their place in the corrections."""
    study = ToyStudy(tmp_path / "study")
    with pytest.raises(CardError, match="call their statistical errors up_statistics"):
        study.card(key)
    study.card(key, "calibration={}")
