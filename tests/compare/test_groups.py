"""Sums of groups of job outputs: the same bits in any way, made again when an output changes and only then."""

import os
import random
import shutil
import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from pfnano_tag.analyze.result import Category, Content, Cutflow, JobResult, Variable, write_result
from pfnano_tag.card.datasets import Dataset
from pfnano_tag.compare import groups, jobs, merging, pool, sums
from pfnano_tag.compare.groups import LARGEST, Node, tree
from pfnano_tag.compare.merging import Merger
from pfnano_tag.compare.outputs import DatasetJobs
from pfnano_tag.errors import FileError, StudyError

DATASET = Dataset(name="dy", files=("x",), kind="mc", cross_section=2.0, roles=("analyze",))
OUTPUTS = 100
B = Category("all", "b")


def nodes(numbers):
    return [Node(f"file_{number:05}.root", str(number), Path(f"file_{number:05}.root")) for number in numbers]


def leaves_of(node):
    return [leaf for source in node.sources for leaf in leaves_of(source)] if node.sources else [node]


def write_output(path, number, flavours=("b", "c"), **info):
    """Write the output of one file: two variables with weights that no order of sums leaves alone."""
    fill = np.random.default_rng(number)
    categories = tuple(Category("all", flavour) for flavour in flavours)
    contents = {}
    for name in ("pt", "eta"):
        variable = Variable(name, "kinematics", name, name, "", 3, 0.0, 1.0, categories)
        values = fill.normal(0, 1, variable.shape)
        contents[name] = variable, Content(values, values**2)
    about = {"dataset": "dy", "kind": "mc", "settings": "s", "models": {}, "lost": [], **info}
    flow = Cutflow(("all", "some"), np.array([4.0, 1.0]), np.array([4.0, 0.5]))
    write_result(path, about, {"files": 1.0, "sumw_effective": 0.1 * number}, {"all": flow}, contents)


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Outputs that tests copy: 100 files, of which every 7th has a flavour more."""
    folder = tmp_path_factory.mktemp("outputs")
    for number in range(OUTPUTS):
        write_output(folder / f"file_{number:05}.root", number, ("b", "c") if number % 7 else ("g", "b", "c"))
    return folder


@pytest.fixture
def outputs(originals, tmp_path):
    """A folder of outputs of one's own."""
    return shutil.copytree(originals, tmp_path / "outputs")


def merge(outputs, folder=None, processes=1, leave=()):
    paths = tuple(sorted(path for path in outputs.glob("*.root") if path.name not in leave))
    with Merger([DatasetJobs(DATASET, paths)], folder, processes) as merger:
        return {name: merger.merged(name, {"dy": 3.0}) for name in merger.variables}


def same_bits(first, second):
    assert first.keys() == second.keys()
    for name, rows in first.items():
        assert list(rows) == list(second[name])
        for category, arrays in rows.items():
            assert all(map(np.array_equal, arrays, second[name][category]))


@pytest.fixture
def work(monkeypatch):
    """Count the outputs that are opened, and the sums that are made."""
    counted = Counter()
    opened, added, described = JobResult.__init__, merging.add_up, merging.describe

    def init(self, path):
        counted[Path(path).name] += 1
        opened(self, path)

    monkeypatch.setattr(JobResult, "__init__", init)
    monkeypatch.setattr(merging, "add_up", lambda node: counted.update(["sums"]) or added(node))
    monkeypatch.setattr(merging, "describe", lambda *group: counted.update(["descriptions"]) or described(*group))
    return counted


# groups


@pytest.mark.parametrize("number", [1, 2, 40, 1000, 5000])
def test_a_tree_has_all_outputs_in_their_order(number):
    leaves = nodes(range(number))
    top = tree(leaves, Path("sums"))
    assert leaves_of(top) == leaves
    assert max((len(node.sources) for node in groups.sums_in(top)), default=0) <= LARGEST
    assert top.height <= 4
    assert len(list(groups.sums_in(top))) <= 1 + number / 10


def test_groups_have_about_the_size_that_is_said():
    sizes = [len(group) for group in groups.groups(nodes(range(20_000)))]
    assert 22 < np.mean(sizes) < 34


