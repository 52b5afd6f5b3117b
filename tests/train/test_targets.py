"""Truth targets through the training stream: they stay with their candidates, and no input knows of them."""

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from pfnano_tag.card.card import Card
from pfnano_tag.errors import CardError, MissingBranch
from pfnano_tag.infer.conversion import tensors_of
from pfnano_tag.models.batch import collate
from pfnano_tag.models.deepsets import DeepSets
from pfnano_tag.nano.columns import rank_in_list
from pfnano_tag.nano.features import read_jets
from pfnano_tag.nano.hadrons import is_hadron
from pfnano_tag.nano.reader import PFNanoFile
from pfnano_tag.nano.targets import NO_TRUTH, ORIGINS, TARGETS
from pfnano_tag.nano.truth import candidate_truth
from pfnano_tag.prepare import stage as prepare
from pfnano_tag.prepare.prepared import read_prepared
from pfnano_tag.prepare.sample import training_jets
from pfnano_tag.prepare.scaled import scaled_jets
from pfnano_tag.train import stage
from pfnano_tag.train.dataloader import LabelledInputs, Stream
from pfnano_tag.train.decoding import Decoder
from pfnano_tag.train.memory import bytes_per_jet, memory_plan
from pfnano_tag.train.target_check import check_targets

ALL = tuple(TARGETS)
CAPS = {"charged": 25, "neutral": 25, "sv": 5}


def card_of(folder, *files, **sections):
    return Card.model_validate(
        {
            "study": {"name": "targets", "folder": folder},
            "datasets": [{"name": "mc", "files": [str(f) for f in files], "kind": "mc", "roles": ["train"]}],
            "resources": {"chunk": 0.4},
            "labels": {"classes": ["b", "c", "uds", "g"]},
            "splitting": {"fractions": [0.6, 0.3, 0.1]},
            "models": {"heads": {"architecture": "deepsets"}},
            **sections,
        }
    )


@pytest.fixture(scope="module", autouse=True)
def no_pictures():
    """Leave the plots of preparations out: they take longer than all the rest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pfnano_tag.prepare.pictures.draw", lambda *arguments: [])
        yield


@pytest.fixture(scope="module")
def study(tmp_path_factory, generated_layouts):
    """A card on a generated btvNano file of top pairs, prepared."""
    card = card_of(tmp_path_factory.mktemp("targets") / "study", generated_layouts("btvnano"))
    prepare.run(card)
    prepared = read_prepared(card.folder / "prepared.json", card)
    assert len(prepared.files[0].chunks) >= 3
    assert prepared.files[0].absent == ()
    return card, prepared


def stream_of(study, targets=ALL, **resources):
    card, prepared = study
    card = card.model_copy(update={"resources": card.resources.model_copy(update=resources)})
    return Stream.of_study(card, prepared, memory_plan(card, prepared, [200], True, targets))


def content_of(batch):
    """Inputs, labels and weights of a batch, and its targets, as bytes."""
    tensors = [batch.jet_BF, batch.jet_default_BF, batch.label_B, batch.weight_B]
    for group in batch.groups.values():
        tensors += [group.x_BNF, group.mask_BN, group.default_BNF, group.vectors_BN4]
    return (
        [(tuple(t.shape), t.numpy().tobytes()) for t in tensors],
        {name: (t.dtype, tuple(t.shape), t.numpy().tobytes()) for name, t in batch.targets.items()},
    )


def epoch(study, targets=ALL, **resources):
    with stream_of(study, targets, **resources) as stream:
        batches = [content_of(batch) for batch in stream.loader(64, 200, True, seed=5).epoch(1)]
        pools = [
            content_of(collate(p.inputs, torch.arange(len(p)), p.label, p.weight, p.targets))
            for p in stream.validation(100)
        ]
    return batches, pools


def test_the_same_targets_however_jets_are_read_and_kept_and_the_same_inputs_without(study):
    batches, pools = epoch(study, cache="none")
    for readers, cache in ((0, "ram"), (0, "scratch"), (1, "none")):
        assert epoch(study, readers=readers, cache=cache) == (batches, pools), (readers, cache)
    assert all(set(targets) == set(ALL) for _, targets in (*batches, *pools))
    plain, plain_pools = epoch(study, (), cache="ram")
    assert plain == [(inputs, {}) for inputs, _ in batches]
    assert plain_pools == [(inputs, {}) for inputs, _ in pools]
    some, _ = epoch(study, ("charged/vertex",), cache="none")
    assert some == [(inputs, {"charged/vertex": t["charged/vertex"]}) for inputs, t in batches]


def test_targets_stay_with_their_candidates_in_batches(study):
    """A candidate of a batch is found again in the file by its momentum: its truth is that of the file's."""
    with PFNanoFile(study[1].files[0].path) as file:
        chunk = file.chunk(0, file.num_entries)
        truth = candidate_truth(chunk)
        pt, eta, phi = (chunk[f"PFCands_{name}"].values.astype(float) for name in ("pt", "eta", "phi"))
    tree = cKDTree(np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], axis=1))
    checked = 0
    with stream_of(study, cache="none") as stream:
        for batch in stream.loader(64, 200, True, seed=5).epoch(1):
            mask = batch.groups["charged"].mask_BN
            origin, vertex = batch.targets["charged/origin"], batch.targets["charged/vertex"]
            assert origin.dtype == vertex.dtype == torch.int64
            assert batch.targets["jet/pt_ratio"].dtype == torch.float32
            assert origin.shape == vertex.shape == mask.shape
            assert (origin[~mask] == NO_TRUTH).all()
            assert (vertex[~mask] == NO_TRUTH).all()
            known = mask & (origin != NO_TRUTH)
            distance, row = tree.query(batch.groups["charged"].vectors_BN4[known][:, :3].double().numpy())
            assert (distance < 1e-3).all()
            assert np.array_equal(truth.origin[row], origin[known].numpy())
            assert np.array_equal(truth.vertex[row], vertex[known].numpy())
            checked += len(row)
    assert checked > 2000


