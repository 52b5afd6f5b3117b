"""Rows of jets beside the histograms: the values of a loop, of `infer`, and of the histograms themselves."""

from __future__ import annotations

import json
import resource
import sys

import awkward as ak
import numpy as np
import pytest
import uproot

from pfnano_tag.analyze import stage
from pfnano_tag.analyze.array_files import array_file, arrays_path
from pfnano_tag.analyze.arrays import Column
from pfnano_tag.analyze.histogramming import bin_of
from pfnano_tag.analyze.ledger import ledger_folder
from pfnano_tag.analyze.memory import added
from pfnano_tag.analyze.result import JobResult
from pfnano_tag.compare.outputs import find_jobs
from pfnano_tag.errors import CardError, Incomplete, MissingBranch, MissingExtra, OutputError
from pfnano_tag.infer import stage as infer_stage
from tests.analyze.events_file import MUON_PATH, content, damage, write

REGIONS = {
    "all": {"selection": "all_jets"},
    "leading": {"selection": "all_jets", "jets": "leading"},
    "scaled": {
        "selection": "qcd",
        "windows": {"HLT_IsoMu27": [20, 60], MUON_PATH: [60, None]},
        "prescales": {"HLT_IsoMu27": 3.5},
        "jet_id": "none",
    },
}
FACTORS = {"scale": {"kind": "expression", "nominal": "1 + 0 * genWeight", "up": "1.5 + 0.01 * PV_npvs"}}
EXPRESSIONS = {"vertices": {"expression": "PV_npvs", "bins": 50, "range": [0, 50]}}
COLUMNS = {"momentum": "Jet_pt * cosh(Jet_eta)", "muons": "count(Muon_pt > 15)", "soft": "Jet_pt < 2 * PV_npvs"}


def read(output, form):
    """Return the columns and what is noted of them."""
    path = arrays_path(output, form)
    if form == "root":
        with uproot.open(path) as file:
            return file["Jets"].arrays(library="np"), json.loads(str(file["provenance"]))
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra `tables` is not installed")
    table = parquet.read_table(path)
    columns = {name: table[name].to_numpy() for name in table.column_names}
    return columns, json.loads(parquet.read_metadata(path).metadata[b"pfnano_tag"])


def same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert first[name].dtype == second[name].dtype
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


@pytest.fixture
def card(card_with):
    def make(form="root", arrays=None, models=("first", "second"), **sections):
        asked = {"format": form, "expressions": COLUMNS, **(arrays or {})}
        if models and "variants" not in asked:
            asked["variants"] = ["fgsm"]
        return card_with(
            models,
            **{
                "regions": REGIONS,
                "weights": {"factors": FACTORS},
                "histograms": {"variants": ["fgsm"], "expressions": EXPRESSIONS},
                "arrays": asked,
                **sections,
            },
        )

    return make


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    branches = content("mc", 31, 90)
    path = write(tmp_path_factory.mktemp("rows") / "mc.root", branches, 30, runs=(90, 90.0))
    return branches, path