def test_new_outputs_leave_all_other_groups_as_they_were(monkeypatch):
    """Ten outputs, anywhere among a thousand, change the groups that they are in, or (the largest) the one behind."""
    choose = random.Random(3)
    everything = nodes(range(1000))
    for _ in range(20):
        new = set(choose.sample(range(1000), 10))
        before = list(groups.groups([node for place, node in enumerate(everything) if place not in new]))
        after = set(groups.groups(everything))
        touched = [group for group in before if group not in after]
        assert len(touched) <= 15
        with monkeypatch.context() as patch:
            patch.setattr(groups, "LARGEST", 1000)
            left = [node for place, node in enumerate(everything) if place not in new]
            assert len(set(groups.groups(left)) - set(groups.groups(everything))) <= 10


# sums


def test_sums_are_those_of_all_files(outputs):
    found = merge(outputs)
    expected = {}
    for path in sorted(outputs.glob("*.root")):
        with JobResult(path) as result:
            for category, values in zip(result.variables["pt"].categories, result.read("pt").values, strict=True):
                expected[category] = expected.get(category, 0) + 3.0 * values
    assert found["pt"].keys() == expected.keys()
    for category, (values, _) in found["pt"].items():
        np.testing.assert_allclose(values, expected[category], rtol=0, atol=1e-12)
    assert sum(category.flavour == "g" for category in expected) == 1


def test_a_small_dataset_is_summed_file_by_file(outputs):
    (group, *_) = groups.groups(nodes(range(OUTPUTS)))
    for path in outputs.glob("*.root"):
        if path.name not in [node.name for node in group]:
            path.unlink()
    total = 0
    for node in group:
        with JobResult(outputs / node.name) as result:
            total = total + result.read("pt").values[-2]
    assert np.array_equal(merge(outputs)["pt"][B][0], total * 3.0)


def test_any_number_of_processes_gives_the_same_bits(outputs, tmp_path):
    expected = merge(outputs)
    for processes in (2, 3):
        same_bits(merge(outputs, tmp_path / str(processes), processes), expected)
        same_bits(merge(outputs, tmp_path / str(processes), 1), expected)


def test_an_output_is_opened_twice_whatever_the_number_of_variables(outputs, work):
    merge(outputs)
    first = min(path.name for path in outputs.glob("*.root"))
    assert work.pop(first) == 3  # its variables are those of the comparison
    assert {work[path.name] for path in outputs.glob("*.root") if path.name != first} == {2}


def test_a_sum_is_a_job_output_of_several_files(outputs, tmp_path):
    merge(outputs, tmp_path)
    paths = tuple(sorted(outputs.glob("*.root")))
    top = tree([groups.leaf(path) for path in paths], tmp_path / "dy")
    with JobResult(top.path) as result:
        assert result.sums["files"] == OUTPUTS
        assert result.sums["sumw_effective"] == pytest.approx(0.1 * sum(range(OUTPUTS)))
        assert result.cutflows["all"].weighted.tolist() == [4.0 * OUTPUTS, 0.5 * OUTPUTS]


# what is kept


def test_nothing_is_read_again_while_the_outputs_are_the_same(outputs, work, tmp_path):
    before = merge(outputs, tmp_path)
    work.clear()
    same_bits(merge(outputs, tmp_path), before)
    assert work["sums"] == work["descriptions"] == 0
    assert sum(work.values()) == 2  # the first output and the sum of all


def test_new_outputs_are_read_with_their_groups_only(outputs, work, tmp_path):
    new = {f"file_{number:05}.root" for number in (20, 21, 22, 80)}
    merge(outputs, tmp_path, leave=new)
    all_groups = list(groups.groups(nodes(range(OUTPUTS))))
    touched = [group for group in all_groups if new & {node.name for node in group}]
    assert len(touched) < len(all_groups)
    work.clear()
    found = merge(outputs, tmp_path)
    assert work["descriptions"] == len(touched)
    read = {name for name in work if name.startswith("file_")}
    assert read <= {node.name for group in touched for node in group} | {"file_00000.root"}
    same_bits(found, merge(outputs))


def files_in(folder):
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_sums_of_outputs_as_they_were_are_removed(outputs, tmp_path):
    merge(outputs, tmp_path)
    before = files_in(tmp_path)
    (outputs / "file_00050.root").unlink()
    merge(outputs, tmp_path)
    after = files_in(tmp_path)
    assert before - after
    shutil.rmtree(tmp_path / "dy")
    merge(outputs, tmp_path)
    assert files_in(tmp_path) == after


