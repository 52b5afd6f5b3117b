"""Templates for fits: ROOT, Combine's datacard, pyhf's workspace, and what is refused."""

import json

import numpy as np
import pytest
import uproot
from compare.conftest import FLAVOURS, Study, fill

from pfnano_tag.compare.stage import plan, run
from pfnano_tag.compare.workspaces import Channel, Process, datacard, workspace
from pfnano_tag.errors import CardError

VARIED = {"tilt_up": lambda x: 1 + 0.2 * x, "tilt_down": lambda x: 1 - 0.2 * x, "tracks": lambda x: 1.1 + 0 * x}


@pytest.fixture
def no_pictures(monkeypatch):
    monkeypatch.setattr("pfnano_tag.compare.stage.draw", lambda shown: shown.path)
    monkeypatch.setattr("pfnano_tag.compare.stage.draw_page", lambda *arguments: arguments[-1])


@pytest.fixture
def varied(tmp_path, no_pictures):
    folder = tmp_path / "small"
    folder.mkdir()
    return fill(Study(folder), varied=VARIED)


def content(study, stem):
    folder = study.folder / "comparison" / "templates"
    with uproot.open(folder / f"{stem}.root") as file:
        found = {key: file[key].to_numpy()[0] for key in file.keys(cycle=False) if "/" in key}
        errors = {key: file[key].errors() for key in found}
    return found, errors, (folder / f"{stem}.txt").read_text(), json.loads((folder / f"{stem}.json").read_text())


def test_templates_are_what_the_pictures_show(varied):
    """Flow in the edge bins; normalised to luminosity even where the pictures are scaled to data."""
    results = run(varied.card("comparison.normalisation=data"), workers=1, templates=["jet_pt", "BvsL"])
    root, errors, *_ = content(varied, "jet_pt")
    with uproot.open(varied.folder / "comparison" / "histograms.root") as file:
        for name in ("b", "c", "uds"):
            flow = file[f"dy/jet_pt/none/nominal/{name}"].values(flow=True)
            assert root[f"dy/{name}"].sum() == pytest.approx(flow.sum())
            np.testing.assert_allclose(root[f"dy/{name}"][1:-1], flow[2:-2])
            w2 = file[f"dy/jet_pt/none/nominal/{name}"].variances(flow=True)
            assert (errors[f"dy/{name}"] ** 2).sum() == pytest.approx(w2.sum())
            up = file[f"dy/jet_pt/none/nominal/{name}__tilt_up"].values(flow=True)
            assert root[f"dy/{name}_tiltUp"].sum() == pytest.approx(up.sum())
            mirror = 2 * root[f"dy/{name}"] - root[f"dy/{name}_tracksUp"]
            np.testing.assert_allclose(root[f"dy/{name}_tracksDown"], mirror)
    assert root["dy/data_obs"].sum() == 9000
    assert root.keys() == {
        "dy/data_obs",
        *(f"dy/{n}{s}" for n in FLAVOURS for s in ("", "_tiltUp", "_tiltDown", "_tracksUp", "_tracksDown")),
    }
    written = {(one["variable"], one["model"]): one for one in results["templates"]}
    assert written.keys() == {("jet_pt", "none"), ("BvsL", "good"), ("BvsL", "bad")}
    assert written["BvsL", "good"]["files"] == ["BvsL_good.root", "BvsL_good.txt", "BvsL_good.json"]
    assert written["BvsL", "good"]["signal"] == "b"


def test_the_workspace_says_the_same_as_the_root_file(varied):
    run(varied.card(), workers=1, templates=["BvsL"], signal="c")
    root, errors, text, model = content(varied, "BvsL_good")
    assert model["observations"] == [{"name": "dy", "data": root["dy/data_obs"].tolist()}]
    (channel,) = model["channels"]
    for one in channel["samples"]:
        name = one["name"]
        assert one["data"] == root[f"dy/{name}"].tolist()
        by_name = {modifier["name"]: modifier for modifier in one["modifiers"]}
        assert by_name["tilt"]["type"] == "histosys"
        assert by_name["tilt"]["data"]["hi_data"] == root[f"dy/{name}_tiltUp"].tolist()
        assert by_name["tracks"]["data"]["lo_data"] == root[f"dy/{name}_tracksDown"].tolist()
        assert by_name["staterror_dy"]["data"] == pytest.approx(errors[f"dy/{name}"].tolist())
        assert ("mu" in by_name) == (name == "c")
    lines = [line.split() for line in text.splitlines()]
    assert ["shapes", "*", "*", "BvsL_good.root", "$CHANNEL/$PROCESS", "$CHANNEL/$PROCESS_$SYSTEMATIC"] in lines
    names, numbers = (line[1:] for line in lines if line and line[0] == "process")
    assert dict(zip(names, numbers, strict=True))["c"] == "0"
    assert sorted(map(int, numbers)) == [0, 1, 2]
    assert ["tilt", "shape", "1", "1", "1"] in lines
    assert ["dy", "autoMCStats", "10"] in lines
    assert lines[0][:2] == ["imax", "1"]
    assert lines[1][:2] == ["jmax", "2"]
    assert lines[2][:2] == ["kmax", "2"]


