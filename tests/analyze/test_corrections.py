"""Corrections of correctionlib files: values one by one, what lies outside, what the check before all work finds."""

from __future__ import annotations

import gzip
import sys

import numpy as np
import pytest
import uproot
from hypothesis import given, settings
from hypothesis import strategies as st

from pfnano_tag.analyze import stage
from pfnano_tag.analyze.correction_files import open_corrections
from pfnano_tag.analyze.correction_trees import keys_at, outside
from pfnano_tag.analyze.corrections import corrections_of
from pfnano_tag.analyze.factors import factor_files, ready_factors
from pfnano_tag.analyze.result import JobResult
from pfnano_tag.analyze.weights import event_weights
from pfnano_tag.card.weights import CorrectionFactor
from pfnano_tag.errors import CardError, DataError, MissingExtra
from pfnano_tag.nano.reader import PFNanoFile
from tests.analyze import correction_files as files_of
from tests.analyze.events_file import content, write

pytest.importorskip("correctionlib")
NONE = np.zeros(0, dtype=np.int64)
ALL = {"all": {"selection": "all_jets"}}


@pytest.fixture
def path(tmp_path):
    return files_of.write(tmp_path / "corrections.json", compound=[files_of.COMPOUND])


def muons(path, **changed):
    return {
        "kind": "correctionlib",
        "file": str(path),
        "correction": "muon_id",
        "inputs": {"pt": "Muon_pt", "abseta": "abs(Muon_eta)"},
        "variation": {"input": "scale_factors", "up": "systup", "down": "systdown"},
        **changed,
    }


def factor_of(section):
    return corrections_of("it", CorrectionFactor.model_validate(section), {})


def evaluated(section, events):
    """Return the factor of the events of a file, number of clamped values, and the file's columns."""
    with PFNanoFile(events) as file:
        chunk = file.chunk(0, file.num_entries)
        return *factor_of(section).evaluate(chunk), chunk


@pytest.fixture
def events(tmp_path):
    branches = content("mc", 8, 120)
    rng = np.random.default_rng(3)
    branches["Pileup_nTrueInt"] = rng.uniform(-5, 100, 120).astype("f4")
    return write(tmp_path / "events.root", branches)


@pytest.mark.parametrize("name", ["corrections.json", "corrections.json.gz"])
def test_the_factor_of_an_event_is_the_product_over_its_objects(tmp_path, events, name):
    path = files_of.write(tmp_path / name)
    where = "Muon_tightId & (Muon_pt > 12) & (Muon_pt < 60) & (abs(Muon_eta) < 2.4)"
    found, clamped, chunk = evaluated(muons(path, where=where), events)
    assert clamped == 0
    pt, eta, tight = (chunk[f"Muon_{n}"] for n in ("pt", "eta", "tightId"))
    several = 0
    for way, key in {"nominal": "nominal", "up": "systup", "down": "systdown"}.items():
        for event in range(chunk.num_events):
            expected = 1.0
            for row in range(pt.offsets[event], pt.offsets[event + 1]):
                p, e = float(pt.values[row]), abs(float(eta.values[row]))
                if tight.values[row] and 12 < p < 60 and e < 2.4:
                    expected *= files_of.muon_id(p, e, key)
            several += pt.offsets[event + 1] - pt.offsets[event] > 1
            assert found[way][event] == pytest.approx(expected, rel=1e-12)
    assert several > 100


def test_clamped_values_are_those_at_the_edge_and_counted(path, events):
    found, clamped, chunk = evaluated(muons(path, outside="clamp"), events)
    pt, eta = chunk["Muon_pt"], chunk["Muon_eta"]
    beyond = 0
    expected = np.ones(chunk.num_events)
    for event in range(chunk.num_events):
        for row in range(pt.offsets[event], pt.offsets[event + 1]):
            p, e = float(pt.values[row]), abs(float(eta.values[row]))
            beyond += files_of.muon_id(p, e) is None
            expected[event] *= files_of.muon_id(p, e, clamp=True)
    np.testing.assert_allclose(found["nominal"], expected, rtol=1e-12)
    assert clamped == beyond > 10


def test_outside_is_an_error_with_value_entry_and_range(path, events):
    with pytest.raises(DataError) as error:
        evaluated(muons(path), events)
    message = str(error.value)
    with uproot.open(events) as file:
        pt = file["Events/Muon_pt"].array()
    entry = next(i for i in range(len(pt)) if any(p < 10 or p >= 60 for p in pt[i]))
    value = next(p for p in pt[entry] if p < 10 or p >= 60)
    with PFNanoFile(events) as file:
        eta = file.chunk(0, 120)["Muon_eta"].values
    number = sum(
        files_of.muon_id(float(p), abs(float(e))) is None for p, e in zip(np.concatenate(pt), eta, strict=True)
    )
    for word in (
        f"entry {entry} ({number} such in entries 0 to 120)",
        f"pt = {value:.7g}",
        "10 <= pt < 60",
        "muon_id",
        str(path),
        "outside: clamp",
    ):
        assert word in message