@pytest.mark.parametrize("form", ["root", "parquet"])
def test_rows_are_those_of_a_loop_over_events(events, card, tmp_path, form):
    branches, path = events
    plain = card(form, {"weight_variations": "all"}, models=(), jets={"lepton_overlap": 0}, histograms={})
    stage.run(plain, "mc", str(path), tmp_path / "h.root", [])
    columns, noted = read(tmp_path / "h.root", form)
    row = 0
    for i in range(90):
        pt, eta = np.array(branches["Jet_pt"][i]), np.array(branches["Jet_eta"][i])
        good = np.flatnonzero((pt >= 20) & (pt <= 1000) & (abs(eta) <= 2.5))
        path_of = MUON_PATH if len(good) and pt[good].max() >= 60 else "HLT_IsoMu27"
        for place in good:
            weight = float(branches["genWeight"][i])
            expected = {
                "run": branches["run"][i],
                "luminosityBlock": branches["luminosityBlock"][i],
                "event": branches["event"][i],
                "jet": place,
                "region_all": True,
                "region_leading": place == good[np.argmax(pt[good])],
                "region_scaled": bool(branches[path_of][i]),
                "factor_scaled": 1.0,
                "weight": weight,
                "weight__scale_up": weight * (1.5 + 0.01 * float(branches["PV_npvs"][i])),
                "jet_pt": pt[place],
                "jet_eta": eta[place],
                "jet_phi": np.array(branches["Jet_phi"][i])[place],
                "stored_Jet_btagDeepFlavB": branches["Jet_btagDeepFlavB"][i][place],
                "momentum": float(pt[place]) * np.cosh(float(eta[place])),
                "muons": ak.sum(branches["Muon_pt"][i] > 15),
                "soft": float(pt[place] < 2 * branches["PV_npvs"][i]),
            }
            for name, value in expected.items():
                assert columns[name][row] == pytest.approx(value, rel=1e-12), (name, i, place)
            row += 1
    assert columns.keys() == {*expected, "flavour"}
    assert row == len(columns["run"]) == noted["rows"]
    assert noted["sums"]["sumw_used"] == pytest.approx(float(ak.sum(branches["genWeight"], axis=None)))
    with JobResult(tmp_path / "h.root") as result:
        assert result.info["arrays"] == {"file": f"h.root.jets.{form}", "rows": row}
        assert noted["info"] == result.info
        assert noted["sums"] == result.sums


def test_scores_are_those_of_infer(files, card, tmp_path):
    asked = card()
    stage.run(asked, "mc", str(files["mc"]), tmp_path / "h.root")
    columns, _ = read(tmp_path / "h.root", "root")
    infer_stage.run(asked, str(files["mc"]), None, tmp_path / "f.root")
    with uproot.open(files["mc"]) as file, uproot.open(tmp_path / "f.root") as friends:
        entry = {number: i for i, number in enumerate(file["Events/event"].array(library="np").tolist())}
        jets = np.array([entry[number] for number in columns["event"].tolist()]), columns["jet"]
        for name in ("first_b", "second_uds", "first_BvsL", "second_CvsL"):
            expected = friends[f"Friends/Jet_{name}"].array()[jets]
            np.testing.assert_allclose(columns[name], expected, rtol=1e-5, atol=1e-6)
        assert columns["first_b"].dtype == np.float32
        np.testing.assert_array_equal(columns["jet_eta"], file["Events/Jet_eta"].array()[jets])
    assert np.abs(columns["first_BvsL__fgsm"] - columns["first_BvsL"]).max() > 1e-4


def column_of(variable, category):
    """Return which column a histogram is made of; None where there is none."""
    if variable.kind in ("output", "discriminant"):
        node = variable.name.removeprefix("output_")
        attacked = "" if category.variant == "nominal" else f"__{category.variant}"
        return f"{category.model}_{node}{attacked}"
    if category.variant != "nominal" or variable.kind == "agreement":
        return None
    return variable.name