def test_an_output_that_was_written_again_is_read_again(outputs, tmp_path):
    """The same size, the same times: the UUID of the file tells."""
    path = outputs / "file_00050.root"
    before = merge(outputs, tmp_path)
    times = path.stat()
    write_output(path, 4711)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    after = merge(outputs, tmp_path)
    assert not np.array_equal(before["pt"][B][0], after["pt"][B][0])
    same_bits(after, merge(outputs))


def test_an_output_that_was_changed_in_place_is_read_again(outputs, tmp_path):
    """The same size, the same UUID, the time of change set back: that of the file's node tells."""
    path = outputs / "file_00050.root"
    other = outputs / "file_00051.root"
    before = merge(outputs, tmp_path)
    times, header = path.stat(), path.read_bytes()[: groups.HEADER]
    content = bytearray(other.read_bytes())
    content[: groups.HEADER] = header
    content += b"\0" * max(0, times.st_size - len(content))
    with path.open("r+b") as file:
        file.write(content[: times.st_size] if len(content) > times.st_size else content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    stamp = groups.stamp_of(path)
    assert [stamp[0], *stamp[1:3]] == [path.name, times.st_size, times.st_mtime_ns]
    assert stamp[4] == header.hex()
    with Merger([DatasetJobs(DATASET, tuple(sorted(outputs.glob("*.root"))))], tmp_path) as merger:
        after = merger.merged("pt", {"dy": 3.0})
    assert not np.array_equal(before["pt"][B][0], after[B][0])


def test_damaged_descriptions_are_made_again(outputs, tmp_path, work):
    before = merge(outputs, tmp_path)
    for path, text in zip(sorted((tmp_path / "dy").glob("*.json")), ("{", '{"key": "other"}'), strict=False):
        path.write_text(text)
    work.clear()
    same_bits(merge(outputs, tmp_path), before)
    assert work["descriptions"] == 2


def test_a_sum_that_is_damaged_or_of_something_else_is_refused(outputs, tmp_path):
    expected = merge(outputs, tmp_path)
    top = tree([groups.leaf(path) for path in sorted(outputs.glob("*.root"))], tmp_path / "dy")
    shutil.copy(top.sources[0].path, top.path)
    with pytest.raises(StudyError, match=r"no sum of the job outputs that its name stands for; it is made again"):
        merge(outputs, tmp_path)
    top.path.write_bytes(top.path.read_bytes()[:300])
    with pytest.raises(FileError, match=rf"{top.path.name}.*made again when you remove it"):
        merge(outputs, tmp_path)
    top.path.unlink()
    same_bits(merge(outputs, tmp_path), expected)


@pytest.mark.parametrize("module", [jobs, sums])
def test_an_output_that_comes_again_meanwhile_ends_the_merging(outputs, tmp_path, monkeypatch, module):
    """Sums over what the descriptions don't tell would not be noticed."""
    refused = module.refuse_changed

    def rewritten(node):
        if node.name == "file_00003.root":
            write_output(node.path, 4711)
        refused(node)

    monkeypatch.setattr(module, "refuse_changed", rewritten)
    with pytest.raises(StudyError, match=r"file_00003\.root: was written while it was merged"):
        merge(outputs, tmp_path)
    monkeypatch.undo()
    same_bits(merge(outputs, tmp_path), merge(outputs))


def test_errors_of_other_processes_are_the_same(outputs, tmp_path):
    for number in (60, 90):
        path = outputs / f"file_{number:05}.root"
        path.write_bytes(path.read_bytes()[:300])
    for processes in (1, 2):
        with pytest.raises(FileError, match=r"file_00060\.root"):
            merge(outputs, tmp_path, processes)


def kill(item):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_is_told():
    several = pool.Pool(2)
    with pytest.raises(StudyError, match=r"merging: a process was killed.*--workers"):
        several.run(kill, [1, 2], [pool.FEW, 1], "merging", "files")
    several.close()


def test_outputs_of_other_settings_are_refused_before_anything_is_summed(outputs, work):
    write_output(outputs / "file_00099.root", 99, settings="t")
    with pytest.raises(StudyError, match=r"file_00099\.root were made with different settings"):
        merge(outputs)
    assert work["sums"] == 0


def test_what_is_equal_is_kept_once(outputs, tmp_path):
    paths = tuple(sorted(outputs.glob("*.root")))
    with Merger([DatasetJobs(DATASET, paths)], tmp_path) as merger:
        first, second = merger.jobs["dy"][1], merger.jobs["dy"][-1]
        assert first.info["settings"] is second.info["settings"]
        assert first.variables is second.variables