@pytest.mark.parametrize("caps", [{"charged": 3, "neutral": 25, "sv": 5}, CAPS])
def test_caps_take_the_targets_along(study, caps):
    _, prepared = study
    ids = ["charged/trackSip2dSig", "jet/pt"]
    with PFNanoFile(prepared.files[0].path) as file:
        chunk = file.chunk(0, 60)
        every = np.ones(len(chunk["Jet_pt"].values), dtype=bool)
        wide = read_jets(chunk, ids, every, {**caps, "charged": 1000}, 0.95, targets=ALL)
        table = read_jets(chunk, ids, every, caps, 0.95, targets=ALL)
        harder = read_jets(chunk, ids, every, {**caps, "charged": 1000}, 2.0, targets=ALL)
    kept = rank_in_list(wide.groups["charged"].offsets) < caps["charged"]
    pt = np.hypot(wide.groups["charged"].columns["px"], wide.groups["charged"].columns["py"])
    for name in ("charged/origin", "charged/vertex"):
        assert np.array_equal(table.targets[name], wide.targets[name][kept])
        assert np.array_equal(harder.targets[name], wide.targets[name][pt >= 2.0])
    order = np.array([5, 0, 5, 3])
    chosen = table.select(order)
    for place, jet in enumerate(order):
        a, b = chosen.groups["charged"].offsets[place : place + 2]
        c, d = table.groups["charged"].offsets[jet : jet + 2]
        assert np.array_equal(chosen.targets["charged/origin"][a:b], table.targets["charged/origin"][c:d])
    np.testing.assert_array_equal(chosen.targets["jet/pt_ratio"], table.targets["jet/pt_ratio"][order])
    again = type(table).concatenate([table, chosen])
    assert len(again.targets["charged/vertex"]) == again.groups["charged"].offsets[-1]


def test_select_trim_and_attack_keep_targets_with_their_jets(study):
    with stream_of(study, cache="ram") as stream:
        batch = next(iter(stream.loader(64, 200, False, seed=1).epoch(1)))
    chosen = torch.tensor([3, 60, 3])
    some = batch.select(chosen)
    for name, values in batch.targets.items():
        assert torch.equal(some.targets[name].nan_to_num(-9.0), values[chosen].nan_to_num(-9.0))
    parts = batch.parts(300)
    assert len(parts) > 2
    for part in parts:
        assert part.targets["charged/origin"].shape == part.groups["charged"].mask_BN.shape
    flat = torch.cat([part.targets["charged/origin"][part.groups["charged"].mask_BN] for part in parts])
    assert torch.equal(flat, batch.targets["charged/origin"][batch.groups["charged"].mask_BN])
    moved = batch.with_jets(chosen[:2], batch.select(chosen[:2]))
    assert all(torch.equal(moved.targets[n].nan_to_num(-9.0), batch.targets[n].nan_to_num(-9.0)) for n in ALL)