@pytest.mark.parametrize("form", ["root", "parquet"])
@pytest.mark.parametrize("kind", ["mc", "data"])
def test_columns_make_the_histograms(files, card, tmp_path, kind, form):
    asked = card(
        form, {"weight_variations": ["scale_up"]}, systematics={"jes": {"kind": "jet_energy_scale", "shift": 0.1}}
    )
    stage.run(asked, kind, str(files[kind]), tmp_path / "h.root")
    columns, _ = read(tmp_path / "h.root", form)
    compared = set()
    with JobResult(tmp_path / "h.root") as result:
        for variable in result.variables.values():
            found = result.read(variable.name)
            for row, category in enumerate(variable.categories):
                name = column_of(variable, category)
                weight = "weight" if category.systematic == "nominal" else f"weight__{category.systematic}"
                if name not in columns or weight not in columns:
                    continue
                place = result.info["flavours"].index(category.flavour)
                mine = columns[f"region_{category.region}"] & (columns["flavour"] == place)
                weights = columns[weight] * columns.get(f"factor_{category.region}", 1.0)
                if variable.kind == "input":
                    mine = mine & ~np.isnan(columns[name])
                if name == "vertices":
                    continue  # filled once per event, see below
                cells = bin_of(variable, columns[name][mine])
                values = np.bincount(cells, weights[mine], variable.bins + 2)
                squares = np.bincount(cells, weights[mine] ** 2, variable.bins + 2)
                np.testing.assert_allclose(found.values[row], values, rtol=1e-11, atol=1e-11)
                np.testing.assert_allclose(found.variances[row], squares, rtol=1e-11, atol=1e-11)
                compared.add((variable.kind, category.variant, category.systematic, found.values[row].any()))
    for kind_of in ("kinematics", "stored", "input", "output", "discriminant"):
        assert (kind_of, "nominal", "nominal", True) in compared
    for kind_of in ("output", "discriminant"):
        assert (kind_of, "fgsm", "nominal", True) in compared
    assert ("discriminant", "nominal", "scale_up", True) in compared or kind == "data"
    assert np.unique(columns["factor_scaled"]).tolist() == ([1.0] if kind == "mc" else [1.0, 3.5])
    assert "weight__scale_up" not in columns or kind == "mc"


def test_a_value_per_event_is_repeated_for_its_jets(files, card, tmp_path):
    stage.run(card(), "mc", str(files["mc"]), tmp_path / "h.root")
    columns, _ = read(tmp_path / "h.root", "root")
    first = columns["region_leading"]
    with JobResult(tmp_path / "h.root") as result:
        variable, found = result.variables["vertices"], result.read("vertices")
        rows = [i for i, c in enumerate(variable.categories) if (c.region, c.systematic) == ("leading", "nominal")]
        values = np.bincount(bin_of(variable, columns["vertices"][first]), columns["weight"][first], 52)
        np.testing.assert_allclose(found.values[rows].sum(axis=0), values, atol=1e-11)


@pytest.mark.parametrize("form", ["root", "parquet"])
def test_a_kill_changes_no_bit(files, card, tmp_path, monkeypatch, form):
    asked = card(form)
    whole = stage.run(asked, "mc", str(files["mc"]), tmp_path / "undisturbed" / "h.root")
    output, real, begun = tmp_path / "h.root", stage.process_chunk, []

    def killed(*arguments):
        begun.append(1)
        if len(begun) == 4:
            raise SystemExit(137)
        return real(*arguments)

    monkeypatch.setattr(stage, "process_chunk", killed)
    with pytest.raises(SystemExit):
        stage.run(asked, "mc", str(files["mc"]), output)
    assert not arrays_path(output, form).exists()
    stage.run(asked, "mc", str(files["mc"]), output)
    assert len(begun) == 4 + 3
    same(read(output, form)[0], read(whole, form)[0])
    assert read(output, form)[1] == read(whole, form)[1]
    if form == "parquet":
        assert arrays_path(output, form).read_bytes() == arrays_path(whole, form).read_bytes()


def test_slices_and_other_chunks_have_the_same_rows(files, card, tmp_path, monkeypatch):
    asked = card()
    stage.run(asked, "mc", str(files["mc"]), tmp_path / "whole.root")
    one = asked.resources.model_copy(update={"chunk": 9.0, "batch_size": 7})
    stage.run(asked.model_copy(update={"resources": one}), "mc", str(files["mc"]), tmp_path / "one.root")
    real = stage.process_chunk

    def hungry(job, card, chunk, vetoed):
        if chunk.num_events > 7:
            raise MemoryError
        return real(job, card, chunk, vetoed)

    monkeypatch.setattr(stage, "process_chunk", hungry)
    stage.run(asked, "mc", str(files["mc"]), tmp_path / "slices.root")
    whole, _ = read(tmp_path / "whole.root", "root")
    for name in ("one", "slices"):
        other, noted = read(tmp_path / f"{name}.root", "root")
        assert len(noted["info"]["sliced"]) == (6 if name == "slices" else 0)
        assert whole.keys() == other.keys()
        for column, values in whole.items():
            scores = column.startswith(("first_", "second_"))
            np.testing.assert_allclose(other[column], values, rtol=0, atol=1e-6 if scores else 0, err_msg=column)