def test_every_name_in_the_datacard_is_in_the_root_file(varied):
    run(varied.card("comparison.stack_by=dataset"), workers=1, templates=["BvsL"])
    root, _, text, _ = content(varied, "BvsL_bad")
    lines = [line.split() for line in text.splitlines() if line]
    channels = next(line[1:] for line in lines if line[0] == "bin" and len(line) > 2)
    processes = next(line[1:] for line in lines if line[0] == "process")
    assert set(processes) == {"dy", "tt"}
    for channel, process in zip(channels, processes, strict=True):
        assert f"{channel}/{process}" in root
        for source in (line[0] for line in lines if line[1:2] == ["shape"]):
            assert {f"{channel}/{process}_{source}{way}" for way in ("Up", "Down")} <= root.keys()
    for channel in channels:
        assert f"{channel}/data_obs" in root


@pytest.mark.filterwarnings("ignore:jsonschema.RefResolver:DeprecationWarning")
def test_pyhf_reads_the_workspace(varied):
    """Its expectation is our sum of templates, nominal and varied; a fit of simulation to itself gives 1."""
    pyhf = pytest.importorskip("pyhf", reason="pyhf comes with the extra [test]")
    run(varied.card(), workers=1, templates=["jet_pt"], signal="uds")
    _, _, _, found = content(varied, "jet_pt")
    pyhf.schema.validate(found, "workspace.json")
    made = pyhf.Workspace(found)
    model = made.model()
    assert set(model.config.par_order) == {"mu", "tilt", "tracks", "staterror_dy"}
    parameters = np.array(model.config.suggested_init())
    parameters[model.config.poi_index] = 1.0
    simulated = sum(np.array(sample["data"]) for sample in found["channels"][0]["samples"])
    np.testing.assert_allclose(model.expected_actualdata(parameters), simulated)
    up = parameters.copy()
    up[model.config.par_slice("tilt")] = 1.0
    varied_up = sum(
        np.array(one["data"]["hi_data"])
        for sample in found["channels"][0]["samples"]
        for one in sample["modifiers"]
        if one["name"] == "tilt"
    )
    np.testing.assert_allclose(model.expected_actualdata(up), varied_up)
    fitted = pyhf.infer.mle.fit(model.expected_data(parameters), model)
    assert fitted[model.config.poi_index] == pytest.approx(1.0, abs=1e-3)


def test_what_a_fit_can_not_use_is_left_out_with_the_reason(whole, no_pictures):
    whole.job("muons", "muons_2.root", 4000, weight=3.0)
    results = run(whole.card(), workers=1, templates=["jet_pt"])
    (one,) = results["templates"]
    assert one["left_out"] == {"dy": "its data are no counts (prescales, or same-sign events subtracted)"}
    assert one["files"] == []
    assert not (whole.folder / "comparison" / "templates" / "jet_pt.root").exists()


def test_templates_of_an_earlier_comparison_are_removed(whole, no_pictures):
    run(whole.card(), workers=1, templates=["jet_pt"])
    folder = whole.folder / "comparison" / "templates"
    assert {path.name for path in folder.iterdir()} == {"jet_pt.root", "jet_pt.txt", "jet_pt.json"}
    assert run(whole.card(), workers=1)["templates"] == []
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("variables", "signal", "message"),
    [
        (["jet_p"], None, r"--templates jet_p: no such variable; nearest: jet_pt"),
        (["agreement_BvsL"], None, r"--templates agreement_BvsL: no such variable; nearest: BvsL"),
        (["jet_pt"], "bottom", r"--signal bottom: no process of simulation; nearest: .*b"),
        (["BvsL"], None, r"--templates BvsL: the card blinds it"),
    ],
)
def test_what_makes_no_sense_is_refused(whole, no_pictures, variables, signal, message):
    with pytest.raises(CardError, match=message):
        run(whole.card("comparison.blind={BvsL: [0.5, 1]}"), workers=1, templates=variables, signal=signal)
    assert not (whole.folder / "comparison" / "histograms.root").exists()


def test_the_plan_names_them(whole):
    assert "templates of jet_pt, signal uds" in plan(whole.card(), ["jet_pt"], "uds")


def test_two_channels_with_different_processes():
    one = Process(np.array([1.0, 2.0]), np.array([0.1, 0.2]), {"jes": (np.ones(2), np.zeros(2))})
    other = Process(np.array([3.0, 4.0]), np.array([0.1, 0.2]))
    channels = [
        Channel("dy", np.array([5.0, 6.0]), {"b": one, "uds": other}),
        Channel("ttbar", np.array([7.0, 8.0]), {"c": one}),
    ]
    lines = [line.split() for line in datacard(channels, "c", "x.root").splitlines()]
    assert ["jes", "shape", "1", "-", "1"] in lines
    assert ["process", "1", "2", "0"] in lines
    assert ["rate", "-1", "-1", "-1"] in lines
    found = workspace(channels, "c", "x")
    strengths = [
        (channel["name"], sample["name"])
        for channel in found["channels"]
        for sample in channel["samples"]
        if any(modifier["type"] == "normfactor" for modifier in sample["modifiers"])
    ]
    assert strengths == [("ttbar", "c")]
    assert found["measurements"][0]["config"]["poi"] == "mu"
