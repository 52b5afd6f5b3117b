"""What the card can ask of a comparison: systematics, stacks by dataset, blinding."""

import json

import numpy as np
import pytest
import uproot
from compare.conftest import Study, fill, with_pair_and_cut

from pfnano_tag.analyze.pairs import Axis, unflattened
from pfnano_tag.analyze.result import Variable
from pfnano_tag.compare.blinding import hidden_bins, hidden_ranges
from pfnano_tag.compare.stage import plan, run
from pfnano_tag.errors import CardError

VARIED = {"tilt_up": lambda x: 1 + 0.2 * x, "tilt_down": lambda x: 1 - 0.2 * x, "rate": lambda x: 1.1 + 0 * x}
"""A source that changes the shape, and one that only changes the rate."""


@pytest.fixture
def varied(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    return fill(Study(folder), varied=VARIED, variants=("fgsm",))


@pytest.fixture
def pictures(monkeypatch):
    """Keep what would be drawn."""
    seen = {}
    monkeypatch.setattr("pfnano_tag.compare.stage.draw", lambda shown: seen.setdefault(shown.path, shown).path)
    monkeypatch.setattr("pfnano_tag.compare.stage.draw_page", lambda *arguments: arguments[-1])
    return seen


def by_name(pictures):
    return {path.name: shown for path, shown in pictures.items()}


def histogram(study, key):
    with uproot.open(study.folder / "comparison" / "histograms.root") as file:
        return file[key].values(flow=True)


def total(study, name, key="dy"):
    """Simulation normalised to luminosity, all flavours, with flow."""
    return sum(histogram(study, f"{key}/{name}/{flavour}") for flavour in ("b", "c", "uds"))


# systematics


def test_the_band_is_the_shifts_in_quadrature(varied, pictures):
    run(varied.card(), workers=1)
    shown = by_name(pictures)["BvsL_good.png"]
    nominal = total(varied, "BvsL/good/nominal")
    place = np.linspace(0, 1, len(nominal))
    band = np.hypot(0.2 * place, 0.1) * nominal
    np.testing.assert_allclose(shown.systematic, band[1:-1])  # scores have no overflow
    assert by_name(pictures)["BvsL_good_fgsm.png"].systematic is None  # attacked inputs were not varied


def test_a_rate_does_not_count_when_simulation_is_scaled_to_data(varied, pictures):
    run(varied.card("comparison.normalisation=data"), workers=1)
    shown = by_name(pictures)["BvsL_good.png"]
    nominal = total(varied, "BvsL/good/nominal")[1:-1]
    place = np.linspace(0, 1, 12)[1:-1]
    scaled = [nominal * f / (nominal * f).sum() for f in (1 + 0.2 * place, 1 - 0.2 * place)]
    np.testing.assert_allclose(shown.systematic, 9000 * np.abs(scaled[0] - scaled[1]) / 2)


def test_systematics_make_the_chi2_smaller_and_are_named(varied, pictures):
    results = run(varied.card(), workers=1)
    assert results["systematics"] == {"tilt": ["tilt_up", "tilt_down"], "rate": ["rate"]}
    entry = results["agreement"]["dy/BvsL/good/nominal"]
    assert 0 < entry["chi2_with_systematics"] < entry["chi2"]
    assert entry["p_with_systematics"] > entry["p"]
    assert entry["bootstrap_with_systematics"]["error"] > 0
    assert results["agreement"]["dy/BvsL/good/fgsm"]["chi2_with_systematics"] is None
    assert results["agreement"]["dy/jet_pt/none/nominal"]["chi2_with_systematics"] > 0
    assert "with syst." in by_name(pictures)["jet_pt.png"].caption
    table = (varied.folder / "comparison" / "table.md").read_text()
    (row,) = [line for line in table.splitlines() if line.startswith("| chi2/ndf BvsL with syst. unc.")]
    assert f"| {entry['chi2_with_systematics'] / entry['ndf']:.2f} ± " in row
    ks = entry["distances"]["ks"]
    assert f"| {ks['value']:.3f} ± {ks['error']:.3f} (p = {ks['p']:.2g})" in table


# distances


def test_distances_are_in_the_results_and_the_worse_model_is_farther(whole, pictures):
    results = run(whole.card("comparison.toys=60"), workers=1)
    good, bad = (results["agreement"][f"dy/BvsL/{model}/nominal"]["distances"] for model in ("good", "bad"))
    for name in ("ks", "earth_mover", "jensen_shannon"):
        assert good[name]["value"] < bad[name]["value"]
        assert bad[name]["p"] == pytest.approx(1 / 61)
        assert good[name]["p"] > 0.01
        assert bad[name]["error"] > 0
        between = results["differences"]["dy/BvsL/nominal"]["good - bad"]["distances"][name]
        assert between["better"] == "good"
    assert bad["earth_mover"]["value"] == pytest.approx(0.6, abs=0.1)  # the shift of the logit
    assert results == {**results, "toys": 60}
    again = run(whole.card("comparison.toys=60"), workers=1)
    assert again == results
    none = run(whole.card("comparison.toys=0"), workers=1)
    assert none["agreement"]["dy/BvsL/bad/nominal"]["distances"]["ks"]["p"] is None


# stacks by dataset


def test_stacks_by_dataset_hold_the_same_total(whole, pictures):
    run(whole.card(), workers=1)
    by_flavour = by_name(pictures)["jet_pt.png"]
    key = "jet_pt/none/nominal"
    flavours = total(whole, key)
    pictures.clear()
    results = run(whole.card("comparison.stack_by=dataset"), workers=1)
    by_dataset = by_name(pictures)["jet_pt.png"]
    assert by_dataset.simulation.keys() == {"dy", "tt"}
    assert by_dataset.colours.keys() == {"dy", "tt"}
    for part in (0, 1):
        sums = [sum(content[part] for content in one.simulation.values()) for one in (by_flavour, by_dataset)]
        np.testing.assert_allclose(*sums)
    np.testing.assert_allclose(flavours, sum(histogram(whole, f"dy/{key}/{d}") for d in ("dy", "tt")))
    tt = whole.written["tt", "tt_1.root"]["jet_pt"][1].values.sum(axis=0)
    np.testing.assert_allclose(histogram(whole, f"dy/{key}/tt"), tt * 0.5 * 1000 * 2.0 / 100)
    assert results["agreement"]["dy/BvsL/good/nominal"]["bootstrap"]["error"] > 0


def test_a_dataset_of_simulation_called_data_can_not_be_stacked(whole):
    with pytest.raises(CardError, match="comparison.stack_by"):
        whole.card("comparison.stack_by=dataset", "datasets.0.name=data")


# blinding


def variable(name="x", kind="kinematics", bins=10, low=0.0, high=100.0, quantity=""):
    return Variable(name, kind, quantity or name, name, "", bins, low, high, ())


@pytest.mark.parametrize(
    ("window", "ranges", "flow"),
    [
        ((20, 40), [(20, 40)], (False, False)),
        ((25, 31), [(20, 40)], (False, False)),  # touched bins are hidden whole
        ((20, 20.001), [(20, 30)], (False, False)),
        ((95, 1000), [(90, 100)], (False, True)),
        ((95, 99), [(90, 100)], (False, True)),  # overflow is drawn in the edge bin
        ((-5, 5), [(0, 10)], (True, False)),
        ((-5, 500), [(0, 100)], (True, True)),
    ],
)
def test_hidden_bins(window, ranges, flow):
    one = variable()
    hidden = hidden_bins(one, {"x": window})
    assert hidden_ranges(one, hidden) == ranges
    assert (hidden[0], hidden[-1]) == flow
    assert not hidden_bins(variable("y"), {"x": window}).any()


def test_the_window_of_a_discriminant_hides_its_logit():
    score = variable("BvsL", "discriminant", 50, 0.0, 1.0)
    fine = variable("agreement_BvsL", "agreement", 480, -12.0, 12.0, "BvsL")
    hidden = hidden_bins(score, {"BvsL": (0.0, 0.1)})
    assert not hidden[0]  # jets without a score
    assert hidden_ranges(score, hidden) == [(0.0, pytest.approx(0.1))]
    ((low, high),) = hidden_ranges(fine, hidden_bins(fine, {"BvsL": (0.8, 1.0)}))
    assert high == 12.0
    assert 0 <= np.log(0.8 / 0.2) - low <= 0.05
    assert hidden_bins(fine, {"BvsL": (0.8, 1.0)})[-1]


def test_the_windows_of_both_axes_hide_cells_of_a_pair():
    edges = (0.0, 0.25, 0.5, 0.75, 1.0)
    axes = (Axis("CvsL", "CvsL", "", edges), Axis("jet_pt", "pt", "GeV", (20.0, 50.0, 100.0)))
    pair = Variable("pair_CvsL_jet_pt", "pair", "CvsL:jet_pt", "", "", 24, 0.0, 24.0, (), axes)
    assert not hidden_bins(pair, {"CvsB": (0.0, 1.0)}).any()
    hidden = unflattened(axes, hidden_bins(pair, {"CvsL": (0.6, 0.9), "jet_pt": (60.0, 90.0)}))
    # places: below (no score), four bins, above; below, two bins, above; the last bin and what is above are one
    expected = np.array([0, 0, 0, 1, 1, 1], dtype=bool)[:, None] | np.array([0, 0, 1, 1], dtype=bool)
    assert np.array_equal(hidden.astype(bool), expected)


def test_blinded_data_are_nowhere(varied, pictures):
    card = varied.card("comparison.blind={BvsL: [0.7, 1.0], jet_pt: [200, 400]}", "comparison.normalisation=data")
    results = run(card, workers=1)
    for model in ("good", "bad"):
        values = histogram(varied, f"dy/BvsL/{model}/nominal/data")
        assert not values[8:].any()
        assert values[1:8].all()
        logit = histogram(varied, f"dy/agreement_BvsL/{model}/nominal/data")
        assert not logit[1 + int((np.log(0.7 / 0.3) + 12) * 2) :].any()
        assert histogram(varied, f"dy/BvsL/{model}/nominal/b")[8:].any()  # simulation is shown
    shown = by_name(pictures)["BvsL_good.png"]
    assert not shown.data[0][7:].any()
    np.testing.assert_array_equal(shown.hidden, np.arange(10) >= 7)
    assert "data blinded: 0.7 to 1" in shown.caption
    # simulation is scaled where data are seen
    simulation = sum(values for values, _ in shown.simulation.values())
    assert simulation[:7].sum() == pytest.approx(shown.data[0].sum())
    pt = histogram(varied, "dy/jet_pt/none/nominal/data")
    assert not pt[-2:].any()
    entry = results["agreement"]["dy/jet_pt/none/nominal"]
    assert entry["data"] == pt.sum() < 9000
    assert entry["simulation"] == pytest.approx(total(varied, "jet_pt/none/nominal")[pt > 0].sum())
    written = json.loads((varied.folder / "comparison" / "results.json").read_text())
    assert written["blinded"]["jet_pt"]["window"] == [200, 400]
    assert written["blinded"]["agreement_BvsL"]["window"] == [0.7, 1.0]
    assert "data blinded: BvsL in 0.7 to 1" in (varied.folder / "comparison" / "table.md").read_text()
    assert "data blinded: jet_pt in 200 to 400" in plan(card)


def test_a_blinded_excess_changes_nothing(study, pictures):
    """Data in the window have no influence on any number."""
    found = []
    for extra in (0, 700):
        fill(study)
        study.random = np.random.default_rng(7)
        study.written.clear()
        fill(study)
        if extra:
            from pfnano_tag.analyze.result import JobResult, write_result

            path = study.folder / "analysis" / "muons" / "muons_1.root"
            with JobResult(path) as job:
                contents = {name: (one, job.read(name)) for name, one in job.variables.items()}
                for name, bins in (("BvsL", [9, 10]), ("agreement_BvsL", slice(-20, -1))):
                    contents[name][1].values[:, bins] += extra
                    contents[name][1].variances[:, bins] += extra
                write_result(path, job.info, job.sums, job.cutflows, contents)
        found.append(run(study.card("comparison.blind={BvsL: [0.8, 1.0]}"), workers=1))
    assert found[0]["agreement"] == found[1]["agreement"]
    assert found[0]["differences"] == found[1]["differences"]


def test_pairs_and_quantities_without_their_cut_are_blinded_too(whole, pictures):
    for path in whole.folder.glob("analysis/*/*.root"):
        with_pair_and_cut(path)
    results = run(whole.card("comparison.blind={BvsL: [0.6, 0.9], jet_pt: [200, 240]}"), workers=1)
    pair = histogram(whole, "dy/pair_BvsL_jet_pt/good/nominal/data")
    np.testing.assert_array_equal(pair[2], 0)  # above 0.5
    assert pair[1, 1] == 2  # two files
    cut = histogram(whole, "dy/without_cut_jet_pt/none/nominal/data")
    assert not cut[14:17].any()
    assert cut[13] == cut[17] == 2
    assert results["blinded"]["without_cut_jet_pt"] == {"window": [200, 240], "hidden": [[195, 240]]}
    assert "pair_BvsL_jet_pt" not in results["blinded"]
    for window, message in (
        ("{pair_BvsL_jet_pt: [0, 9]}", "a pair has the windows of its axes; blind BvsL or jet_pt"),
        ("{jet_pt: [0, 9]}", "--templates without_cut_jet_pt: the card blinds it"),
    ):
        with pytest.raises(CardError, match=message):
            run(whole.card(f"comparison.blind={window}"), workers=1, templates=["without_cut_jet_pt"])
    with pytest.raises(CardError, match="--templates pair_BvsL_jet_pt: has two axes"):
        run(whole.card(), workers=1, templates=["pair_BvsL_jet_pt"])


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ("{BvsX: [0.7, 1.0]}", r"comparison\.blind: the job outputs have no 'BvsX'; nearest: BvsL"),
        ("{BvsL: [1.5, 2.0]}", r"comparison\.blind\.BvsL: no bin lies in \[1\.5, 2\], the axis goes from 0 to 1"),
    ],
)
def test_windows_that_hide_nothing_are_refused(whole, pictures, window, message):
    with pytest.raises(CardError, match=message):
        run(whole.card(f"comparison.blind={window}"), workers=1)
    assert not (whole.folder / "comparison" / "histograms.root").exists()


def test_a_window_upside_down_is_refused(whole):
    with pytest.raises(CardError, match=r"BvsL: \[0\.9, 0\.1\] is no window"):
        whole.card("comparison.blind={BvsL: [0.9, 0.1]}")