@pytest.mark.parametrize("form", ["root", "parquet"])
def test_a_lost_chunk_is_missing_and_named(card, tmp_path, form):
    path = write(tmp_path / "mc.root", content("mc", 1), runs=(240, 240.0))
    stage.run(card(form), "mc", str(path), tmp_path / "whole.root")
    damage(path, "PFCands_d0", 2)
    with pytest.raises(Incomplete):
        stage.run(card(form), "mc", str(path), tmp_path / "h.root")
    whole, _ = read(tmp_path / "whole.root", form)
    columns, noted = read(tmp_path / "h.root", form)
    kept = (whole["event"] <= 80) | (whole["event"] > 120)
    assert 0 < np.count_nonzero(kept) < len(kept)
    same(columns, {name: values[kept] for name, values in whole.items()})
    assert [(lost["start"], lost["stop"]) for lost in noted["info"]["lost"]] == [(80, 120)]
    assert noted["sums"]["chunks_lost"] == 1


def test_data_lose_the_whole_luminosity_section(card, tmp_path):
    path = write(tmp_path / "data.root", content("data", 2))
    stage.run(card(), "data", str(path), tmp_path / "whole.root")
    damage(path, "PFCands_d0", 2)
    with pytest.raises(Incomplete):
        stage.run(card(), "data", str(path), tmp_path / "h.root")
    whole, _ = read(tmp_path / "whole.root", "root")
    columns, noted = read(tmp_path / "h.root", "root")
    kept = np.zeros(len(whole["run"]), dtype=bool)
    for run, sections in noted["info"]["lumis"].items():
        kept |= (whole["run"] == int(run)) & np.isin(whole["luminosityBlock"], sections)
    assert noted["info"]["dropped_lumis"]
    assert set(columns["event"].tolist()) == set(whole["event"][kept].tolist())


def test_the_test_split_alone_where_networks_were_trained(files, card, tmp_path):
    dataset = {"name": "mc", "files": ["f"], "kind": "mc", "cross_section": 2.0, "roles": ["train", "analyze"]}
    asked = card(datasets=[dataset])
    stage.run(asked, "mc", str(files["mc"]), tmp_path / "test.root")
    stage.run(card(), "mc", str(files["mc"]), tmp_path / "all.root")
    columns, noted = read(tmp_path / "test.root", "root")
    everything, _ = read(tmp_path / "all.root", "root")
    assert noted["info"]["split"] == "test"
    assert 0 < len(np.unique(columns["event"])) < 0.4 * len(np.unique(everything["event"]))
    with JobResult(tmp_path / "test.root") as result:
        assert columns["weight"].sum() == pytest.approx(
            sum(
                result.read("jet_pt").values[i].sum()
                for i, c in enumerate(result.variables["jet_pt"].categories)
                if (c.region, c.systematic) == ("all", "nominal")
            )
        )


@pytest.mark.parametrize("form", ["root", "parquet"])
def test_no_jet_at_all_is_an_empty_table(events, card, tmp_path, form):
    asked = card(form, jets={"pt": [900, 901]}, regions={"all": {"selection": "all_jets"}})
    stage.run(asked, "mc", str(events[1]), tmp_path / "h.root")
    columns, noted = read(tmp_path / "h.root", form)
    assert noted["rows"] == 0
    assert {column["name"] for column in noted["columns"]} == columns.keys()
    assert all(len(values) == 0 for values in columns.values())


