"""A file under its final name is whole, whatever happens while it is written."""

import errno
import json
import os
import signal
import subprocess
import sys

import pytest

from pfnano_tag.card.output import check_output, write_json, write_whole
from pfnano_tag.errors import OutputError


def test_a_file_appears_whole_with_its_folder(tmp_path):
    target = tmp_path / "new" / "a b.json"
    with write_whole(target) as temporary:
        temporary.write_text("content")
        assert temporary.parent == target.parent
        assert temporary.suffix == ".json"
        assert not target.exists()
    assert target.read_text() == "content"
    assert list(target.parent.iterdir()) == [target]


def test_an_error_leaves_the_old_file_and_no_other(tmp_path):
    target = tmp_path / "result.json"
    target.write_text("old")

    def fail_half_way():
        with write_whole(target) as temporary:
            temporary.write_text("ne")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_killed_process_leaves_the_old_file(tmp_path):
    target = tmp_path / "result.json"
    target.write_text("old")
    script = (
        "import os, signal, sys\nfrom pfnano_tag.card.output import write_whole\n"
        "with write_whole(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('ne')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(target)], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert target.read_text() == "old"
    assert all(path.name.startswith(".result.json.") for path in tmp_path.iterdir() if path != target)


def test_the_mode_is_that_of_any_new_file(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("")
    with write_whole(tmp_path / "whole") as temporary:
        temporary.write_text("")
    assert (tmp_path / "whole").stat().st_mode == plain.stat().st_mode


def test_names_that_can_not_be_written_are_user_errors(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="can't be written"), write_whole(tmp_path / "file" / "below"):
        pytest.fail("a file is no folder")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="can't be written"), write_whole(tmp_path / "folder") as temporary:
        temporary.write_text("")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_json_keeps_all_digits_and_refuses_nan(tmp_path):
    write_json(tmp_path / "a.json", {"x": 0.1 + 0.2})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 0.1 + 0.2}
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "b.json", {"x": float("nan")})
    assert not (tmp_path / "b.json").exists()


def test_an_output_that_is_an_input_is_refused(tmp_path):
    source = tmp_path / "in.root"
    source.write_text("")
    (tmp_path / "link.root").symlink_to(source)
    for name in ("in.root", "link.root", "./x/../in.root"):
        (tmp_path / "x").mkdir(exist_ok=True)
        with pytest.raises(OutputError, match="also an input"):
            check_output(tmp_path / name, ["root://host//in.root", str(source)])
    check_output(tmp_path / "out.root", [str(source)])


def test_a_folder_as_output_is_refused_before_any_work(tmp_path):
    with pytest.raises(OutputError, match="is a folder"):
        check_output(tmp_path, [])


def fill_the_disk(path):
    with write_whole(path) as temporary:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_said_and_the_old_file_stays(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, 1)
    with pytest.raises(OutputError, match=r"a\.json: can't be written: No space left"):
        fill_the_disk(path)
    assert json.loads(path.read_text()) == 1
    assert [found.name for found in tmp_path.iterdir()] == ["a.json"]
    with pytest.raises(FileNotFoundError), write_whole(path):
        (tmp_path / "absent").read_text()
