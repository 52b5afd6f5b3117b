"""C++ ROOT reads what we write: `hadd` adds job outputs up as we do, and a friend tree stands next to `Events`.

PFNANO_TAG_ROOT names a Python that has ROOT (`run.sh root` makes one); ours has none, and needs none.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import uproot

from pfnano_tag.analyze import stage as analyze
from pfnano_tag.analyze.result import JobResult
from pfnano_tag.card import read_card
from pfnano_tag.card.files import expand_files
from pfnano_tag.infer import stage as infer

PYTHON = os.environ.get("PFNANO_TAG_ROOT")
pytestmark = pytest.mark.skipif(PYTHON is None, reason="PFNANO_TAG_ROOT names no Python that has ROOT")

HADD = """
merger = ROOT.TFileMerger(False)
assert merger.OutputFile(arguments[0], "RECREATE")
assert all(merger.AddFile(file) for file in arguments[1:])
assert merger.Merge()
"""
HISTOGRAM = """
file = ROOT.TFile.Open(arguments[0])
found = {}
for key in file.GetListOfKeys():
    one = key.ReadObj()
    if one.InheritsFrom("TH1"):
        found[key.GetName()] = [one.ClassName(), one.GetEntries(), one.GetSumOfWeights(), one.GetSumw2N() > 0]
print(json.dumps(found))
"""
FRIENDS = """
file = ROOT.TFile.Open(arguments[0])
events = file.Get("Events")
events.AddFriend("Friends", arguments[1])
drawn = events.Draw("Friends.Jet_small_BvsL:Jet_pt:Friends.nJet-nJet", "", "goff")
columns = [[get()[place] for place in range(drawn)] for get in (events.GetV1, events.GetV2, events.GetV3)]
frame = ROOT.RDataFrame(events).Filter("nJet > 1").Define("second", "Friends.Jet_small_BvsL[1]")
print(json.dumps({"entries": events.GetEntries(), "columns": columns, "mean": frame.Mean("second").GetValue()}))
"""


def in_root(script, *arguments):
    """Run a script in the Python that has ROOT; return what it printed, as JSON."""
    head = "import json, sys, warnings\nwarnings.simplefilter('ignore')\nimport ROOT\narguments = sys.argv[1:]\n"
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    command = [str(PYTHON), "-c", head + script, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout.strip() else None


@pytest.fixture(scope="module")
def outputs(small_study, tmp_path_factory):
    """Return the job outputs of two files of simulation."""
    card = read_card(small_study / "card.yaml")
    folder = tmp_path_factory.mktemp("outputs")
    dataset = next(one for one in card.datasets_for("analyze") if one.kind == "mc")
    file = expand_files(card.patterns(dataset))[0]
    other = read_card(small_study / "card.yaml", ["resources.chunk=0.5"])
    first = analyze.run(card, dataset.name, file, folder / "first.root", ["small"])
    return first, analyze.run(other, dataset.name, file, folder / "second.root", ["small"])


def test_hadd_adds_job_outputs_up(outputs, tmp_path):
    added = tmp_path / "sum.root"
    in_root(HADD, added, *outputs)
    with JobResult(outputs[0]) as one, JobResult(outputs[1]) as two, JobResult(added) as both:
        assert set(both.variables) == set(one.variables)
        for name in one.variables:
            contents = [result.read(name) for result in (one, two, both)]
            for kind in ("values", "variances"):
                first, second, total = (getattr(content, kind) for content in contents)
                assert np.allclose(first + second, total, rtol=1e-12, atol=0)
        assert both.sums == {name: value + two.sums[name] for name, value in one.sums.items()}
        for region, flow in both.cutflows.items():
            assert np.array_equal(flow.raw, one.cutflows[region].raw + two.cutflows[region].raw)


def test_root_reads_histograms_with_their_errors(outputs):
    found = in_root(HISTOGRAM, outputs[0])
    with JobResult(outputs[0]) as ours:
        for name in ours.variables:
            kind, _, total, weighted = found[name]
            assert (kind, weighted) == ("TH2D", True)
            inside = ours.read(name).values[:, 1:-1]
            assert total == pytest.approx(inside.sum(), rel=1e-12, abs=1e-12)


def test_a_friend_tree_stands_next_to_events(small_study, tmp_path):
    card = read_card(small_study / "card.yaml")
    file = expand_files(card.patterns(card.datasets_for("analyze")[0]))[0]
    friends = tmp_path / "friends.root"
    infer.run(card, file, ["small"], friends)
    found = in_root(FRIENDS, Path(file).absolute(), friends)
    with uproot.open(friends) as ours, uproot.open(file) as events:
        scores = np.concatenate(ours["Friends"]["Jet_small_BvsL"].array(library="np"))
        pt = np.concatenate(events["Events"]["Jet_pt"].array(library="np"))
        jagged = ours["Friends"]["Jet_small_BvsL"].array(library="np")
    assert found["entries"] == len(jagged)
    assert np.array_equal(np.float32(found["columns"][0]), scores)
    assert np.array_equal(np.float32(found["columns"][1]), pt)
    assert not any(found["columns"][2])
    assert found["mean"] == pytest.approx(np.mean([jets[1] for jets in jagged if len(jets) > 1], dtype=np.float64))