def test_chosen_columns(events, card, tmp_path):
    asked = card(arrays={"columns": ["jet_pt", "second_CvsL", "*_b", "momentum"]})
    stage.run(asked, "mc", str(events[1]), tmp_path / "h.root")
    columns, _ = read(tmp_path / "h.root", "root")
    always = ["run", "luminosityBlock", "event", "jet", "region_all", "region_leading", "region_scaled"]
    always += ["factor_scaled", "weight", "flavour"]
    chosen = ["jet_pt", "momentum", "first_b", "second_b", "second_CvsL"]
    attacked = [f"{name}__fgsm" for name in ("first_b", "second_b", "second_CvsL")]
    assert list(columns) == [*always, *chosen, *attacked]


def test_a_changed_choice_or_file_is_done_again_and_an_old_file_goes(events, card, tmp_path, monkeypatch):
    output, begun, real = tmp_path / "h.root", [], stage.process_chunk
    monkeypatch.setattr(stage, "process_chunk", lambda *a: begun.append(1) or real(*a))

    def chunks(asked):
        begun.clear()
        stage.run(asked, "mc", str(events[1]), output, [])
        return len(begun)

    plain = {"variants": []}
    assert chunks(card(arrays=plain)) == 3
    assert chunks(card(arrays=plain)) == 0
    assert chunks(card(arrays={**plain, "columns": ["jet_pt"]})) == 3
    assert chunks(card(arrays={**plain, "columns": ["jet_pt*"]})) == 0, "the same columns in other words"
    arrays_path(output, "root").unlink()
    assert chunks(card(arrays={**plain, "columns": ["jet_pt"]})) == 3
    arrays_path(output, "root").write_bytes(b"other")
    assert chunks(card(arrays={**plain, "columns": ["jet_pt"]})) == 3
    pytest.importorskip("pyarrow", reason="the extra `tables` is not installed")
    assert chunks(card("parquet", arrays=plain)) == 3
    assert arrays_path(output, "parquet").is_file()
    assert not arrays_path(output, "root").exists()
    assert chunks(card("none", {"expressions": {}, **plain})) == 3
    assert not arrays_path(output, "parquet").exists()
    assert ledger_folder(output).is_dir()
    with JobResult(output) as result:
        assert result.info["arrays"] is None


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"columns": ["jet_ptt"]}, r"arrays\.columns: 'jet_ptt' is no column of this job; nearest: jet_pt"),
        ({"columns": ["jet_pt", "frist_*"]}, r"'frist_\*' is no column"),
        ({"columns": ["third_BvsL"]}, r"nearest: first_BvsL"),
        ({"columns": ["jet_pt"]}, r"arrays\.variants: no effect"),
        ({"expressions": {"pt": "Muon_pt"}}, r"arrays\.expressions\.pt: 'Muon_pt' has a value per object of Muon"),
        (
            {"expressions": {"pt": "Jet_pt * Muon_pt"}},
            r"expressions\.pt: .* mixes objects of two collections",
        ),
        ({"expressions": {"jet_pt": "Jet_pt"}}, r"two columns would be called 'jet_pt'"),
        ({"expressions": {"first_b__fgsm": "Jet_pt"}}, r"two columns would be called 'first_b__fgsm'"),
    ],
)
def test_what_is_asked_for_is_checked_before_any_work(events, card, tmp_path, arrays, problem):
    with pytest.raises(CardError, match=problem):
        stage.run(card(arrays=arrays), "mc", str(events[1]), tmp_path / "h.root")
    assert not list(tmp_path.iterdir())


