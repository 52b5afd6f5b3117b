"""inspect: what files are, and bad input."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

import pfnano_tag
from pfnano_tag.__main__ import COMMANDS, listing
from pfnano_tag.errors import FileError
from pfnano_tag.inspect import as_text, feature_table, inspect_file, parser, run
from pfnano_tag.nano.schema import FEATURES

MODULE = [sys.executable, "-m", "pfnano_tag.inspect"]


@pytest.fixture(scope="module")
def real(shared_data):
    """The real PFNano file, inspected once."""
    return inspect_file(str(shared_data / "pfnano_qcd_mc_2017UL_10ev.root"))


def test_real_simulation_with_candidates(shared_data, real):
    path, found = str(shared_data / "pfnano_qcd_mc_2017UL_10ev.root"), real
    assert (found["path"], found["layout"], found["kind"]) == (path, "candidates", "mc")
    assert (found["events"], found["jets"], found["container"], found["compression"]) == (10, 64, "TTree", "LZMA 9")
    assert found["trees"]["Events"] == 10
    assert {"Runs", "LuminosityBlocks"} <= found["trees"].keys()
    assert found["sums_of_weights"] == {"count": 10, "sumw": 10.0, "sumw2": 10.0}
    assert found["stored_taggers"]["DeepJet"]["BvsAll"] == "Jet_btagDeepFlavB"
    assert found["features"].keys() == FEATURES.keys()
    assert found["targets"]["jet/pt_ratio"] == []
    assert found["targets"]["charged/origin"] == ["GenCands_genPartMotherIdx"]
    assert found["features"]["neutral/HadFrac"] == "missing"
    assert [name for name, status in found["features"].items() if status == "missing"] == ["neutral/HadFrac"]
    assert found["features"]["charged/trackSip3dSig"] == "read"
    assert found["features"]["charged/trackPtRel"] == "derived"


def test_flavours_are_those_of_a_loop_over_jets(shared_data, real):
    path = shared_data / "pfnano_qcd_mc_2017UL_10ev.root"
    with uproot.open(path) as file:
        names = ["Jet_hadronFlavour", "Jet_partonFlavour", "Jet_nBHadrons"]
        truth = file["Events"].arrays(names, library="np")
    loop = Counter()
    for event in range(10):
        for hadron, parton, nb in zip(*(truth[name][event] for name in names), strict=True):
            if hadron == 5:
                loop["bb" if nb > 1 else "b"] += 1
            elif hadron == 4:
                loop["c"] += 1
            else:
                loop[{1: "uds", 2: "uds", 3: "uds", 21: "g"}.get(abs(parton), "undefined")] += 1
    found = real["flavours"]
    assert {name: count for name, count in found.items() if count} == dict(loop)
    assert sum(found.values()) == 64


def test_share_of_placeholders(real):
    defaults = real["defaults"]
    assert defaults["jet/trackSumJetEtRatio"] == pytest.approx(8 / 64)
    assert defaults["jet/trackSip3dSigAboveCharm"] == pytest.approx(21 / 64)
    assert defaults["jet/pt"] == 0
    assert "neutral/HadFrac" not in defaults


def test_nano_without_candidates(shared_data):
    simulation = inspect_file(str(shared_data / "nano_dy_mc_40ev.root"))
    assert (simulation["layout"], simulation["kind"], simulation["events"]) == ("nano", "mc", 40)
    assert sum(simulation["flavours"].values()) == simulation["jets"]
    data = inspect_file(str(shared_data / "nano_dimuon_data_40ev.root"))
    assert (data["layout"], data["kind"], data["flavours"], data["sums_of_weights"]) == ("nano", "data", {}, None)
    assert {status for name, status in data["features"].items() if name.startswith("charged/")} == {"missing"}


def small_file(path, **branches):
    with uproot.recreate(path) as file:
        file.mktree("Events", {name: values.dtype for name, values in branches.items()})
        file["Events"].extend(branches)
    return str(path)


def test_a_tree_without_jets_is_unknown(tmp_path):
    found = inspect_file(small_file(tmp_path / "a.root", run=np.arange(3, dtype=np.uint32)))
    assert (found["layout"], found["events"], found["jets"], found["defaults"]) == ("unknown", 3, 0, {})
    assert "no jets" in as_text(found)


def test_text_names_the_essentials(real):
    text = as_text(real)
    for words in ("candidates", "64", "HadFrac", "LZMA 9", "DeepJet", "neutral  missing  HadFrac"):
        assert words in text


def test_json_of_several_files(shared_data, capsys):
    run(parser().parse_args([str(shared_data / "nano_*_40ev.root"), "--json"]))
    files = json.loads(capsys.readouterr().out)["files"]
    assert [one["kind"] for one in files] == ["data", "mc"]


def test_a_file_that_is_not_root_is_exit_2(tmp_path):
    text = tmp_path / "no.root"
    text.write_text("not a ROOT file, but long enough to have a header" * 10)
    done = subprocess.run([*MODULE, str(text)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert str(text) in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_other_unreadable_files(tmp_path, shared_data):
    with pytest.raises(FileError, match="no such file"):
        run(parser().parse_args([str(tmp_path / "none.root")]))
    whole = (shared_data / "pfnano_qcd_mc_2017UL_10ev.root").read_bytes()
    cut = tmp_path / "cut.root"
    cut.write_bytes(whole[: len(whole) // 3])
    with pytest.raises(FileError, match=r"cut\.root"):
        run(parser().parse_args([str(cut)]))
    with uproot.recreate(tmp_path / "other.root") as file:
        file.mktree("Other", {"x": np.float32})
    with pytest.raises(FileError, match="Other"):
        run(parser().parse_args([str(tmp_path / "other.root")]))


def test_listing_has_every_command_and_no_other():
    package = Path(pfnano_tag.__file__).parent
    there = {folder.parent.name for folder in package.glob("*/__main__.py")} | {"inspect"}
    assert {command.name for command in COMMANDS} == there
    assert all(f"  {name} " in listing() for name in there)


def test_the_document_holds_the_table_that_is_printed():
    document = Path(__file__).resolve().parents[1] / "docs" / "layouts.md"
    assert feature_table() in document.read_text(encoding="utf-8")


def test_jets_without_all_of_their_four_vector_are_described(tmp_path):
    """What a file lacks is what one asks for; the counter, which may be damaged, is not trusted."""
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("Events", {"Jet": "var * {pt: float32}"}, field_name=lambda outer, inner: f"{outer}_{inner}")
        file["Events"].extend({"Jet": ak.zip({"pt": ak.from_regular(np.ones((3, 2), np.float32))})})
    found = inspect_file(str(tmp_path / "a.root"))
    assert (found["jets"], found["features"]["jet/pt"], found["features"]["jet/eta"]) == (6, "read", "missing")
    assert found["defaults"] == {}
