"""Systematic variations: what moves, what stays, and that the varied job is a job on varied files."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest
from pydantic import TypeAdapter

from pfnano_tag.analyze import stage
from pfnano_tag.analyze.distortions import distorted, distortion_branches
from pfnano_tag.analyze.draws import Draws
from pfnano_tag.analyze.factors import ready_factors
from pfnano_tag.analyze.result import JobResult
from pfnano_tag.analyze.weights import event_weights
from pfnano_tag.card.systematics import Systematic
from pfnano_tag.errors import MissingBranch
from pfnano_tag.nano.columns import Jagged
from pfnano_tag.nano.features import branches_for, read_jets
from pfnano_tag.nano.reader import PFNanoFile
from pfnano_tag.nano.schema import INPUT_SETS
from pfnano_tag.prepare.splitting import event_hash
from tests.analyze.events_file import content, write

CAPS = {"charged": 25, "neutral": 25, "sv": 5}
FEATURES = tuple(f"{group}/{name}" for group, names in INPUT_SETS["constituents"].items() for name in names)
ALL = {"all": {"selection": "all_jets"}}


def systematic(**entry):
    return TypeAdapter(Systematic).validate_python(entry)


def vary(path, entry, name="it", start=0, stop=None):
    """Return tables of nominal and varied jets, and both chunks."""
    with PFNanoFile(path) as file:
        chunk = file.chunk(start, file.num_entries if stop is None else stop)
        read = [*branches_for(FEATURES, file.contents), *distortion_branches(name, entry, file.contents)]
        chunk.load(read)
        hashes = event_hash("mc", chunk["run"], chunk["luminosityBlock"], chunk["event"])
        varied = distorted(name, entry, chunk, hashes, 1, read)
        everything = np.ones(len(chunk["Jet_pt"].values), dtype=bool)
        tables = [read_jets(one, FEATURES, everything, CAPS, 0.95) for one in (chunk, varied)]
        return *tables, chunk, varied


@pytest.fixture(scope="module")
def generated(generate_once):
    return generate_once("systematics.root", process="ttbar", events=150, seed=3, mode="mc", pool_events=100)


def moved(nominal, varied):
    """Return the inputs that differ, of tables with the same constituents."""
    return {name for name in FEATURES if not np.array_equal(nominal.column(name), varied.column(name))}


def test_the_energy_scale_moves_the_jets_own_pt_alone(generated):
    nominal, varied, *_ = vary(generated, systematic(kind="jet_energy_scale", shift=0.05))
    for name in FEATURES:
        first, second = nominal.column(name), varied.column(name)
        if name == "jet/pt":
            np.testing.assert_allclose(second, 1.05 * first, rtol=1e-6)
        else:  # ratios to the uncorrected jet come back with a rounding
            np.testing.assert_allclose(second, first, rtol=2e-5, atol=2e-6, err_msg=name)


def test_missing_momentum_takes_up_what_the_jets_change(tmp_path):
    branches = content("mc", 3, 60)
    rng = np.random.default_rng(1)
    branches |= {"MET_pt": rng.uniform(5, 90, 60).astype("f4"), "MET_phi": rng.uniform(-3, 3, 60).astype("f4")}
    path = write(tmp_path / "met.root", branches)
    entry = systematic(kind="jet_energy_scale", shift=-0.1)
    with PFNanoFile(path) as file:
        chunk = file.chunk(0, 60)
        varied = distorted("down", entry, chunk, np.zeros(60, np.uint64), 1, ["MET_pt", "MET_phi"])
        pt, phi, moved_met = varied["MET_pt"], varied["MET_phi"], chunk["MET_pt"]
        for read in (["MET_pt"], ["MET_phi"]):  # an expression may ask for one alone
            alone = distorted("down", entry, chunk, np.zeros(60, np.uint64), 1, read)[read[0]]
            assert np.array_equal(alone, varied[read[0]])
        assert not np.array_equal(pt, moved_met)
    for i in range(60):
        x = branches["MET_pt"][i] * np.cos(branches["MET_phi"][i])
        y = branches["MET_pt"][i] * np.sin(branches["MET_phi"][i])
        for jet_pt, jet_phi in zip(branches["Jet_pt"][i], branches["Jet_phi"][i], strict=True):
            if jet_pt > 15:
                x, y = x + 0.1 * jet_pt * np.cos(jet_phi), y + 0.1 * jet_pt * np.sin(jet_phi)
        assert pt[i] == pytest.approx(np.hypot(x, y), rel=1e-4)
        assert np.cos(phi[i] - np.arctan2(y, x)) == pytest.approx(1, abs=1e-5)


def test_the_resolution_stretches_the_distance_to_the_generator_jet(generated):
    _, _, chunk, varied = vary(generated, systematic(kind="jet_energy_resolution", factor=1.5))
    with PFNanoFile(generated) as file:
        arrays = file.chunk(0, file.num_entries)
        event = np.repeat(np.arange(arrays.num_events), arrays["Jet_pt"].counts)
        index, offsets = arrays["Jet_genJetIdx"].values, arrays["GenJet_pt"].offsets
        matched = 0
        for jet in range(len(event)):
            before, after = float(chunk["Jet_pt"].values[jet]), float(varied["Jet_pt"].values[jet])
            expected = before
            if index[jet] >= 0:
                row = offsets[event[jet]] + index[jet]
                d_phi = np.angle(np.exp(1j * (arrays["Jet_phi"].values[jet] - arrays["GenJet_phi"].values[row])))
                if np.hypot(arrays["Jet_eta"].values[jet] - arrays["GenJet_eta"].values[row], d_phi) < 0.2:
                    generated_pt = float(arrays["GenJet_pt"].values[row])
                    expected = max(generated_pt + 1.5 * (before - generated_pt), 0.01 * before)
                    matched += 1
            assert after == pytest.approx(expected, rel=1e-5)
        assert matched > 0.8 * len(event)


def test_impact_parameters_get_wider_by_the_factor(generated):
    entry = systematic(kind="impact_parameter_resolution", factor=1.25)
    nominal, varied, chunk, other = vary(generated, entry)
    error = chunk["PFCands_d0Err"].values
    for name in ("d0", "dz"):
        change = other[f"PFCands_{name}"].values.astype(float) - chunk[f"PFCands_{name}"].values
        pulls = (change / chunk[f"PFCands_{name}Err"].values)[error > 0]
        assert not change[error <= 0].any()
        assert pulls.std() == pytest.approx(0.75, rel=0.03)  # sqrt(1.25^2 - 1)
        assert abs(pulls.mean()) < 5 * 0.75 / np.sqrt(len(pulls))
    assert len(nominal) == len(varied)
    for group in ("neutral", "sv"):
        for name in INPUT_SETS["constituents"][group]:
            assert np.array_equal(nominal.column(f"{group}/{name}"), varied.column(f"{group}/{name}"))
    first, second = (table.column("charged/trackSip2dSig") for table in (nominal, varied))
    assert 1.02 < np.std(np.clip(second, -5, 5)) / np.std(np.clip(first, -5, 5)) < 1.4


def test_stored_impact_parameters_follow_the_tracks(generated):
    """What files hold moves as what is derived moves: by the bias, signed by the jet."""
    entry = systematic(kind="impact_parameter_bias", transverse=0.01)
    *_, chunk, other = vary(generated, entry)
    links = chunk["JetPFCands_jetIdx"]
    event = np.repeat(np.arange(len(links)), links.counts)
    row = chunk["PFCands_pt"].offsets[event] + chunk["JetPFCands_pFCandsIdx"].values
    track = chunk["PFCands_d0Err"].values[row] > 0
    before, after = (one["JetPFCands_btagSip3dVal"].values.astype(float) for one in (chunk, other))
    assert np.array_equal(before[~track], after[~track])
    jet = chunk["Jet_pt"].offsets[event] + links.values

    def impact(d0, link):
        """Vector from the vertex to the track where it is nearest, as long as it is; signed by the jet."""
        column = {name: float(chunk[f"PFCands_{name}"].values[row[link]]) for name in ("dz", "eta", "phi")}
        eta, phi = (float(chunk[f"Jet_{name}"].values[jet[link]]) for name in ("eta", "phi"))
        point = np.array([-d0 * np.sin(column["phi"]), d0 * np.cos(column["phi"]), column["dz"]])
        along = np.array([np.cos(column["phi"]), np.sin(column["phi"]), np.sinh(column["eta"])])
        nearest = point - along * (point @ along) / (along @ along)
        return np.copysign(np.linalg.norm(nearest), nearest @ [np.cos(phi), np.sin(phi), np.sinh(eta)])

    chosen = np.flatnonzero(track)[::7]
    d0 = chunk["PFCands_d0"].values[row].astype(float)
    expected = [impact(d0[link] + 0.01, link) - impact(d0[link], link) for link in chosen]
    np.testing.assert_allclose((after - before)[chosen], expected, atol=2e-5)
    stored = chunk["JetPFCands_btagSip3dSig"].values.astype(float)
    error = np.divide(before, stored, out=np.zeros(len(stored)), where=np.abs(stored) > 0)
    significance = other["JetPFCands_btagSip3dSig"].values[chosen]
    known = np.isfinite(significance) & (error[chosen] > 0)
    expected = after[chosen][known] / error[chosen][known]
    np.testing.assert_allclose(significance[known], expected, rtol=1e-3, atol=1e-3)


def test_lost_tracks(generated):
    nominal, varied, chunk, other = vary(generated, systematic(kind="tracking_efficiency", loss=0.3))
    charged = chunk["PFCands_charge"].values != 0
    left = other["PFCands_charge"].values != 0
    assert np.count_nonzero(~left) == np.count_nonzero(~charged)
    assert 1 - left.sum() / charged.sum() == pytest.approx(0.3, abs=4 * np.sqrt(0.21 / charged.sum()))
    assert other["PFCands_pt"].values.min() > 0
    ratio = varied.column("jet/nCpfcand").sum() / nominal.column("jet/nCpfcand").sum()
    assert ratio == pytest.approx(0.7, abs=0.03)
    assert np.array_equal(varied.column("jet/nNpfcand"), nominal.column("jet/nNpfcand"))
    assert np.array_equal(varied.column("sv/mass"), nominal.column("sv/mass"))
    kept = set(zip(*(nominal.column(f"charged/{n}").tolist() for n in ("ptrel", "trackPPar")), strict=True))
    after = set(zip(*(varied.column(f"charged/{n}").tolist() for n in ("ptrel", "trackPPar")), strict=True))
    assert len(after - kept) < 0.05 * len(after)  # those that truncation had cut


def test_lost_vertices(generated):
    nominal, varied, *_ = vary(generated, systematic(kind="vertex_efficiency", loss=0.4))
    assert varied.column("jet/nsv").sum() == pytest.approx(0.6 * nominal.column("jet/nsv").sum(), rel=0.15)
    before = set(zip(*(nominal.column(f"sv/{n}").tolist() for n in ("mass", "pt", "d3d")), strict=True))
    assert set(zip(*(varied.column(f"sv/{n}").tolist() for n in ("mass", "pt", "d3d")), strict=True)) < before
    assert np.array_equal(np.sort(varied.column("charged/trackPPar")), np.sort(nominal.column("charged/trackPPar")))
    nearest = [np.sort(one.column("charged/drminsv")) for one in (nominal, varied)]
    assert (nearest[1] >= nearest[0]).all()
    assert nearest[1].sum() > nearest[0].sum()


@pytest.mark.parametrize(
    "entry",
    [
        {"kind": "impact_parameter_resolution", "factor": 1.2},
        {"kind": "tracking_efficiency", "loss": 0.1},
        {"kind": "vertex_efficiency", "loss": 0.2},
    ],
)
def test_random_numbers_do_not_depend_on_chunks(generated, entry):
    _, whole, *_ = vary(generated, systematic(**entry))
    parts = [vary(generated, systematic(**entry), start=a, stop=b)[1] for a, b in ((0, 40), (40, 150))]
    for name in FEATURES:
        joined = np.concatenate([part.column(name) for part in parts])
        assert np.array_equal(joined, whole.column(name)), name


def test_other_names_and_seeds_draw_other_numbers():
    hashes, offsets = np.arange(50, dtype=np.uint64), np.arange(0, 510, 10)
    draws = [Draws(hashes, seed, name).uniform(offsets, what) for seed, name, what in
             ((1, "a", "x"), (2, "a", "x"), (1, "b", "x"), (1, "a", "y"))]  # fmt: skip
    for i, first in enumerate(draws):
        assert 0.4 < first.mean() < 0.6
        assert all(abs(np.corrcoef(first, second)[0, 1]) < 0.2 for second in draws[:i])


def test_the_varied_part_of_a_job_is_a_job_on_varied_files(tmp_path, card_with):
    """Jet energies in the file, and as a systematic: the same histograms, of inputs, scores and selections."""
    branches = content("mc", 6, 120)
    up = dict(branches)
    for name in ("Jet_pt", "Jet_mass"):
        up[name] = branches[name] * np.float32(1.125)
    raw = 1 - ak.values_astype(branches["Jet_rawFactor"], "float64")
    up["Jet_rawFactor"] = ak.values_astype(1 - raw / 1.125, "float32")
    up["JetSVs_enration"] = ak.values_astype(
        ak.values_astype(branches["JetSVs_enration"], "float64") / 1.125, "float32"
    )
    plain, shifted = write(tmp_path / "plain.root", branches), write(tmp_path / "up.root", up)
    section = {"jes_up": {"kind": "jet_energy_scale", "shift": 0.125}}
    stage.run(card_with(systematics=section), "mc", str(plain), tmp_path / "with.root")
    stage.run(card_with(), "mc", str(shifted), tmp_path / "shifted.root")
    stage.run(card_with(), "mc", str(plain), tmp_path / "without.root")
    with (
        JobResult(tmp_path / "with.root") as both,
        JobResult(tmp_path / "shifted.root") as expected,
        JobResult(tmp_path / "without.root") as nominal,
    ):
        assert both.info["systematics"] == ["nominal", "jes_up"]
        compared = 0
        for name, variable in both.variables.items():
            content_of = both.read(name).values
            for one, which in ((nominal, "nominal"), (expected, "jes_up")):
                place = {c: i for i, c in enumerate(one.variables[name].categories)}
                values = one.read(name).values
                for row, category in enumerate(variable.categories):
                    if category.systematic == which:
                        wanted = values[place[category._replace(systematic="nominal")]]
                        assert np.array_equal(content_of[row], wanted), (name, category)
                        compared += 1
        assert compared > 500


def test_factors_of_the_weight_and_their_variations(tmp_path, card_with):
    branches = content("mc", 5, 40)
    rng = np.random.default_rng(0)
    extra = {name: rng.uniform(0.5, 1.5, 40).astype("f4") for name in ("A", "A_up", "A_down", "B", "B_up")}
    extra["B_up"][4] = np.nan
    path = write(tmp_path / "w.root", {**branches, **extra})
    factors = {
        "first": {"kind": "branches", "nominal": "A", "up": "A_up", "down": "A_down"},
        "second": {"kind": "branches", "nominal": "B", "up": "B_up"},
    }
    card = card_with(weights={"factors": factors})
    mc = card.dataset("mc")
    ready = ready_factors(card, mc)
    with PFNanoFile(path) as file:
        found = event_weights(file.chunk(0, 40), card, mc, ready, False, None, np.zeros(0, np.int64))
    generator = np.array(branches["genWeight"], dtype=float)
    expected = {
        "nominal": ("A", "B"),
        "first_up": ("A_up", "B"),
        "first_down": ("A_down", "B"),
        "second_up": ("A", "B_up"),
    }
    assert list(found.weights) == list(expected)
    assert np.flatnonzero(~found.used).tolist() == [4]  # one bad variation drops the event from all
    for name, (first, second) in expected.items():
        weight = generator * extra[first].astype(float) * extra[second].astype(float)
        np.testing.assert_allclose(found.weights[name], np.where(found.used, weight, 0), rtol=1e-14)


def test_weights_of_the_systematic_axis_are_filled_side_by_side(tmp_path, card_with):
    branches = content("mc", 5, 40)
    path = write(tmp_path / "w.root", {**branches, "A": np.full(40, 2, "f4"), "A_up": np.full(40, 3, "f4")})
    factors = {"first": {"kind": "branches", "nominal": "A", "up": "A_up"}}
    stage.run(card_with(weights={"factors": factors}, regions=ALL), "mc", str(path), tmp_path / "h.root")
    with JobResult(tmp_path / "h.root") as result:
        for name, variable in result.variables.items():
            content_of, categories = result.read(name), variable.categories
            place = {category: row for row, category in enumerate(categories)}
            varied = [category for category in categories if category.systematic == "first_up"]
            assert varied
            for category in varied:
                nominal = place[category._replace(systematic="nominal")]
                row = place[category]
                np.testing.assert_allclose(content_of.values[row], 1.5 * content_of.values[nominal], rtol=1e-12)
                np.testing.assert_allclose(
                    content_of.variances[row], 2.25 * content_of.variances[nominal], rtol=1e-12
                )


def test_data_have_no_variations(files, tmp_path, card_with):
    card = card_with(systematics={"jes_up": {"kind": "jet_energy_scale", "shift": 0.1}}, regions=ALL)
    stage.run(card, "data", str(files["data"]), tmp_path / "data.root")
    with JobResult(tmp_path / "data.root") as result:
        assert result.info["systematics"] == ["nominal"]


def test_attacked_variants_are_varied_only_when_asked(files, tmp_path, card_with):
    section = {"jes_up": {"kind": "jet_energy_scale", "shift": 0.1}}
    for asked in (False, True):
        histograms = {"variants": ["fgsm"], "systematics_of_variants": asked}
        card = card_with(["first"], systematics=section, histograms=histograms, regions=ALL)
        stage.run(card, "mc", str(files["mc"]), tmp_path / f"{asked}.root")
        with JobResult(tmp_path / f"{asked}.root") as result:
            rows = [i for i, c in enumerate(result.variables["BvsL"].categories)
                    if (c.variant, c.systematic) == ("fgsm", "jes_up")]  # fmt: skip
            assert bool(rows) == asked
            assert not asked or result.read("BvsL").values[rows].sum() > 0


@pytest.mark.parametrize("broken", [-7, -1, 10_000])
@pytest.mark.parametrize("branch", ["JetSVs_jetIdx", "JetSVs_sVIdx", "JetPFCands_jetIdx", "JetPFCands_pFCandsIdx"])
@pytest.mark.parametrize(
    "entry",
    [
        {"kind": "jet_energy_scale", "shift": 0.1},
        {"kind": "impact_parameter_bias", "transverse": 0.01},
        {"kind": "tracking_efficiency", "loss": 0.3},
        {"kind": "vertex_efficiency", "loss": 0.3},
    ],
    ids=lambda entry: entry["kind"],
)
def test_links_to_nothing_are_left_to_those_who_follow_them(generated, branch, broken, entry):
    """A variation is made before anything is selected: a broken link is no reason to end there, or to move others."""
    entry = systematic(**entry)
    with PFNanoFile(generated) as file:
        chunk = file.chunk(0, file.num_entries)
        read = [*branches_for(FEATURES, file.contents), *distortion_branches("it", entry, file.contents)]
        chunk.load(read)
        hashes = event_hash("mc", chunk["run"], chunk["luminosityBlock"], chunk["event"])
        whole = distorted("it", entry, chunk, hashes, 1, read)
        links = chunk[branch].values.copy()
        links[5] = broken
        other = distorted("it", entry, chunk.varied({branch: Jagged(links, chunk[branch].offsets)}), hashes, 1, read)
        for name in ("Jet_pt", "PFCands_d0", "SV_eta", "PFCands_pt"):
            assert np.array_equal(other[name].values, whole[name].values)
        for name in ("JetSVs_enration", "JetPFCands_btagSip3dVal"):
            first, second = whole[name].values, other[name].values
            if len(first) == len(second):  # a link to nothing may be one that would have been lost
                assert np.count_nonzero(~((first == second) | (np.isnan(first) & np.isnan(second)))) <= 1


def test_a_file_without_candidates_has_no_tracks_to_vary(generated_layouts):
    path = generated_layouts("deepjet")
    with PFNanoFile(path) as file, pytest.raises(MissingBranch, match=r"systematics\.tracks .* layout deepjet"):
        distortion_branches("tracks", systematic(kind="tracking_efficiency", loss=0.1), file.contents)


def test_variations_share_one_axis(card_with):
    factor = {"jes": {"kind": "branches", "nominal": "A", "up": "B"}}
    with pytest.raises(ValueError, match="systematics.jes_up: the variation of a factor"):
        card_with(weights={"factors": factor}, systematics={"jes_up": {"kind": "jet_energy_scale", "shift": 0.1}})


def test_weights_made_of_varied_jets_follow_them(card_with, tmp_path):
    """A factor of jets is that of the varied jets; one of anything else stays."""
    branches = content("mc", 21, 80)
    path = write(tmp_path / "mc.root", branches)
    section = {"up": {"kind": "jet_energy_scale", "shift": 0.5}}
    factors = {
        "jets": {"kind": "expression", "nominal": "1 + count(Jet_pt > 40)"},
        "other": {"kind": "expression", "nominal": "0.5 + 0 * PV_npvs"},
    }
    card = card_with([], regions=ALL, systematics=section, weights={"factors": factors}, jets={"lepton_overlap": 0})
    stage.run(card, "mc", str(path), tmp_path / "h.root", [])
    expected = dict.fromkeys(("nominal", "up"), 0.0)
    for i in range(80):
        for name, scale in (("nominal", 1.0), ("up", 1.5)):
            pt, eta = scale * np.array(branches["Jet_pt"][i]), np.array(branches["Jet_eta"][i])
            if ((pt >= 20) & (pt <= 1000) & (abs(eta) <= 2.5)).any():
                expected[name] += 0.5 * (1 + np.count_nonzero(pt > 40)) * float(branches["genWeight"][i])
    with JobResult(tmp_path / "h.root") as result:
        variable, values = result.variables["num_jets"], result.read("num_jets").values
        for name, wanted in expected.items():
            rows = [row for row, category in enumerate(variable.categories) if category.systematic == name]
            assert values[rows].sum() == pytest.approx(wanted, rel=1e-5)
