"""Several jobs for one file: put together, their parts are the result of one job to the last bit."""

from __future__ import annotations

import random
import shutil

import numpy as np
import pytest
import uproot

from pfnano_tag.analyze import joining, stage
from pfnano_tag.analyze.__main__ import parser, run
from pfnano_tag.analyze.ledger import ledger_folder, locked
from pfnano_tag.analyze.parts import Kept, Part, join_parts, output_of
from pfnano_tag.analyze.result import JobResult
from pfnano_tag.card.folder import analysis_path
from pfnano_tag.errors import CardError, Incomplete, OutputError
from tests.analyze.events_file import content, damage, write
from tests.analyze.run_parts import do
from tests.analyze.test_stage import same_bits


def test_parts_are_the_chunks_in_order_and_differ_by_one_at_most():
    for count in range(30):
        for of in range(1, 12):
            shares = [Part(number, of).chunks(count) for number in range(1, of + 1)]
            assert [chunk for share in shares for chunk in share] == list(range(count))
            assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("text", ["", "2", "0/3", "4/3", "1/0", "-1/3", "1/3/5", "a/b", "1.0/2", " 1/2"])
def test_what_is_no_part_is_refused(text):
    with pytest.raises(CardError, match="K/N"):
        Part.parse(text)


def test_a_folder_says_of_which_output_it_is(tmp_path):
    output = tmp_path / "a.part1of2.root"
    assert output_of(Part(3, 12).folder(output)) == output
    assert output_of(output) is None


@pytest.mark.parametrize("kind", ["mc", "data"])
@pytest.mark.parametrize("of", [1, 4, 9])
def test_parts_in_any_order_are_the_whole(moved, files, tmp_path, kind, of):
    """Nine parts of six chunks: some have nothing to do."""
    card = moved(arrays={"format": "root", "columns": ["jet_pt", "*_BvsL"]}) if of == 4 else moved()
    numbers = random.Random(of).sample(range(1, of + 1), of)
    do(card, kind, files[kind], numbers, of)
    output = analysis_path(card, kind, str(files[kind]))
    assert not output.exists()
    join_parts(card)
    whole = stage.run(card, kind, str(files[kind]), tmp_path / "whole.root")
    same_bits(output, whole)
    left = {path.name for path in output.parent.iterdir()}
    rows = {f"{output.name}.jets.root"} if of == 4 else set()
    assert left == {output.name, f"{output.name}.ledger", *rows}
    before = output.stat().st_mtime_ns
    join_parts(card)
    stage.run(card, kind, str(files[kind]))
    assert output.stat().st_mtime_ns == before


def test_a_file_waits_for_its_last_part(moved, files, caplog):
    card = moved()
    do(card, "mc", files["mc"], (1, 3))
    join_parts(card)
    output = analysis_path(card, "mc", str(files["mc"]))
    assert "parts 1/3, 3/3 are there, it waits for the others" in caplog.text
    assert not output.exists()
    assert not ledger_folder(output).exists()


def test_nothing_is_done_twice(moved, files, monkeypatch):
    card, begun = moved(), []
    real = stage.process_chunk

    def count(job, used, chunk, vetoed):
        begun.append(chunk.start)
        return real(job, used, chunk, vetoed)

    monkeypatch.setattr(stage, "process_chunk", count)
    for _ in range(2):
        do(card, "mc", files["mc"], (1, 2, 3))
    assert sorted(begun) == [0, 40, 80, 120, 160, 200]
    join_parts(card)
    assert len(begun) == 6


@pytest.mark.parametrize(("kind", "branch"), [("mc", "PFCands_d0"), ("data", "Muon_pt"), ("data", "luminosityBlock")])
def test_a_lost_chunk_is_lost_as_in_one_job(moved, files, tmp_path, kind, branch):
    """Data: the luminosity sections of the lost chunk reach into the parts before and behind it, and are dropped."""
    path = shutil.copy(files[kind], tmp_path / "broken.root")
    damage(path, branch, 2)
    card = moved()
    do(card, kind, path, (1, 3))
    with pytest.raises(Incomplete, match="1 of 2 chunks are lost.*entries 80 to 120"):
        do(card, kind, path, (2,))
    join_parts(card)
    output = analysis_path(card, kind, str(path))
    with pytest.raises(Incomplete):
        stage.run(card, kind, str(path), tmp_path / "whole.root")
    same_bits(output, tmp_path / "whole.root")
    with JobResult(output) as joined, JobResult(tmp_path / "whole.root") as whole:
        assert joined.info["dropped_lumis"] == whole.info["dropped_lumis"]
        assert not joined.complete
    assert not list(output.parent.glob("*.part*"))


@pytest.mark.parametrize(("kind", "branch"), [("mc", "PFCands_d0"), ("data", "Muon_pt"), ("data", "luminosityBlock")])
def test_a_part_that_comes_later_completes_what_was_incomplete(moved, files, tmp_path, kind, branch):
    path = shutil.copy(files[kind], tmp_path / "broken.root")
    damage(path, branch, 2)
    card = moved()
    do(card, kind, path, (1, 3))
    with pytest.raises(Incomplete):
        do(card, kind, path, (2,))
    join_parts(card)
    shutil.copy(files[kind], path)
    do(card, kind, path, (2,))
    join_parts(card)
    output = analysis_path(card, kind, str(path))
    same_bits(output, stage.run(card, kind, str(files[kind]), tmp_path / "whole.root"))
    with JobResult(output) as result:
        assert result.complete