def test_jets_in_memory_carry_targets_too(study):
    card, prepared = study
    (part, *_) = training_jets(card, prepared, ("train",), targets=ALL)
    scaled = scaled_jets(part.table, prepared.inputs)
    targets = {
        name: torch.from_numpy(values.astype(np.int64 if name.startswith("charged") else np.float32))
        for name, values in part.table.targets.items()
    }
    jets = LabelledInputs(tensors_of(scaled), torch.from_numpy(part.label), torch.ones(len(part)), targets)
    batches = list(Stream.of_jets(jets, jets).loader(len(part), 10, False, seed=1).epoch(1))
    assert sum(int((b.targets["charged/origin"] == ORIGINS.index("from_b")).sum()) for b in batches) == int(
        (targets["charged/origin"] == ORIGINS.index("from_b")).sum()
    )


def test_memory_counts_targets(study):
    card, prepared = study
    per_jet = bytes_per_jet(prepared, True, ALL) - bytes_per_jet(prepared, True)
    with Decoder(card, prepared, True) as plain, Decoder(card, prepared, True, ALL) as full:
        sizes = []
        for decoder in (plain, full):
            block = decoder.block((0, 0), ("train", "validation"))
            sizes.append(sum(r.nbytes for r in (block.jets, *block.groups.values())) / len(block))
    assert per_jet == pytest.approx(sizes[1] - sizes[0], rel=0.3)


@pytest.fixture(scope="module")
def tables(study, generate_once):
    """Jets of top pairs and of QCD with all that their targets are about."""
    qcd = generate_once(
        "targets_qcd.root", process="qcd", events=250, seed=3, mode="mc", pool_events=200, layout="btvnano"
    )
    found = []
    for path in (study[1].files[0].path, qcd):
        with PFNanoFile(path) as file:
            chunk = file.chunk(0, file.num_entries)
            jets = (chunk["Jet_pt"].values > 25) & (np.abs(chunk["Jet_eta"].values) < 2.4)
            ids = ["charged/trackSip3dSig", "charged/trackSip3dVal", "jet/pt"]
            table = read_jets(chunk, ids, jets, {"charged": 100}, 0.95, targets=ALL)
            found.append((table, chunk["Jet_hadronFlavour"].values[jets].astype(int)))
    return found


def test_origins_make_sense_by_flavour_of_the_jet(tables):
    number = {name: i for i, name in enumerate(ORIGINS)}
    for table, flavour in tables:
        of = np.repeat(flavour, table.groups["charged"].counts)
        origin = table.targets["charged/origin"]
        known = origin != NO_TRUTH
        assert known.mean() > 0.95

        def share(jets, *names, origin=origin, of=of, known=known):
            chosen = origin[known & (of == jets)]
            return np.isin(chosen, [number[name] for name in names]).mean()

        assert share(5, "from_b", "from_bc") > 0.4
        assert share(5, "from_b") > 0.15
        assert share(5, "from_bc") > 0.15
        assert share(5, "from_c") < 0.05
        assert share(4, "from_c") > 0.2
        assert share(0, "from_b", "from_bc", "from_c") < 0.02
        assert share(0, "primary") > 0.8
        assert not (origin == number["pileup"]).any()


def test_tracks_of_decays_miss_the_primary_vertex(tables):
    table, _ = tables[0]
    significance = np.abs(table.column("charged/trackSip3dSig"))
    origin = table.targets["charged/origin"]
    median = {name: np.median(significance[origin == i]) for i, name in enumerate(ORIGINS) if name != "pileup"}
    assert median["from_b"] > 3 * median["primary"]
    assert median["from_bc"] > 3 * median["primary"]
    assert median["from_c"] > 1.5 * median["primary"]


