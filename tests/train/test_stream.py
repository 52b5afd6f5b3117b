"""The training stream on files: the same batches however they are read and kept, and nothing left behind."""

import gc
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import torch
import uproot

from pfnano_tag.card import read_card
from pfnano_tag.card.card import Card
from pfnano_tag.card.resampling import Resampling
from pfnano_tag.errors import DataError, FileError, Incomplete
from pfnano_tag.nano import baskets
from pfnano_tag.prepare import sample
from pfnano_tag.prepare import stage as prepare
from pfnano_tag.prepare.prepared import read_prepared
from pfnano_tag.prepare.sample import training_jets
from pfnano_tag.train import cache as caches
from pfnano_tag.train.dataloader import Stream
from pfnano_tag.train.decoding import Decoder
from pfnano_tag.train.interruption import STOPPING
from pfnano_tag.train.memory import memory_plan
from tests.prepare.candidates_file import content, damage, write

CHUNK = 0.1
"""MB of branches in a chunk: a few chunks in a file of 240 events."""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A card on three random files, prepared."""
    folder = tmp_path_factory.mktemp("stream")
    paths = [str(write(folder / f"{seed}.root", content(seed))) for seed in (1, 2, 3)]
    card = Card.model_validate(
        {
            "study": {"name": "stream", "folder": folder / "study"},
            "datasets": [{"name": "mc", "files": paths, "kind": "mc", "roles": ["train"]}],
            "resources": {"chunk": CHUNK},
            "labels": {"classes": ["b", "c", "uds", "g"]},
            "splitting": {"fractions": [0.6, 0.3, 0.1]},
        }
    )
    prepare.run(card)
    prepared = read_prepared(card.folder / "prepared.json", card)
    assert sum(len(record.chunks) for record in prepared.files) >= 9
    return card, prepared


def stream_of(study, buffer=100, vectors=True, asked=None, **resources):
    card, prepared = study
    card = card.model_copy(update={"resources": card.resources.model_copy(update=resources)})
    return Stream.of_study(card, prepared, memory_plan(card, prepared, [buffer], vectors), asked)


def content_of(batch):
    """Everything in a batch, as bytes."""
    tensors = [batch.jet_BF, batch.jet_default_BF, batch.label_B, batch.weight_B]
    for group in batch.groups.values():
        tensors += [group.x_BNF, group.mask_BN, group.default_BNF, group.vectors_BN4]
    return [(tuple(tensor.shape), tensor.numpy().tobytes()) for tensor in tensors]


def epochs(study, buffer, buckets, resampling=None, **resources):
    with stream_of(study, buffer, **resources) as stream:
        loader = stream.loader(32, buffer, buckets, seed=5, resampling=resampling)
        batches, pools = [], []
        for epoch in (1, 2, 3):  # as a training asks for them: from the second on, the next is read ahead
            batches += [content_of(batch) for batch in loader.epoch(epoch)]
            pools += [pool.inputs.jet_JF.numpy().tobytes() for pool in stream.validation(70)]
    return batches, pools


WAYS = [(0, "ram"), (0, "scratch"), (1, "none"), (2, "none"), (2, "ram"), (2, "scratch")]


@pytest.mark.parametrize(
    ("buffer", "buckets", "ways"), [(100, True, WAYS), (100, False, WAYS[:2]), (100_000, True, WAYS[:2])]
)
def test_the_same_batches_however_jets_are_read_and_kept(study, buffer, buckets, ways):
    first = epochs(study, buffer, buckets, cache="none")
    for readers, cache in ways:
        assert epochs(study, buffer, buckets, readers=readers, cache=cache) == first, (readers, cache)


@pytest.mark.parametrize(
    ("buffer", "resampling"),
    [
        (100, Resampling()),
        (100_000, Resampling(target="balanced", jets=200)),
        (100, Resampling(mode="with_replacement", jets=600)),
    ],
)
def test_the_same_jets_are_drawn_however_they_are_read_and_kept(study, buffer, resampling):
    first = epochs(study, buffer, True, resampling, cache="none")
    for readers, cache in [(0, "ram"), (0, "scratch"), (2, "none")]:
        assert epochs(study, buffer, True, resampling, readers=readers, cache=cache) == first, (readers, cache)
    with stream_of(study, buffer, cache="ram") as stream:
        loader = stream.loader(32, buffer, True, seed=5, resampling=resampling)
        batches = [content_of(batch) for batch in loader.epoch(3)]
        assert first[0][-len(loader) :] == batches
        assert [content_of(batch) for batch in loader.epoch(3, start=3)] == batches[3:]


@pytest.mark.parametrize(("buffer", "cache"), [(1, "none"), (100, "none"), (100, "ram"), (100_000, "ram")])
def test_every_jet_is_in_an_epoch_once_with_its_label_and_constituents(study, buffer, cache):
    card, prepared = study
    expected = {}
    for part in training_jets(card, prepared, ["train"]):
        counts = part.table.groups["charged"].counts
        energy = part.table.groups["charged"].columns["energy"]
        offsets = part.table.groups["charged"].offsets
        for i, (pt, label) in enumerate(zip(part.table.jet["pt"], part.label, strict=True)):
            expected[float(pt)] = (int(label), int(counts[i]), energy[offsets[i] : offsets[i + 1]].tolist())
    feature = {f.id: (i, f) for i, f in enumerate(prepared.inputs.groups["jet"])}
    place, pt_feature = feature["jet/pt"]
    with stream_of(study, buffer, cache=cache) as stream:
        loader = stream.loader(32, buffer, True, seed=5)
        batches = list(loader.epoch(1))
    assert len(batches) == len(loader)
    assert [len(b) for b in batches] == [32] * (len(batches) - 1) + [prepared.total("train") % 32 or 32]
    known = np.array(sorted(expected))
    seen = []
    for batch in batches:
        scaled = batch.jet_BF[:, place].double().numpy() * pt_feature.std + pt_feature.mean
        pt = np.expm1(scaled) if pt_feature.transform == "log" else scaled
        group = batch.groups["charged"]
        for i, value in enumerate(pt):
            key = float(known[np.abs(known - value).argmin()])
            mask = group.mask_BN[i]
            found = (int(batch.label_B[i]), int(mask.sum()), group.vectors_BN4[i, mask, 3].tolist())
            assert found == expected[key]
            seen.append(key)
    assert sorted(seen) == sorted(expected)
    assert len(seen) == prepared.total("train")


def test_a_chunk_is_the_same_in_any_parts_and_each_basket_is_decoded_once(study, monkeypatch):
    card, _ = study
    card = card.model_copy(
        update={
            "resources": card.resources.model_copy(update={"chunk": 64.0}),
            "study": card.study.model_copy(update={"folder": card.folder.parent / "one_chunk"}),
        }
    )
    prepare.run(card)
    prepared = read_prepared(card.folder / "prepared.json", card)
    assert [len(record.chunks) for record in prepared.files] == [1, 1, 1]
    decoded: list[bytes] = []
    original = baskets._decoded
    monkeypatch.setattr(baskets, "_decoded", lambda raw, *others: decoded.append(raw) or original(raw, *others))
    found = []
    for size, number in ((sample.PART_BYTES, 1), (150_000, 2), (1, 6)):
        monkeypatch.setattr(sample, "PART_BYTES", size)
        with Decoder(card, prepared, vectors=True) as decoder:
            assert len(decoder._file(1).parts(0, 240)) == number
            decoder.block((0, 0), ("train",))  # another block's memory is taken
            decoded.clear()
            block = decoder.block((1, 0), ("train", "validation"))
        assert len(decoded) == len(set(decoded)) > 0
        parts = [(records, name) for records in (block.jets, *block.groups.values()) for name in records.dtype.names]
        found.append([records[name].tobytes() for records, name in parts if name != "starts"])
    assert found[0] == found[1] == found[2]


def test_a_chunk_that_failed_leaves_nothing_in_the_next(study, monkeypatch):
    card, prepared = study
    monkeypatch.setattr(sample, "PART_BYTES", 1)
    with Decoder(card, prepared, vectors=True) as decoder:
        expected = decoder.block((1, 0), ("train",)).jets["x"].tobytes()
        original, calls = sample.PreparedFile.jets, []

        def fail_at_the_second(self, start, stop, splits):
            calls.append(start)
            if len(calls) == 2:
                raise FileError("broken")
            return original(self, start, stop, splits)

        monkeypatch.setattr(sample.PreparedFile, "jets", fail_at_the_second)
        monkeypatch.setattr(
            sample.PreparedFile, "parts", lambda self, start, stop: ((start, start + 1), (start, stop))
        )
        with pytest.raises(FileError, match="broken"):
            decoder.block((0, 0), ("train",))
        monkeypatch.setattr(sample.PreparedFile, "parts", lambda self, start, stop: ((start, stop),))
        assert decoder.block((1, 0), ("train",)).jets["x"].tobytes() == expected


def test_a_reader_whose_caller_is_gone_at_once_ends_quietly():
    script = (
        "import socket; ours, theirs = socket.socketpair(); ours.close(); "
        "from pfnano_tag.train.readers import serve; serve(theirs.detach())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_epochs_and_seeds_differ_and_repeat(study):
    with stream_of(study) as stream:
        orders = {
            (seed, epoch): torch.cat([b.jet_BF for b in stream.loader(32, 100, False, seed).epoch(epoch)])
            for seed, epoch in ((1, 1), (1, 2), (2, 1))
        }
        again = torch.cat([b.jet_BF for b in stream.loader(32, 100, False, 1).epoch(2)])
    assert torch.equal(again, orders[1, 2])
    first, *others = orders.values()
    assert not any(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("cache", ["none", "ram"])
def test_an_epoch_can_begin_at_any_batch(study, cache):
    with stream_of(study, cache=cache) as stream:
        loader = stream.loader(32, 100, True, seed=5)
        whole = [content_of(batch) for batch in loader.epoch(3)]
        assert [content_of(batch) for batch in loader.epoch(3, start=4)] == whole[4:]
        assert list(loader.epoch(3, start=len(whole))) == []


def test_an_epoch_given_up_does_not_disturb_the_next_one(study):
    with stream_of(study, readers=2, cache="none") as stream:
        loader = stream.loader(32, 100, False, seed=5)
        whole = [content_of(batch) for batch in loader.epoch(2)]
        given_up = loader.epoch(1)
        next(given_up)
        given_up.close()
        assert [content_of(batch) for batch in loader.epoch(2)] == whole


def test_an_epoch_that_was_read_ahead_for_nothing_does_not_disturb_another(study):
    with stream_of(study, readers=2, cache="none") as stream:
        loader, other = (stream.loader(32, 100, True, seed=seed) for seed in (5, 6))
        expected = [content_of(batch) for batch in other.epoch(1)]
        list(stream.validation(70))
        list(loader.epoch(1))  # epoch 2 of this seed is asked for
        assert [content_of(batch) for batch in other.epoch(1)] == expected
        list(stream.validation(70))
        assert [content_of(batch) for batch in other.epoch(1)] == expected


class Recorded:
    """A reader of chunks that writes down what it is asked for."""

    def __init__(self, reader):
        self.reader, self.asked = reader, []

    def blocks(self, chunks, splits):
        self.asked.append((*splits, list(chunks)))
        return self.reader.blocks(chunks, splits)

    def close(self):
        self.reader.close()


@pytest.mark.parametrize("memory", [1.5, 0.1])
def test_files_are_read_for_validation_once_where_memory_suffices_and_ahead_of_the_next_epoch(study, memory):
    with stream_of(study, cache="none", memory=memory) as stream:
        stream._source._reader = reader = Recorded(stream._source._reader)
        loader = stream.loader(32, 100, True, seed=5)
        for epoch in (1, 2, 3):
            list(loader.epoch(epoch))
            list(stream.validation(70))
    orders = [chunks for split, chunks in reader.asked if split == "train"]
    kept = memory > 1
    assert [split for split, _ in reader.asked].count("validation") == (1 if kept else 3)
    assert len(orders) == (4 if kept else 3)  # the fourth is read ahead
    assert all(sorted(order) == sorted(orders[0]) for order in orders)


def test_validation_jets_come_in_the_order_of_the_files(study):
    card, prepared = study
    expected = np.concatenate([part.label for part in training_jets(card, prepared, ["validation"])])
    for cache in ("none", "ram", "scratch"):
        with stream_of(study, cache=cache) as stream:
            sizes, labels = [], []
            for pool in stream.validation(40):
                sizes.append(len(pool))
                labels.append(pool.label.clone())
        assert torch.cat(labels).tolist() == expected.tolist()
        assert len(sizes) > 2
        assert min(sizes[:-1]) >= 40


def readers_of(stream):
    return stream._source._reader


def maps_of(pid):
    return Path(f"/proc/{pid}/maps").read_text()


def test_readers_import_neither_torch_nor_matplotlib(study):
    with stream_of(study, readers=1, cache="none") as stream:
        batches = stream.loader(32, 100, False, seed=5).epoch(1)
        next(batches)
        (pid,) = readers_of(stream).pids
        assert "numpy" in maps_of(pid)
        assert not {name for name in ("torch", "matplotlib") if f"/{name}/" in maps_of(pid)}
        assert "/torch/" in maps_of("self")


def alive(pids):
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_a_killed_reader_is_named(study):
    with stream_of(study, readers=2, cache="none") as stream:
        batches = stream.loader(8, 16, False, seed=5).epoch(1)
        next(batches)
        pids = readers_of(stream).pids
        os.kill(pids[1], signal.SIGKILL)
        with pytest.raises(
            Incomplete, match=r"reader process 2 of 2 was ended by signal 9 \(SIGKILL\).*lower resources"
        ):
            list(batches)
    assert not alive(pids)


@pytest.mark.parametrize("is_new", [True, False])
def test_readers_leave_signals_to_the_training_and_end_with_it(study, is_new):
    pids = []

    def fail_in_an_epoch():
        with stream_of(study, readers=2, cache="none") as stream:
            batches = stream.loader(8, 16, False, seed=5).epoch(1)
            if is_new:
                readers_of(stream)._start()
            else:
                next(batches)
            pids.extend(readers_of(stream).pids)
            for pid in pids:
                for number in STOPPING:
                    os.kill(pid, number)
            list(batches)
            raise KeyError

    with pytest.raises(KeyError):
        fail_in_an_epoch()
    assert len(pids) == 2
    assert not alive(pids)


ORPHANS = """
import sys
from pathlib import Path
from pfnano_tag.card.card import Card
from pfnano_tag.card.resampling import Resampling
from pfnano_tag.prepare.prepared import read_prepared
from pfnano_tag.train.dataloader import Stream
from pfnano_tag.train.decoding import Decoder
from pfnano_tag.train.memory import memory_plan
card = Card.model_validate_json(Path(sys.argv[1]).read_text())
prepared = read_prepared(card.folder / "prepared.json", card)
stream = Stream.of_study(card, prepared, memory_plan(card, prepared, [100], True))
next(stream.loader(8, 16, False, 1).epoch(1))
print(*stream._source._reader.pids, flush=True)
import time
time.sleep(60)
"""


def test_readers_end_when_the_training_is_killed(study, tmp_path):
    card, _ = study
    card = card.model_copy(update={"resources": card.resources.model_copy(update={"readers": 2, "cache": "none"})})
    path = tmp_path / "card.json"
    path.write_text(card.model_dump_json())
    process = subprocess.Popen([sys.executable, "-c", ORPHANS, str(path)], stdout=subprocess.PIPE, text=True)
    with process:
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert len(alive(pids)) == 2
        process.kill()
    end = time.monotonic() + 20
    while alive(pids) and time.monotonic() < end:
        time.sleep(0.05)
    assert not alive(pids)


@pytest.mark.parametrize("readers", [0, 1])
def test_a_broken_chunk_is_the_same_error_in_a_reader(study, tmp_path, readers):
    card, _ = study
    path = write(tmp_path / "broken.root", content(1))
    copy = Card.model_validate(
        card.model_dump(mode="json", exclude={"datasets", "study"})
        | {
            "study": {"name": "broken", "folder": tmp_path / "study"},
            "datasets": [{"name": "mc", "files": [str(path)], "kind": "mc", "roles": ["train"]}],
        }
    )
    prepare.run(copy)
    broken = read_prepared(copy.folder / "prepared.json", copy)
    damage(path, "PFCands_pt", 3)
    words = r"broken.root, entries \d+ to \d+: .*`prepare` could read it: restore the file"
    with stream_of((copy, broken), readers=readers, cache="none") as stream, pytest.raises(FileError, match=words):
        list(stream.loader(32, 100, False, seed=5).epoch(1))


def test_scratch_leaves_nothing_behind(study, tmp_path, monkeypatch):
    monkeypatch.setenv("_CONDOR_SCRATCH_DIR", str(tmp_path))
    before = len(list(Path("/proc/self/fd").iterdir()))
    with stream_of(study, cache="scratch") as stream:
        place = Path(f"/proc/self/fd/{stream._source._reader._file.fileno()}")
        assert str(place.readlink()).startswith(str(tmp_path))
        batches = stream.loader(32, 100, False, seed=5).epoch(1)
        next(batches)
        assert list(tmp_path.iterdir()) == []
    del batches, stream
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_full_disk_is_named(study, monkeypatch):
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr(caches.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(DataError, match=r"needs 0\.\d GB, 0\.0 GB are free; set TMPDIR .* or resources.cache=none"):
        stream_of(study, cache="scratch")


def test_stopping_while_reading(study):
    answers = iter([False, False, True])
    with pytest.raises(Incomplete, match="stopped while reading jets"):
        stream_of(study, cache="ram", asked=lambda: next(answers))


OWN = """
study: {{name: own, folder: "{folder}"}}
datasets: [{{name: jets, files: "{file}", kind: mc, roles: [train]}}]
labels: {{classes: [b, c, uds]}}
inputs: {{features: [charged/d0, jet/energy]}}
jets:
  tree:
    position_identifies: true
    labels: {{b: [label_b], c: [label_c], uds: [label_q]}}
    branches: {{Jet_pt: jet_pt}}
    features:
      charged/d0: {{branch: part_d0val, axis: [50, -1, 1], unit: cm, transform: log100}}
      jet/energy: {{branch: jet_energy, unit: GeV, transform: log, axis: [50, 0, 500]}}
