"""ONNX Runtime in the place of torch: the same scores, from a graph that is never stale."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from pfnano_tag.card.card import Card
from pfnano_tag.errors import CardError, CheckpointError, MissingExtra
from pfnano_tag.infer import onnx_graph
from pfnano_tag.infer.bookkeeping import load_checkpoint
from pfnano_tag.infer.networks import load_networks
from pfnano_tag.infer.onnx_graph import graph_of, probe
from pfnano_tag.infer.onnx_session import Session, open_session, torch_outputs
from pfnano_tag.infer.prediction import predict
from pfnano_tag.models.registry import ARCHITECTURES
from tests.analyze.networks import save

pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")

TASKS = {
    "response": {"kind": "gaussian", "target": "jet/pt_ratio", "hidden": [4]},
    "origin": {"kind": "constituents", "target": "charged/origin", "hidden": [4]},
    "vertex": {"kind": "edges", "target": "charged/vertex", "hidden": [4]},
}
SMALL = {"embed": [8], "width": 8, "heads": 2, "layers": 1, "out": 8, "head": [8]}
PART = {"embed": [8, 16], "pair": [8], "heads": 2, "blocks": 1, "class_blocks": 1}
NETWORKS = {
    "deepsets": ("deepsets", {"phi": [16], "rho": [16]}),
    "mlp": ("mlp", {}),
    "mlp_without_vertices": ("mlp", {"sv": 0, "occupancy": False}),
    "deepjet": ("deepjet", {"charged": [8, 4], "neutral": [8, 4], "sv": [8, 4], "charged_lstm": 8, "dense": [16]}),
    "deepjet_padded": ("deepjet", {"charged": [8], "padded": [3, 3, 2], "charged_lstm": 8, "dense": [16]}),
    "particle_transformer": ("particle_transformer", PART),
    "multitask": ("multitask", SMALL | {"registers": 1, "tasks": TASKS}),
}
SHAPES = ((2, 1), (2, 25), (5, 5), (5, 6), (33, 7), (64, 24))


def tagger_of(folder, name):
    architecture, arguments = NETWORKS[name]
    path = save(folder, name, 3, architecture=architecture, arguments=arguments)
    tagger = load_checkpoint(path)
    with torch.no_grad():  # statistics of batch norm as after a training
        for key, value in tagger.module.named_buffers():
            if key.endswith("running_mean"):
                value += 0.3
            if key.endswith("running_var"):
                value *= 1.7
    return tagger, path


def test_every_architecture_is_compared():
    assert {architecture for architecture, _ in NETWORKS.values()} == set(ARCHITECTURES)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_scores_for_any_number_of_jets_and_constituents(tmp_path, name):
    tagger, path = tagger_of(tmp_path, name)
    session = open_session(tagger, path, 1)
    for seed, (jets, width) in enumerate(SHAPES):
        batch = probe(tagger, jets, width, seed + 10)
        expected, numbers = torch_outputs(tagger, batch)
        found, of_session = session(batch)
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)
        assert (numbers is None) == (of_session is None)
        if numbers is not None:
            np.testing.assert_allclose(of_session, numbers, atol=1e-5)


def card_in(folder, *models, **resources):
    return Card.model_validate(
        {
            "study": {"name": "test", "folder": str(folder)},
            "datasets": [{"name": "a", "files": ["a.root"], "kind": "mc", "roles": ["train"]}],
            "models": {name: {"architecture": "deepsets"} for name in models},
            "resources": {"backend": "onnx", **resources},
        }
    )


EXPORTED: dict[str, bytes] = {}
"""Graphs by hash, to save the tests' time."""


@pytest.fixture
def graphs(tmp_path, monkeypatch):
    """A checkpoint, and how often it was written as ONNX."""
    path = save(tmp_path, "net", 1)
    made = []
    real = onnx_graph.exported

    def counted(tagger):
        made.append(tagger.hash)
        if tagger.hash not in EXPORTED:
            EXPORTED[tagger.hash] = real(tagger)
        return EXPORTED[tagger.hash]

    monkeypatch.setattr(onnx_graph, "exported", counted)
    return path, made


def test_the_graph_is_kept_and_made_anew_for_another_network(graphs, tmp_path):
    path, made = graphs
    first = graph_of(load_checkpoint(path), path)
    assert graph_of(load_checkpoint(path), path) == first
    assert len(made) == 1
    assert len(list(path.parent.glob("epoch_0001.*.onnx"))) == 1
    assert load_networks(card_in(tmp_path, "net"), None).taggers["net"].session is not None
    assert len(made) == 1
    save(tmp_path, "net", 2)  # trained again: the same name, another network
    tagger = load_checkpoint(path)
    batch = probe(tagger, 20, 6, 5)
    np.testing.assert_allclose(open_session(tagger, path, 1)(batch)[0], torch_outputs(tagger, batch)[0], atol=1e-5)
    assert len(made) == 2 == len(set(made))