def test_inputs_per_event_and_variations_as_pileup_files_have_them(path, events):
    section = {
        "kind": "correctionlib",
        "file": str(path),
        "correction": "Collisions17",
        "inputs": {"NumTrueInteractions": "Pileup_nTrueInt"},
        "variation": {"input": "weights", "up": "up"},
    }
    found, clamped, chunk = evaluated(section, events)
    bins = np.clip(np.floor(chunk["Pileup_nTrueInt"] / 20).astype(int), 0, 3)
    assert clamped == 0  # the correction itself says what is outside of its bins
    np.testing.assert_allclose(found["nominal"], np.array([0.5, 1.0, 1.5, 2.0])[bins])
    np.testing.assert_allclose(found["up"], np.array([0.4, 0.9, 1.6, 2.2])[bins])
    assert set(found) == {"nominal", "up"}


def jets(path, **changed):
    inputs = {"flavour": "Jet_hadronFlavour", "pt": "Jet_pt"}
    return {"kind": "correctionlib", "file": str(path), "correction": "tagging", "inputs": inputs, **changed}


def test_a_category_without_the_value_is_no_matter_of_clamping(path, events):
    with pytest.raises(DataError, match="flavour = 0; its range is flavour is one of 5, 4; leave .* by `where`$"):
        evaluated(jets(path, outside="clamp"), events)
    where = "(Jet_hadronFlavour >= 4) & (Jet_pt >= 20)"
    found, _, chunk = evaluated(jets(path, where=where), events)
    flavour, pt = chunk["Jet_hadronFlavour"].values, chunk["Jet_pt"].values
    values = np.where(flavour == 5, np.where(pt < 50, 0.9, 0.8), 0.7)
    values[(flavour < 4) | (pt < 20)] = 1
    offsets = chunk["Jet_pt"].offsets
    expected = [np.prod(values[offsets[i] : offsets[i + 1]]) for i in range(chunk.num_events)]
    np.testing.assert_allclose(found["nominal"], expected, rtol=1e-12)


def test_compound_corrections_are_those_of_correctionlib(path, events):
    from correctionlib.highlevel import CorrectionSet

    where = "(Jet_hadronFlavour >= 4) & (Jet_pt >= 20)"
    found, _, chunk = evaluated(jets(path, correction="both", where=where), events)
    flavour, pt = chunk["Jet_hadronFlavour"].values, chunk["Jet_pt"].values.astype(float)
    chosen = (flavour >= 4) & (pt >= 20)
    values = np.ones(len(pt))
    compound = CorrectionSet.from_file(str(path)).compound["both"]
    values[chosen] = compound.evaluate(pt[chosen], flavour[chosen].astype(int))
    offsets = chunk["Jet_pt"].offsets
    expected = [np.prod(values[offsets[i] : offsets[i + 1]]) for i in range(chunk.num_events)]
    np.testing.assert_allclose(found["nominal"], expected, rtol=1e-14)
    assert not np.allclose(expected, 1)


def test_compound_corrections_are_clamped_where_a_step_has_no_value(tmp_path, events):
    high = files_of.correction("tagging", {"flavour": "int", "pt": "real"}, files_of.FLAVOUR["data"])
    high["data"] = files_of.category("flavour", {5: files_of.binning("pt", [60.0, 90.0, "inf"], [0.9, 0.8])})
    path = files_of.write(tmp_path / "high.json", files_of.SCALE, high, compound=[files_of.COMPOUND])
    where = "Jet_hadronFlavour == 5"
    with pytest.raises(DataError, match="correction 'tagging' .* has no value at pt"):
        evaluated(jets(path, correction="both", where=where), events)
    found, clamped, chunk = evaluated(jets(path, correction="both", where=where, outside="clamp"), events)
    expected, beyond = np.ones(chunk.num_events), 0
    offsets = chunk["Jet_pt"].offsets
    for event in range(chunk.num_events):
        for row in range(offsets[event], offsets[event + 1]):
            if chunk["Jet_hadronFlavour"].values[row] == 5:
                pt = float(chunk["Jet_pt"].values[row])
                scale = 1.1 if pt < 30 else 0.9
                beyond += pt * scale < 60
                expected[event] *= scale * (0.9 if pt * scale < 90 else 0.8)
    np.testing.assert_allclose(found["nominal"], expected, rtol=1e-12)
    assert clamped == beyond > 0


