"""Seeds, resume, manifest, options, and the command line."""

import json
from dataclasses import replace

import numpy as np
import pytest
import uproot

from pfnano_tag.card import generate as section
from pfnano_tag.errors import UserError
from pfnano_tag.generate import __main__ as command
from pfnano_tag.generate.processes import _DECAYS, _HARD, PROCESS_IDS, ProcessOptions, settings_of
from pfnano_tag.generate.production import make_file, pool_for, produce, read_summary
from pfnano_tag.generate.simulation import identity
from pfnano_tag.generate.underlying_event import Pool
from pfnano_tag.generate.units import Unit


@pytest.fixture(scope="module")
def pool():
    return pool_for("mc", 5, 50)


def test_same_seed_same_content(tmp_path, pool):
    unit = Unit("qcd", 60, 5, options=ProcessOptions(pt_hat=(30, 80)))
    first = make_file(unit, tmp_path / "a.root", pool)
    second = make_file(unit, tmp_path / "b.root", pool)
    assert first == second
    other = make_file(Unit("qcd", 60, 5, index=1, options=unit.options), tmp_path / "c.root", pool)
    assert other["content"] != first["content"]
    assert other["settings"] != first["settings"]


def test_pool_survives_the_disk(tmp_path, pool):
    pool.save(tmp_path / "pool.npz")
    loaded = Pool.load(tmp_path / "pool.npz")
    for name in ("particles", "ghosts"):
        ours, theirs = getattr(pool, name), getattr(loaded, name)
        assert np.array_equal(ours.offsets, theirs.offsets)
        assert all(np.array_equal(ours[k], theirs[k]) for k in ours.columns)
    assert np.array_equal(pool.scatterings, loaded.scatterings)


def test_production_resumes(tmp_path):
    units = [Unit("dy", 20, 9, sample="z", index=k, pool_events=50) for k in range(2)]
    first = produce(units, tmp_path, workers=1)
    kept, redone = (tmp_path / "z" / f"z_{k}.root" for k in range(2))
    stamp = kept.stat().st_mtime_ns
    redone.unlink()
    again = produce(units, tmp_path, workers=1)
    assert again == first == json.loads((tmp_path / "manifest.json").read_text())
    assert kept.stat().st_mtime_ns == stamp
    sample = first["samples"]["z"]
    assert (sample["num_files"], sample["num_events"], sample["sumw"]) == (2, 40, 40.0)
    assert not list(tmp_path.rglob("*.tmp*"))
    events = [
        uproot.open(p)["Events"].arrays(["run", "luminosityBlock", "event"], library="np") for p in (kept, redone)
    ]
    ids = [set(zip(*(e[k] for k in e), strict=True)) for e in events]
    assert not ids[0] & ids[1]
    # other settings: the file is made again
    changed = produce([Unit("dy", 10, 9, sample="z", index=0, pool_events=50)], tmp_path, workers=1)
    assert changed["samples"]["z"]["num_events"] == 10
    assert read_summary(kept)["num_events"] == 10


def test_truth_is_that_of_the_very_events_of_data(tmp_path):
    pool = pool_for("data", 5, 50)
    data = Unit("ttbar", 30, 5, mode="data", sample="twin", index=1, pool_events=50)
    truth = replace(data, mode="truth")
    assert data.settings_hash() != truth.settings_hash()
    for unit in (data, truth):
        make_file(unit, tmp_path / f"{unit.mode}.root", pool)
    with uproot.open(tmp_path / "data.root") as hidden, uproot.open(tmp_path / "truth.root") as unveiled:
        shared = hidden["Events"].keys()
        assert set(unveiled["Events"].keys()) > set(shared)
        assert {"Jet_hadronFlavour", "genWeight"} <= set(unveiled["Events"].keys()) - set(shared)
        for name in shared:
            ours, theirs = (tree["Events"][name].array() for tree in (hidden, unveiled))
            assert ours.tolist() == theirs.tolist(), name
        assert unveiled["Runs"]["genEventSumw"].array().tolist() == [30.0]
        assert hidden["Runs"]["run"].array().tolist() == unveiled["Runs"]["run"].array().tolist()


def test_identities_never_repeat():
    seen = set()
    for sample in (3, 4):
        for index in range(3):
            for start, number, total in ((0, 1000, 1500), (1000, 500, 1500)):
                ids = identity("data", sample, index, start, number, total)
                seen |= set(zip(ids["run"], ids["luminosityBlock"], ids["event"], strict=True))
    assert len(seen) == 2 * 3 * 1500