def test_branches_of_columns_are_asked_for(events, card, tmp_path):
    with pytest.raises(MissingBranch, match=r"(?s)Jet_areaa.*arrays\.expressions\.area|arrays\.expressions\.area"):
        stage.run(card(arrays={"expressions": {"area": "Jet_areaa"}}), "mc", str(events[1]), tmp_path / "h.root")


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"columns": ["jet_pt"]}, "columns has no effect: nothing is written with format none"),
        ({"format": "root", "variants": ["pgd"]}, r"arrays\.variants: 'pgd' is not in histograms\.variants"),
        ({"format": "root", "weight_variations": ["scale_upp"]}, r"'scale_upp' is not in weights.*nearest: scale_up"),
        ({"format": "root", "columns": [""]}, "at least 1 character"),
        ({"format": "root", "expressions": {"a b": "Jet_pt"}}, "is no name"),
        ({"format": "csv"}, "parquet"),
    ],
)
def test_wrong_cards(card_with, arrays, problem):
    with pytest.raises(ValueError, match=problem):
        card_with(arrays=arrays, histograms={"variants": ["fgsm"]}, weights={"factors": FACTORS})


def test_a_missing_package_is_said_before_any_work(events, card, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"pfnano_tag\[tables\]"):
        stage.run(card("parquet"), "mc", str(events[1]), tmp_path / "h.root")
    assert not list(tmp_path.iterdir())


def test_somebodys_events_are_not_written_over(events, card, tmp_path):
    arrays_path(tmp_path / "h.root", "root").write_bytes(events[1].read_bytes())
    with pytest.raises(OutputError, match="holds a tree 'Events'"):
        stage.run(card(), "mc", str(events[1]), tmp_path / "h.root")


def test_a_dry_run_says_it(events, card):
    text = stage.describe(card("root"), "mc", str(events[1]))
    assert "rows of jets (H.root.jets.root), " in text
    assert "second_CvsL__fgsm" in text
    assert "rows of jets" not in stage.describe(
        card("none", {"expressions": {}, "variants": []}), "mc", str(events[1])
    )


def test_compare_takes_them_for_no_job_outputs(card_with, tmp_path):
    card = card_with(study={"name": "test", "folder": str(tmp_path)})
    for name in ("mc.root", "mc.root.jets.root", "mc.root.jets.parquet", "mc.jets.root"):
        (tmp_path / "analysis" / "mc").mkdir(parents=True, exist_ok=True)
        (tmp_path / "analysis" / "mc" / name).touch()
    jobs = next(jobs for jobs in find_jobs(card) if jobs.dataset.name == "mc")
    assert [path.name for path in jobs.paths] == ["mc.jets.root", "mc.root"]


@pytest.mark.parametrize("form", ["root", "parquet"])
def test_a_full_disk_leaves_what_was_there(tmp_path, form):
    if form == "parquet":
        pytest.importorskip("pyarrow", reason="the extra `tables` is not installed")
    before = arrays_path(tmp_path / "h.root", form)
    before.write_bytes(b"before")
    noise = {"column.x": np.random.default_rng(1).random(5000)}

    def fill():
        with array_file(tmp_path / "h.root", form, [Column("x", "float64", "expression", "x")]) as file:
            for _ in range(10):
                file.extend(noise)

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"jets\..*can't be written.*kept"):
            fill()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == [before.name]
    assert before.read_bytes() == b"before"


def test_slices_are_appended():
    empty = {
        name: np.zeros(0) for name in ("index", "values", "variances", "sums", "cutflow_raw", "cutflow_weighted")
    }
    empty |= {name: np.zeros(0, dtype=np.int64) for name in ("index", "slices", "sections", "all_sections", "vetoed")}
    first = {**empty, "column.a": np.array([1, 2], "i4"), "column.b": np.array([True, False])}
    second = {**empty, "column.a": np.array([3], "i4"), "column.b": np.array([True])}
    both = added(first, second)
    assert both["column.a"].tolist() == [1, 2, 3]
    assert both["column.a"].dtype == np.int32
    assert both["column.b"].tolist() == [True, False, True]
    with pytest.raises(ValueError, match=r"no rule to add column\.c"):
        added(first, {**second, "column.c": np.zeros(1)})