def test_a_damaged_graph_is_made_anew(graphs, caplog):
    path, made = graphs
    first = graph_of(load_checkpoint(path), path)
    kept = next(path.parent.glob("*.onnx"))
    for damaged in (first[: len(first) // 2], first[:2000] + bytes([first[2000] ^ 1]) + first[2001:], b""):
        kept.write_bytes(damaged)
        caplog.clear()
        session = open_session(load_checkpoint(path), path, 1)
        assert "damaged; it is made anew" in caplog.text
        assert session(probe(load_checkpoint(path), 3, 2, 0))[0].shape == (3, 6)
    assert len(made) == 4
    assert not [name for name in path.parent.iterdir() if ".tmp" in name.name]


def test_a_folder_that_can_not_be_written_is_no_obstacle(graphs, monkeypatch):
    path, made = graphs

    def full(target):
        raise onnx_graph.OutputError(f"{target}: can't be written: No space left on device")

    monkeypatch.setattr(onnx_graph, "write_whole", full)
    tagger = load_checkpoint(path)
    assert open_session(tagger, path, 1)(probe(tagger, 3, 2, 0))[0].shape == (3, 6)
    assert not list(path.parent.glob("*.onnx"))
    assert len(made) == 1


def test_a_graph_that_gives_other_scores_is_refused(graphs, monkeypatch):
    path, _ = graphs
    tagger = load_checkpoint(path)
    wrong = graph_of(tagger, path)
    with torch.no_grad():
        tagger.module.head.bias[0] += 0.01
    monkeypatch.setattr("pfnano_tag.infer.onnx_session.graph_of", lambda *_: wrong)
    with pytest.raises(CheckpointError, match=r"model 'net': ONNX Runtime and torch differ by 0\.00"):
        open_session(tagger, path, 1)


def test_a_network_that_can_not_be_exported_is_refused_with_the_reason(graphs, monkeypatch):
    path, _ = graphs
    tagger = load_checkpoint(path)
    EXPORTED.pop(tagger.hash, None)
    monkeypatch.setattr(tagger.module, "_pool", lambda phi, x, mask: [x.sum((1, 2)).item() * x.sum(1)] * 2)
    with pytest.raises(CheckpointError, match=r"'net' \(deepsets\) can't be written as ONNX: .*backend=torch"):
        graph_of(tagger, path)
    assert not list(path.parent.glob("*.onnx"))


@pytest.mark.parametrize("package", ["onnxruntime", "onnx", "onnxscript"])
def test_what_to_install_is_said(tmp_path, monkeypatch, package):
    save(tmp_path, "net", 1)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=rf"needs the package {package}; install it with: .*pfnano_tag\[onnx\]"):
        load_networks(card_in(tmp_path, "net"), None)


def test_a_gpu_is_refused_by_the_card(tmp_path):
    with pytest.raises(CardError, match=r"resources\.backend: 'onnx' runs on CPUs") as found:
        strict_card(tmp_path, "cuda")
    assert "resources.device" in str(found.value)
    strict_card(tmp_path, "cpu")


def strict_card(folder, device):
    from pfnano_tag.card import read_card

    path = folder / "card.yaml"
    path.write_text(
        "study: {name: s}\ndatasets: [{name: a, files: [x.root], kind: mc, roles: [train]}]\n"
        f"resources: {{backend: onnx, device: {device}}}\n"
    )
    return read_card(path, ())


@pytest.mark.usefixtures("graphs")
def test_attacks_need_torch(tmp_path):
    tagger = load_networks(card_in(tmp_path, "net"), None).taggers["net"]
    with pytest.raises(CardError, match="attacks need their gradients"):
        predict(tagger, None, attack=lambda module, batch: batch)


def test_threads_and_memory(graphs):
    path, _ = graphs
    session = Session(graph_of(load_checkpoint(path), path), False, 2)
    options = session._session.get_session_options()
    assert options.intra_op_num_threads == 2
    assert not options.enable_cpu_mem_arena


def test_no_memory_is_a_memory_error(graphs):
    path, _ = graphs
    tagger = load_checkpoint(path)
    session = Session(graph_of(tagger, path), False, 1)

    class Full:
        def run(self, *_):
            raise RuntimeError("BFCArena: Failed to allocate memory for requested buffer of size 4")

    session._session = Full()
    with pytest.raises(MemoryError):
        session(probe(tagger, 3, 2, 0))
