"""File lists: globs, lists, addresses; each file once, in a stable order."""

import pytest

from pfnano_tag.card.files import expand_files
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
        ("deep", "no such file"),
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