"""


@pytest.mark.parametrize("readers", [0, 1])
def test_a_study_with_inputs_of_its_own(tmp_path, readers):
    """Neither pT nor eta is an input, and the feature is in no table; a new process must learn of it."""
    rng = np.random.default_rng(4)
    counts, flavour = rng.integers(1, 9, 900), rng.choice(3, 900)
    columns = {"jet_pt": (25, 500), "jet_eta": (-2, 2), "jet_phi": (-3, 3), "jet_energy": (25, 500)}
    with uproot.recreate(tmp_path / "jets.root") as file:
        file["tree"] = {
            "part_d0val": ak.unflatten(rng.normal(size=counts.sum()).astype("f4"), counts),
            **{name: rng.uniform(*bounds, 900).astype("f4") for name, bounds in columns.items()},
            **{f"label_{name}": flavour == index for index, name in enumerate(("b", "c", "q"))},
        }
    (tmp_path / "card.yaml").write_text(OWN.format(folder=tmp_path / "study", file=tmp_path / "jets.root"))
    card = read_card(tmp_path / "card.yaml")
    prepare.run(card)
    prepared = read_prepared(card.folder / "prepared.json", card)
    with stream_of((card, prepared), vectors=False, readers=readers, cache="none") as stream:
        batches = list(stream.loader(64, 200, False, seed=1).epoch(1))
    assert sum(len(batch) for batch in batches) == prepared.total("train")
    assert list(batches[0].groups) == ["charged"]
    weights = torch.cat([batch.weight_B for batch in batches])
    assert float(weights.double().mean()) == pytest.approx(1)
    with (
        stream_of((card, prepared), vectors=True, readers=readers, cache="none") as stream,
        pytest.raises(DataError, match=r"has no four-vectors of constituents \(charged\), .*arguments.pair=\[\]"),
    ):
        next(stream.loader(64, 200, False, seed=1).epoch(1))


def test_batches_for_a_gpu_are_pinned(study, monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    with stream_of(study) as stream:
        plain = [content_of(batch) for batch in stream.loader(32, 100, True, seed=5).epoch(1)]
        assert not pinned
        assert [content_of(batch) for batch in stream.loader(32, 100, True, seed=5, pin=True).epoch(1)] == plain
    assert len(pinned) == len(plain) * (4 + 3 * 4)


def test_sigterm_ends_the_command_and_its_readers(study, tmp_path):
    card, _ = study
    content = card.model_dump(mode="json") | {"models": {"net": {"architecture": "deepsets"}}}
    content["resources"] |= {"readers": 2, "cache": "none"}
    content["training"] |= {"epochs": 100_000, "batch_size": 16, "buffer": 64, "schedule": "constant"}
    path = tmp_path / "card.yaml"
    path.write_text(json.dumps(content))
    command = [sys.executable, "-m", "pfnano_tag.train", str(path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while process.poll() is None and len(pids := children.read_text().split()) < 2:
            time.sleep(0.02)
        process.terminate()
        words = process.stderr.read()
    assert (process.returncode, "go on with --resume" in words) == (75, True), words
    assert not alive(pids)