def test_inputs_that_are_not_finite_make_the_weight_bad(tmp_path, path, card_with):
    branches = content("mc", 8, 40)
    interactions = np.full(40, 10, "f4")
    interactions[7] = np.nan
    events = write(tmp_path / "e.root", {**branches, "Pileup_nTrueInt": interactions})
    section = {
        "kind": "correctionlib",
        "file": str(path),
        "correction": "Collisions17",
        "inputs": {"NumTrueInteractions": "Pileup_nTrueInt", "weights": "nominal"},
    }
    card = card_with(weights={"factors": {"pu": section}})
    mc = card.dataset("mc")
    with PFNanoFile(events) as file:
        found = event_weights(file.chunk(0, 40), card, mc, ready_factors(card, mc), False, None, NONE)
    assert np.flatnonzero(~found.used).tolist() == [7]
    weight = np.array(branches["genWeight"], float) * 0.5
    np.testing.assert_allclose(found.weights["nominal"], np.where(found.used, weight, 0))


def test_whole_numbers_are_asked_for_where_the_correction_has_them(path, events):
    inputs = {"flavour": "Jet_pt", "pt": "Jet_pt"}
    with pytest.raises(DataError, match="input 'flavour' is a whole number, but Jet_pt is"):
        evaluated(jets(path, inputs=inputs), events)


def test_objects_of_two_collections_are_refused(path, events):
    inputs = {"flavour": "Jet_hadronFlavour", "pt": "Muon_pt"}
    with pytest.raises(DataError, match="objects of two collections"):
        evaluated(jets(path, inputs=inputs), events)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"correction": "muon_ip"}, ("no correction 'muon_ip'", "nearest: muon_id")),
        ({"inputs": {"pt": "Muon_pt"}}, ("'abseta' (real) is missing",)),
        ({"inputs": {"pT_": "Muon_pt", "abseta": 1.0, "pt": 20}}, ("no input 'pT_'", "nearest: pt")),
        ({"inputs": {"pt": "Muon_pt +", "abseta": 1}}, ("'Muon_pt +' is no expression",)),
        ({"variation": {"input": "scale_factor"}}, ("variation.input", "nearest: scale_factors", "is missing")),
        (
            {"variation": {"input": "scale_factors", "up": "sysup", "down": "down"}},
            ("variation.up", "no scale_factors 'sysup'", "nearest: systup", "variation.down"),
        ),
        ({"variation": {"input": "scale_factors", "nominal": 3}}, ("found 3", "is of type string")),
    ],
)
def test_what_the_card_gets_wrong_is_found_before_any_work(path, changed, words):
    with pytest.raises(CardError) as error:
        factor_of(muons(path, **changed))
    assert "weights.factors.it" in str(error.value)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (None, "no such file"),
        ("{", "JSON parse error"),
        ('{"schema_version": 1, "corrections": []}', "schema v2"),
        ('{"schema_version": 2}', "corrections"),
        (b"\x1f\x8bnot gzip", "can't be read"),
        (b"\xff\xfe", "can't be read"),
        (gzip.compress(b"{}" * 999, mtime=0)[:-12], "can't be read"),
        (gzip.compress(bytes(range(256)), mtime=0)[:40] + b"\xff" * 300, "can't be read"),
    ],
)
def test_files_that_are_none_of_correctionlib(tmp_path, text, word):
    path = tmp_path / "c.json"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CardError, match=word) as error:
        open_corrections(str(path))
    assert str(path) in str(error.value)


def test_correctionlib_is_an_extra(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "correctionlib.highlevel", None)
    with pytest.raises(MissingExtra, match=r"pfnano_tag\[cms\]"):
        open_corrections(str(path))


def test_an_input_stands_in_inputs_or_in_variation():
    with pytest.raises(ValueError, match="stands in inputs and in variation"):
        CorrectionFactor.model_validate(muons("x", variation={"input": "pt"}))


def test_values_of_a_category_below_another_one():
    tree = files_of.category(
        "year", {"2016": files_of.category("wp", {"L": 1.0}), "2017": files_of.category("wp", {"M": 1.0, "T": 2.0})}
    )
    assert keys_at(tree, "wp", {"year": "2017"}) == {"M", "T"}
    assert keys_at(tree, "wp", {}) == {"L", "M", "T"}
    assert keys_at(tree, "year", {"wp": "L"}) == {"2016", "2017"}
    assert keys_at(tree, "pt", {}) is None
    assert keys_at(files_of.category("wp", {"L": 1.0}, default=1.0), "wp", {}) is None


numbers = st.integers(-160, 960).map(lambda eighths: eighths / 8)  # exact: wrapping rounds nothing