def test_vertices_group_the_decay_products(tables):
    table, flavour = tables[0]
    group = table.groups["charged"]
    jet = np.repeat(np.arange(len(table)), group.counts)
    origin, vertex = table.targets["charged/origin"], table.targets["charged/vertex"]
    primary = origin == ORIGINS.index("primary")
    assert (vertex[primary] == 0).all()
    heavy = np.isin(origin, [ORIGINS.index(name) for name in ("from_b", "from_bc", "from_c")])
    assert (vertex[heavy] > 0).all()
    # one vertex is of one class; b jets have two displaced vertices, of the b and of the c hadron
    key = jet[heavy] * 100_000 + vertex[heavy]
    assert np.unique(np.stack([key, origin[heavy]]), axis=1).shape[1] == len(np.unique(key))
    per_jet = np.bincount(np.unique(key) // 100_000, minlength=len(table))
    assert 1.2 < per_jet[flavour == 5].mean() < 2.5
    assert per_jet[flavour == 0].mean() < 0.05


def test_jets_lose_energy_to_neutrinos_and_the_detector(tables):
    for table, _ in tables:
        ratio = table.targets["jet/pt_ratio"]
        assert ratio.dtype == np.float32
        assert 0.9 < np.nanmedian(ratio) < 1.1
        assert np.isnan(ratio).mean() < 0.1


def test_hadrons_of_the_vertices_are_hadrons(study):
    with PFNanoFile(study[1].files[0].path) as file:
        chunk = file.chunk(0, file.num_entries)
        truth = candidate_truth(chunk)
        parts = chunk["GenPart_pdgId"]
        event = np.repeat(np.arange(chunk.num_events), chunk["PFCands_pt"].counts)
        displaced = truth.vertex > 0
        code = np.abs(parts.values[parts.offsets[event[displaced]] + truth.vertex[displaced] - 1])
    assert (is_hadron(code) | (code == 15)).all()
    assert np.isin(code, (511, 521, 531, 411, 421, 431, 15)).mean() > 0.8


# what the files lack


def test_training_refuses_a_head_without_labels_at_once(tmp_path, monkeypatch, generated_mc):
    card = card_of(tmp_path / "study", generated_mc, resources={"chunk": 60})
    prepare.run(card)
    monkeypatch.setattr(DeepSets, "targets", ("charged/origin",))
    for call in (lambda: stage.run(card), lambda: stage.plan(card), lambda: stage.find_rates(card)):
        with pytest.raises(MissingBranch) as caught:
            call()
        for word in (str(generated_mc), "GenCands_genPartMotherIdx", "model heads", "charged/origin"):
            assert word in str(caught.value)
    assert not (card.folder / "models").exists()
    monkeypatch.setattr(DeepSets, "targets", ("jet/pt_ratio",))
    monkeypatch.setattr(DeepSets, "tasks", {}, raising=False)
    assert "jets:" in stage.plan(card)


def test_reading_refuses_too_where_files_were_changed(study, shared_data):
    real = shared_data / "pfnano_qcd_mc_2017UL_10ev.root"
    with PFNanoFile(real) as file:
        chunk = file.chunk(0, 10)
        every = np.ones(len(chunk["Jet_pt"].values), dtype=bool)
        with pytest.raises(MissingBranch, match=r"charged/vertex needs branches.*\n.*GenCands_genPartMotherIdx"):
            read_jets(chunk, ["charged/ptrel"], every, CAPS, 0.95, targets=["charged/vertex"])
        table = read_jets(chunk, ["jet/pt"], every, CAPS, 0.95, targets=["jet/pt_ratio"])
        matched = chunk["Jet_genJetIdx"].values >= 0
        ratio = table.targets["jet/pt_ratio"]
        assert np.array_equal(np.isfinite(ratio), matched)
        assert 0.9 < np.median(ratio[matched]) < 1.15
        events = np.repeat(np.arange(10), chunk["Jet_pt"].counts)
        for row in np.flatnonzero(matched):
            start = chunk["GenJet_pt"].offsets[events[row]]
            pt = chunk["GenJet_pt"].values[start + chunk["Jet_genJetIdx"].values[row]]
            assert ratio[row] == np.float32(pt / chunk["Jet_pt"].values[row])


def test_a_head_for_a_group_that_is_no_input_is_refused(tmp_path, generated_layouts):
    card = card_of(
        tmp_path / "study", generated_layouts("btvnano"), inputs={"features": ["jet/pt", "jet/eta", "neutral/ptrel"]}
    )
    prepared = prepare.run(card)
    with pytest.raises(CardError, match="model m: its head for charged/origin needs constituents of group charged"):
        check_targets("m", ["jet/pt_ratio", "charged/origin"], prepared)
