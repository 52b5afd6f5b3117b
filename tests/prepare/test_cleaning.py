"""Cleaning against a loop over jets, and every reason counted once."""

import awkward as ak
import numpy as np
import pytest

from pfnano_tag.card.jets import Jets
from pfnano_tag.errors import MissingBranch
from pfnano_tag.nano.leptons import isolated_leptons
from pfnano_tag.nano.reader import PFNanoFile
from pfnano_tag.prepare.cleaning import REASONS, clean, near_lepton
from tests.prepare.candidates_file import content, write


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A file with NaN in the kinematics of three jets."""
    branches = content(7, 120)
    counts = ak.num(branches["Jet_pt"])
    for name, jet, value in (("Jet_pt", 0, np.nan), ("Jet_eta", 3, np.inf), ("Jet_phi", 5, np.nan)):
        flat = ak.to_numpy(ak.flatten(branches[name])).copy()
        flat[jet] = value
        branches[name] = ak.unflatten(flat, counts)
    return write(tmp_path_factory.mktemp("cleaning") / "broken.root", branches)


def looped(chunk, jets, weight, labelled):
    """The same decisions, jet by jet."""
    found, kept = dict.fromkeys(REASONS, 0), []
    eta, phi = isolated_leptons(chunk)
    pts, row = chunk["Jet_pt"], 0
    for event in range(chunk.num_events):
        leptons = range(eta.offsets[event], eta.offsets[event + 1])
        for _ in range(pts.counts[event]):
            values = [chunk[f"Jet_{name}"].values[row] for name in ("pt", "eta", "phi")]
            separations = [
                np.hypot(values[1] - eta.values[i], np.angle(np.exp(1j * (values[2] - phi.values[i]))))
                for i in leptons
            ]
            why = None
            if not np.isfinite(weight[event]):
                why = "weight_not_finite"
            elif not all(np.isfinite(values)):
                why = "not_finite"
            elif not jets.pt[0] <= values[0] <= jets.pt[1]:
                why = "pt"
            elif abs(values[1]) > jets.abs_eta:
                why = "eta"
            elif any(separation < jets.lepton_overlap for separation in separations):
                why = "lepton"
            elif not labelled[row]:
                why = "label"
            kept.append(why is None)
            if why:
                found[why] += 1
            row += 1
    return np.array(kept), found


def test_equals_a_loop(broken):
    jets = Jets(pt=(20, 60), lepton_overlap=0.8)
    with PFNanoFile(broken) as file:
        chunk = file.chunk(0, file.num_entries)
        weight = chunk["genWeight"].astype(float)
        weight[10:13] = [np.nan, np.inf, -np.inf]
        labelled = np.random.default_rng(0).random(len(chunk["Jet_pt"].values)) < 0.9
        cleaned = clean(chunk, jets, weight, labelled)
        kept, found = looped(chunk, jets, weight, labelled)
    assert np.array_equal(cleaned.kept, kept)
    assert {reason: cleaned.cutflow[reason] for reason in REASONS} == found
    assert all(found.values())  # every reason occurs in the sample
    assert cleaned.cutflow["jets"] == len(kept) == sum(found.values()) + cleaned.cutflow["kept"]


def test_window_includes_its_ends(tmp_path):
    branches = content(8, 40)
    counts = ak.num(branches["Jet_pt"])
    flat = np.full(int(ak.sum(counts)), 30, "f4")
    flat[:4] = [
        20,
        1000,
        np.nextafter(np.float32(20), np.float32(0)),
        np.nextafter(np.float32(1000), np.float32(2000)),
    ]
    branches["Jet_pt"] = ak.unflatten(flat, counts)
    branches["Jet_eta"] = branches["Jet_eta"] * 0 + np.float32(2.5)
    with PFNanoFile(write(tmp_path / "ends.root", branches)) as file:
        chunk = file.chunk(0, 40)
        cleaned = clean(chunk, Jets(lepton_overlap=0), np.ones(40), flat > 0)
    assert cleaned.kept[:4].tolist() == [True, True, False, False]
    assert cleaned.kept[4:].all()


def test_unusable_leptons_are_named_and_can_be_switched_off(tmp_path):
    branches = {name: v for name, v in content(9, 20).items() if name != "Muon_tightId"}
    with PFNanoFile(write(tmp_path / "muons.root", branches)) as file:
        chunk = file.chunk(0, 20)
        labelled = np.ones(len(chunk["Jet_pt"].values), dtype=bool)
        with pytest.raises(MissingBranch, match=r"muons.root.*Muon_tightId.*lepton_overlap=0"):
            clean(chunk, Jets(), np.ones(20), labelled)
        assert clean(chunk, Jets(lepton_overlap=0), np.ones(20), labelled).cutflow["lepton"] == 0


def test_no_lepton_no_overlap(files):
    with PFNanoFile(files[0]) as file:
        assert not near_lepton(file.chunk(0, 50), 1e-6).any()