def test_flat_qcd_has_weights(tmp_path, pool):
    unit = Unit("qcd", 80, 5, options=ProcessOptions(pt_hat=(20, 0), flat=True))
    summary = make_file(unit, tmp_path / "flat.root", pool)
    with uproot.open(tmp_path / "flat.root") as stored:
        weight = stored["Events"]["genWeight"].array(library="np")
        assert weight.std() / weight.mean() > 1
        assert stored["Runs"]["genEventSumw"].array(library="np")[0] == pytest.approx(weight.sum(dtype=float))
    assert summary["sumw"] == pytest.approx(weight.sum(dtype=float))


def test_w_plus_charm_has_charm(tmp_path, pool):
    unit = Unit("wjets", 40, 5, options=ProcessOptions(flavour="charm", decays="munu"))
    summary = make_file(unit, tmp_path / "wc.root", pool)
    assert 0.02 < summary["filter_efficiency"] < 0.5
    with uproot.open(tmp_path / "wc.root") as stored:
        arrays = stored["Events"].arrays(["GenPart_pdgId", "GenPart_status"])
    charm = (abs(arrays["GenPart_pdgId"]) == 4) & (arrays["GenPart_status"] == 23)
    assert all(charm.to_list()[k].count(True) >= 1 for k in range(40))


def test_forced_decays_change_the_cross_section(tmp_path, pool):
    inclusive = make_file(Unit("ttbar", 30, 5), tmp_path / "t.root", pool)
    dilepton = make_file(Unit("ttbar", 30, 5, options=ProcessOptions(decays="dilepton")), tmp_path / "l.root", pool)
    share = dilepton["cross_section_pb"] / inclusive["cross_section_pb"]
    assert share == pytest.approx(0.105, rel=0.5)  # (3 * 0.108)^2, few events


def test_card_and_generator_know_the_same_choices():
    assert set(section.DECAYS) == set(section.FLAVOURS) == set(PROCESS_IDS) - {"minbias"}
    assert set(command._PROCESSES) == set(section.DECAYS)
    for process in section.DECAYS:
        for decays in section.DECAYS[process]:
            assert settings_of(process, ProcessOptions(decays=decays))
            assert decays == "all" or (process, decays) in _DECAYS
        assert {f for p, f in _HARD if p == process} == set(section.FLAVOURS[process])


def test_wrong_options_are_named(tmp_path, capsys):
    with pytest.raises(UserError, match="dilepton"):
        ProcessOptions(decays="mumu").check("ttbar")
    with pytest.raises(UserError, match="flat"):
        ProcessOptions(flat=True).check("dy")
    with pytest.raises(UserError, match="pt_hat"):
        ProcessOptions(pt_hat=(50, 20)).check("qcd")
    out = tmp_path / "x.root"
    assert command.main(["--process", "dy", "--decays", "dilepton", "-o", str(out)]) == 2
    assert "mumu" in capsys.readouterr().err
    assert command.main(["--process", "dy"]) == 2
    assert command.main(["--process", "dy", "--events", "0", "-o", str(out)]) == 2
    assert not out.exists()


def test_a_file_with_events_that_was_not_generated_is_not_written_over(tmp_path, capsys):
    out = tmp_path / "mine.root"
    with uproot.recreate(out) as file:
        file.mktree("Events", {"x": "f4"})
    before = out.read_bytes()
    assert command.main(["--process", "dy", "--events", "2", "-o", str(out)]) == 2
    assert "holds a tree 'Events'" in capsys.readouterr().err
    assert out.read_bytes() == before


def test_single_file_by_command_line(tmp_path, capsys):
    out = tmp_path / "one.root"
    arguments = ["--process", "dy", "--events", "20", "--seed", "2", "--compression", "lzma", "--all-candidates"]
    assert command.main([*arguments, "--underlying-event", "pythia", "-o", str(out)]) == 0
    assert "pb" in capsys.readouterr().out
    with uproot.open(out) as stored:
        assert stored["Events"].num_entries == 20
        assert stored.file.compression.name == "LZMA"
        events = stored["Events"].arrays(["nPFCands", "nJetPFCands"], library="np")
        assert (events["nPFCands"] > events["nJetPFCands"]).all()