@pytest.mark.parametrize("change", ["card", "chunks"])
def test_parts_of_another_card_or_with_other_chunks_are_not_mixed(moved, files, caplog, change):
    card = moved()
    do(card, "mc", files["mc"], (1, 2))
    other = moved(comparison={"replicas": 5}) if change == "card" else moved(resources={"chunk": 9.0})
    do(other, "mc", files["mc"], (3,))
    join_parts(other)
    output = analysis_path(card, "mc", str(files["mc"]))
    assert not output.exists()
    assert {"card": "made with another card", "chunks": "its chunks are not those"}[change] in caplog.text
    assert len(list(output.parent.glob("*.part*"))) == 3


def test_whoever_is_told_to_stop_while_joining_goes_on_the_next_time(moved, files, tmp_path, monkeypatch, caplog):
    card = moved()
    do(card, "mc", files["mc"], (1, 2, 3))
    monkeypatch.setattr(joining, "do_job", lambda *_: (_ for _ in ()).throw(Incomplete("told to stop")))
    join_parts(card)
    assert "told to stop" in caplog.text
    output = analysis_path(card, "mc", str(files["mc"]))
    assert len(list(output.parent.glob("*.part*"))) == 3
    monkeypatch.undo()
    join_parts(card)
    same_bits(output, stage.run(card, "mc", str(files["mc"]), tmp_path / "whole.root"))


def test_a_file_that_can_not_be_opened_here_is_named_and_its_parts_stay(moved, files, tmp_path, caplog):
    path = shutil.copy(files["mc"], tmp_path / "elsewhere.root")
    card = moved()
    do(card, "mc", path, (1, 2, 3))
    path.unlink()
    join_parts(card)
    assert "can't be put together here" in caplog.text
    assert "elsewhere.root" in caplog.text
    assert len(list(analysis_path(card, "mc", str(path)).parent.glob("*.part*"))) == 3


def test_another_disk_has_no_hard_links(moved, files, tmp_path, monkeypatch):
    card = moved()
    do(card, "mc", files["mc"], (1, 2))
    do(card, "mc", files["mc"], (3,))

    def refused(*_):
        raise OSError("no links here")

    monkeypatch.setattr(joining.os, "link", refused)
    join_parts(card)
    output = analysis_path(card, "mc", str(files["mc"]))
    same_bits(output, stage.run(card, "mc", str(files["mc"]), tmp_path / "whole.root"))


def test_damaged_descriptions_are_named(moved, files, caplog):
    card = moved()
    do(card, "mc", files["mc"], (1,), of=1)
    place = Part(1, 1).folder(analysis_path(card, "mc", str(files["mc"])))
    (place / "part.json").write_text("{")
    join_parts(card)
    assert "part.json: can't be read" in caplog.text


def test_the_networks_that_were_asked_for_are_those_of_the_whole(moved, files, tmp_path):
    card = moved()
    do(card, "mc", files["mc"], (1, 2, 3), models=["second"])
    place = Part(1, 3).folder(analysis_path(card, "mc", str(files["mc"])))
    assert Kept.read(place).models == ("second",)
    join_parts(card)
    output = analysis_path(card, "mc", str(files["mc"]))
    with JobResult(output) as result:
        assert list(result.info["models"]) == ["second"]
    same_bits(output, stage.run(card, "mc", str(files["mc"]), tmp_path / "whole.root", ["second"]))


def test_a_part_without_chunks_says_so(moved, files, caplog):
    card = moved()
    with caplog.at_level("INFO"):
        do(card, "mc", files["mc"], (1,), of=9)
    assert "part 1/9 has none of the 6 chunks: nothing to do" in caplog.text


def test_a_file_without_events_is_put_together(moved, tmp_path):
    path = write(
        tmp_path / "empty.root", {name: values[:0] for name, values in content("mc", 3).items()}, runs=(480, 500.0)
    )
    card = moved()
    do(card, "mc", path, (1, 2, 3))
    join_parts(card)
    output = analysis_path(card, "mc", str(path))
    same_bits(output, stage.run(card, "mc", str(path), tmp_path / "whole.root"))
    with JobResult(output) as result:
        assert result.complete
        assert result.sums["sumw_effective"] == 500


def test_two_jobs_on_one_part(moved, files):
    card = moved()
    output = analysis_path(card, "mc", str(files["mc"]))
    with locked(output, Part(1, 3).folder(output)):
        with pytest.raises(OutputError, match="part1of3: another job"):
            do(card, "mc", files["mc"], (1,))
        do(card, "mc", files["mc"], (2,))


def test_the_dry_run_says_what_the_part_is(moved, files, capsys):
    card = moved()
    options = parser().parse_args(
        ["card.yaml", "--dataset", "mc", "--file", str(files["mc"]), "--part", "2/4", "--dry-run"]
    )
    run(card, options)
    assert "part 2/4 of it: 2 chunks, 80 events" in capsys.readouterr().out
    assert not (card.folder / "analysis").exists()


def test_rows_of_jets_are_those_of_one_job(moved, files, tmp_path):
    card = moved(arrays={"format": "root", "columns": ["jet_pt", "*_BvsL"]})
    do(card, "mc", files["mc"], (2, 1, 3))
    join_parts(card)
    output = analysis_path(card, "mc", str(files["mc"]))
    whole = stage.run(card, "mc", str(files["mc"]), tmp_path / "whole.root")
    tables = []
    for path in (output, whole):
        with uproot.open({f"{path}.jets.root": "Jets"}) as tree:
            tables.append(tree.arrays(library="np"))
    assert tables[0].keys() == tables[1].keys()
    for name, values in tables[0].items():
        assert np.array_equal(values, tables[1][name]), name
