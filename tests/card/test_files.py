"""File lists: globs, lists, addresses; each file once, in a stable order."""

import pytest

from pfnano_tag.card.files import expand_files, replicas_of
from pfnano_tag.errors import FileError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in ("b.root", "a.root", "a b.root", "it's [1].root", "deep/er/c.root"):
        (tmp_path / name).write_text("")
    return tmp_path


def test_globs_are_sorted_and_each_file_comes_once(folder):
    found = expand_files([f"{folder}/b.root", f"{folder}/[ab].root", f"{folder}/*.root"])
    assert [name.removeprefix(f"{folder}/") for name in found] == ["b.root", "a.root", "a b.root", "it's [1].root"]
    assert expand_files([f"{folder}/**/c.root"]) == [f"{folder}/deep/er/c.root"]


def test_a_name_with_glob_signs_is_a_file_when_it_exists(folder):
    assert expand_files([f"{folder}/it's [1].root"]) == [f"{folder}/it's [1].root"]


def test_lists_hold_files_globs_addresses_and_comments(folder):
    inner = folder / "inner.txt"
    inner.write_text(f"{folder}/b.root\n")
    files = folder / "files.txt"
    files.write_text(f"# comment\n\n  {folder}/a*.root  \nroot://host//store/x.root\n{inner}\n")
    assert expand_files([str(files)]) == [
        f"{folder}/a b.root",
        f"{folder}/a.root",
        "root://host//store/x.root",
        f"{folder}/b.root",
    ]


def test_the_home_folder_is_known(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    assert expand_files(["~/b.root"]) == [f"{folder}/b.root"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nothing.root", "no such file"),
        ("nothing*.root", "matches no file"),
        ("deep", "is a folder"),
        ("nothing.txt", "the list of files can't be read"),
    ],
)
def test_what_is_not_there_is_named(folder, name, expected):
    with pytest.raises(FileError, match=expected) as caught:
        expand_files([f"{folder}/{name}"])
    assert f"{folder}/{name}" in str(caught.value)


def test_a_list_of_itself_and_remote_globs_are_refused(folder):
    (folder / "loop.txt").write_text(f"{folder}/loop.txt\n")
    with pytest.raises(FileError, match="holds itself"):
        expand_files([f"{folder}/loop.txt"])
    with pytest.raises(FileError, match=r"\.txt list"):
        expand_files(["root://host//store/*.root"])


def test_replicas_stay_together_and_a_file_comes_once_by_any_of_its_places(folder):
    first, second = "root://one//store/x.root", "root://two:1094//store/x.root"
    files = folder / "files.txt"
    files.write_text(f"{first} | {second}\n{second}\nroot://one//store/y.root\n")
    found = expand_files([str(files), f"  {first}  |  {second}  "])
    assert found == [f"{first} | {second}", "root://one//store/y.root"]
    assert replicas_of(found[0]) == [first, second]
    assert expand_files([f"{first} | {second}"]) == found[:1]


def test_local_replicas_may_be_missing_while_another_place_is_left(folder):
    address = "root://one//store/a.root"
    assert expand_files([f"{folder}/absent.root | {address}"]) == [address]
    assert expand_files([f"{folder}/a.root | {address}"]) == [f"{folder}/a.root | {address}"]
    with pytest.raises(FileError, match="no such file in any of these places"):
        expand_files([f"{folder}/absent.root | {folder}/gone.root"])


def test_a_name_with_a_bare_sign_is_one_file(folder):
    (folder / "a|b.root").write_text("")
    assert expand_files([f"{folder}/a|b.root"]) == [f"{folder}/a|b.root"]


def test_errors_in_a_list_name_the_list_and_the_line(folder):
    inner, outer = folder / "inner.txt", folder / "outer.txt"
    inner.write_text(f"# comment\n{folder}/a.root\n{folder}/absent.root\n")
    outer.write_text(f"{folder}/b.root\n\n{inner}\n")
    with pytest.raises(FileError) as caught:
        expand_files([str(outer)])
    assert str(caught.value).startswith(f"{outer}, line 3: {inner}, line 3: {folder}/absent.root: no such file")


@pytest.mark.parametrize(
    "address", ["https://host/x.root", "s3://bucket/x.root", "root://one//x.root | gsiftp://h/x"]
)
def test_other_protocols_are_refused(address):
    with pytest.raises(FileError, match="only local files and root:// addresses can be read"):
        expand_files([address])


def test_an_empty_list_and_a_folder_are_named(tmp_path):
    (tmp_path / "empty.txt").write_text("# nothing\n\n")
    with pytest.raises(FileError, match=r"empty\.txt: the list of files names no file"):
        expand_files([str(tmp_path / "empty.txt")])
    with pytest.raises(FileError, match=r"is a folder; write .*\*\.root"):
        expand_files([str(tmp_path)])


def test_a_list_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "a.root").write_bytes(b"")
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbf" + str(tmp_path / "a.root").encode())
    assert expand_files([str(tmp_path / "list.txt")]) == [str(tmp_path / "a.root")]