@settings(max_examples=60, deadline=None)
@given(
    flows=st.lists(st.sampled_from(["error", "clamp", "wrap", 1.0]), min_size=4, max_size=4),
    rows=st.lists(st.tuples(numbers, numbers, st.sampled_from([0, 4, 5])), min_size=1, max_size=30),
)
def test_what_is_outside_is_what_correctionlib_refuses(flows, rows):
    from correctionlib.highlevel import CorrectionSet
    from correctionlib.schemav2 import CorrectionSet as Schema

    inner = files_of.binning("y", [0.0, 30.0, 90.0], [1.0, 2.0], flows[0])
    other = files_of.binning("x", {"n": 3, "low": 10.0, "high": 40.0}, [1.0, inner, 2.0], flows[1])
    several = {
        "nodetype": "multibinning",
        "inputs": ["x", "y"],
        "edges": [[0.0, 50.0, 100.0], [-10.0, 20.0, 110.0]],
        "content": [inner, 1.0, other, files_of.formula("x + y", "x", "y")],
        "flow": flows[2],
    }
    tree = files_of.binning(
        "x", [-10.0, 60.0, 100.0], [files_of.category("k", {5: several, 4: inner}), 3.0], flows[3]
    )
    one = files_of.correction("c", {"x": "real", "y": "real", "k": "int"}, tree)
    content = Schema.model_validate({"schema_version": 2, "corrections": [one]})
    evaluator = CorrectionSet(content)["c"]
    columns = {name: np.array([row[i] for row in rows]) for i, name in enumerate(("x", "y", "k"))}
    found = {int(row) for node in outside(tree, columns, np.arange(len(rows))) for row in node.rows}
    for number, row in enumerate(rows):
        try:
            evaluator.evaluate(*row)
            refused = False
        except (RuntimeError, IndexError):
            refused = True
        assert (number in found) == refused, (row, flows)


def test_the_job_fills_its_systematics_and_counts_what_was_clamped(path, tmp_path, events, card_with):
    card = card_with(weights={"factors": {"muon": muons(path, outside="clamp")}}, regions=ALL, models=())
    stage.run(card, "mc", str(events), tmp_path / "h.root", models=[])
    found, clamped, _ = evaluated(muons(path, outside="clamp"), events)
    with uproot.open(events) as file:
        weight = file["Events/genWeight"].array(library="np").astype(float)
    with JobResult(tmp_path / "h.root") as result:
        assert result.info["systematics"] == ["nominal", "muon_up", "muon_down"]
        assert result.sums["corrections_clamped"] == clamped
        assert result.cutflows["all"].weighted[0] == pytest.approx((weight * found["nominal"]).sum())
        variable, values = result.variables["num_jets"], result.read("num_jets").values
        sums = {
            name: sum(values[i].sum() for i, c in enumerate(variable.categories) if c.systematic == name)
            for name in result.info["systematics"]
        }
        assert len(set(sums.values())) == 3
        assert sums["nominal"] == pytest.approx(result.cutflows["all"].weighted[-1])


def test_a_changed_file_is_another_job(path, tmp_path, events, card_with, caplog):
    card = card_with(weights={"factors": {"muon": muons(path, outside="clamp")}}, regions=ALL, models=())
    output = tmp_path / "h.root"

    def weighted():
        stage.run(card, "mc", str(events), output, models=[])
        with JobResult(output) as result:
            return result.cutflows["all"].weighted[0], result.info["settings"]

    before = weighted()
    assert weighted() == before
    path.write_text(path.read_text().replace("[1.1", "[1.3").replace(" 1.1,", " 1.3,"))
    after = weighted()
    assert after[0] != before[0]
    assert after[1] != before[1]
    path.unlink()
    with pytest.raises(CardError, match=r"corrections\.json: can't be read"):
        factor_files(card)


def test_datasets_without_the_factor_have_its_variations_at_nominal(path, events, card_with):
    other = {"name": "other", "files": ["x"], "kind": "mc", "cross_section": 1.0, "roles": ["analyze"]}
    section = {
        "datasets": [other, {"name": "mc", "files": ["y"], "kind": "mc", "cross_section": 2.0, "roles": ["analyze"]}],
        "weights": {"factors": {"muon": muons(path, outside="clamp", datasets=["other"])}},
    }
    card = card_with(**section)
    mc = card.dataset("mc")
    assert ready_factors(card, mc) == {}
    with PFNanoFile(events) as file:
        found = event_weights(file.chunk(0, 120), card, mc, {}, False, None, NONE)
    assert list(found.weights) == ["nominal", "muon_up", "muon_down"]
    np.testing.assert_array_equal(found.weights["muon_up"], found.weights["nominal"])
    assert set(ready_factors(card, card.dataset("other"))) == {"muon"}
