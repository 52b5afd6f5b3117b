"""Jobs on an HTCondor of this machine: removed, short of memory, corrupt, lost, held, evicted, killed; and chains."""

from __future__ import annotations

import hashlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pfnano_tag.card import read_card
from pfnano_tag.card.folder import analysis_path
from pfnano_tag.card.jobs import read_report
from pfnano_tag.errors import CardError, StudyError
from pfnano_tag.submit import submission as submitting
from pfnano_tag.submit.chain import read_chain
from pfnano_tag.submit.jobfolder import read_job_folder
from pfnano_tag.submit.status import status_of
from tests.integration.batch import (
    code_path,
    conditions,
    files_and_direct,
    logs,
    make_gates,
    number_of,
    only,
    packed,
    same,
    same_as_here,
    settings,
    shared_and_put_together,
    shell,
    shown,
    six_files,
    submit,
    told_to_stop,
    until,
    wait_for,
    whole_chain,
)
from tests.integration.condor_here import Pool

HUNGRY = """\
# Takes more memory than the job asked for, unless that is much.
grep '^AllowedJobDuration = ' "$_CONDOR_JOB_AD"
if [ "$(basename "$1")" = 1 ] && [ "$(sed -n 's/^Memory = //p' "$_CONDOR_MACHINE_AD")" -lt 1500 ]; then
  exec PYTHON -c "import time; filled = b'x' * 1_200_000_000; time.sleep(300)"
fi
"""
LOOKS = """\
# Notes proxy and token, and the proxy once more when it is another, in SEEN.
{
  stat -c %a "$X509_USER_PROXY" ${BEARER_TOKEN_FILE:+"$BEARER_TOKEN_FILE"}
  sha256sum <"$X509_USER_PROXY"
} >SEEN.new
mv SEEN.new SEEN
cat ${BEARER_TOKEN_FILE:+"$BEARER_TOKEN_FILE"} </dev/null >"$1/token"
first="$(sha256sum <"$X509_USER_PROXY")"
while [ -n "$WAITS" ] && [ "$(sha256sum <"$X509_USER_PROXY")" = "$first" ]; do
  sleep 0.2
done
sha256sum <"$X509_USER_PROXY" >>SEEN
"""
EXTENSION = "[proxy]\nkeyUsage = critical, digitalSignature\nproxyCertInfo = critical, language:id-ppl-inheritAll\n"


@pytest.fixture(scope="module", autouse=True)
def pool() -> Iterator[Pool]:
    """HTCondor for the tests of this module; nothing is left running, even when the run is told to stop."""
    with told_to_stop(), tempfile.TemporaryDirectory(prefix="condor.", ignore_cleanup_errors=True) as folder:
        made = Pool(Path(os.environ["PFNANO_TAG_CONDOR"]) / "usr", Path(folder))
        path = os.environ["PATH"]
        os.environ["PATH"] = f"{made.tools}{os.pathsep}{path}"
        try:
            made.start()
            yield made
        finally:
            made.stop()
            os.environ["PATH"] = path


def lines(variables: dict[str, str]) -> dict[str, str]:
    """Return what gives jobs variables: HTCondor gives them none of its own accord."""
    return {"environment": '"' + " ".join(f"{key}='{value}'" for key, value in variables.items()) + '"'}


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """What jobs are told: this checkout, and where the gates are."""
    return make_gates(tmp_path)


@pytest.fixture
def gates(variables: dict[str, str]) -> Path:
    """Folder of the gates that hold jobs up."""
    return Path(variables["GATES"])


@pytest.fixture
def study(tmp_path: Path, variables: dict[str, str]) -> Path:
    """Six files and a network; return the path of the card."""
    (tmp_path / "hungry.sh").write_text(HUNGRY.replace("PYTHON", sys.executable))
    condor = {**lines(variables), "+JobFlavour": '"longlunch"'}
    return six_files(tmp_path, {"backend": "condor", "before": str(tmp_path / "hungry.sh"), "condor": condor})


def test_six_files_and_what_happens_to_them(study: Path, gates: Path, tmp_path: Path, capsys):
    card = read_card(study)
    files, direct = files_and_direct(card, tmp_path / "direct")
    whole = files[2].read_bytes()
    files[2].write_bytes(whole[:5000])
    for index in (0, 4):
        (gates / str(index)).touch()

    assert submit(study, "jobs", "--set", "submit.retries=0") is None
    job = read_job_folder(card.folder / "jobs" / "analyze-0001")
    cluster = number_of(job)
    shell("condor_hold", f"{cluster}.5")
    wait_for(card, job, {0: "running", 1: "held", 2: "failed", 3: "done", 4: "running", 5: "held"})
    until(lambda: len(list(gates.glob("*.reached"))) == 2, lambda: logs(job))
    items = status_of(card, job).items
    assert [item.index for item in items if item.memory_short] == [1]
    assert "memory" in items[1].why
    assert "file 2.root" in items[2].why
    assert items[3].events == (240, 240)
    assert "condor_hold" in items[5].why
    assert submit(study, "status") == 75
    table = shown(capsys)
    assert "1 done, 2 running, 2 held, 1 failed" in table

    # one is removed; one is evicted, and goes on where it was
    shell("condor_vacate_job", f"{cluster}.4")
    shell("condor_rm", f"{cluster}.0")
    wait_for(card, job, {0: "lost", 4: "done"})
    assert read_report(job.folder_of(4)).attempt == 2
    assert read_report(job.folder_of(4), "report.last.json").code == 75
    log = (job.folder_of(4) / "log.txt").read_text()
    assert "1 of 20 chunks" in log
    assert "\nAllowedJobDuration = 1200\n" in log
    assert "removed: via condor_rm" in status_of(card, job).items[0].why

    analysis_path(card, "mc", str(files[3])).unlink()
    files[2].write_bytes(whole)
    assert conditions(card, job) == {0: "lost", 1: "held", 2: "failed", 3: "failed", 4: "done", 5: "held"}
    assert "its result is gone" in status_of(card, job).items[3].why
    capsys.readouterr()
    submit(study, "retry")
    table = shown(capsys)
    assert "5 of 6 jobs are missing" in table
    assert "1 mc/file 1: held, 1600 MB" in table
    wait_for(card, job, dict.fromkeys(range(6), "done"))
    assert submit(study, "status") == 0
    assert same([analysis_path(card, "mc", str(file)) for file in files], direct, card)
    shown(capsys)
    assert submit(study, "retry") is None
    assert "0 of 6 jobs are missing" in capsys.readouterr().out


def test_memory_grows_and_what_was_killed_goes_on_by_itself(study: Path, gates: Path, tmp_path: Path):
    """The job folder lies elsewhere, under a name with a blank; the batch system alone does what is to be done."""
    card = read_card(study)
    only(card, 2)
    (gates / "0").touch()
    submit(study, "jobs", "--folder", str(tmp_path / "it's else where"), "--set", "submit.retries=1")
    job = read_job_folder(tmp_path / "it's else where")
    reached = gates / "0.reached"
    until(reached.exists, lambda: logs(job))
    os.kill(int(reached.read_text()), signal.SIGKILL)
    wait_for(card, job, {0: "done", 1: "done"})
    assert read_report(job.folder_of(0)).attempt == 2
    assert read_report(job.folder_of(0), "report.last.json").code == 137
    history = shell("condor_history", f"{number_of(job)}.1", "-limit", "1", "-af", "NumHolds", "RequestMemory")
    assert history.split() == ["1", "1600"]


def test_lines_that_htcondor_ignores_or_refuses(study: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for number, (line, error, words) in enumerate(
        (
            ("{reqeust_gpus: '1'}", CardError, "no such line as reqeust_gpus = 1"),
            ("{requirements: '(((Memory'}", StudyError, "condor_submit: exit code 1: .*Requirements"),
        )
    ):
        with pytest.raises(error, match=words):
            submit(study, "jobs", "--folder", str(tmp_path / f"job{number}"), "--set", f"submit.condor={line}")
        assert not (tmp_path / f"job{number}").exists()
    assert shell("condor_q", "-af", "ClusterId") == ""
    answers = tmp_path / "bin"
    answers.mkdir()
    (answers / "condor_submit").write_text("#!/bin/sh\nexec sleep 60\n")
    (answers / "condor_submit").chmod(0o755)
    monkeypatch.setenv("PATH", f"{answers}:/usr/bin:/bin")
    monkeypatch.setattr(submitting, "TIMEOUT", 0.5)
    with pytest.raises(StudyError, match="condor_submit: no answer within"):
        submit(study, "jobs", "--folder", str(tmp_path / "slow"))
    (answers / "condor_submit").unlink()
    with pytest.raises(StudyError, match="condor_submit: no such command here"):
        submit(study, "jobs", "--folder", str(tmp_path / "none"))
    assert not list((tmp_path / "it's a study").glob("jobs/*"))


def make_proxy(folder: Path, days: int) -> Path:
    """Make a proxy (RFC 3820) of a certificate that is nobody's; return its path."""

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    folder.mkdir(exist_ok=True)
    new = ["-newkey", "rsa:2048", "-nodes"]
    openssl("req", "-x509", *new, "-keyout", "user.key", "-out", "user.pem", "-subj", "/CN=user")
    openssl("req", "-new", *new, "-keyout", "proxy.key", "-out", "proxy.csr", "-subj", "/CN=user/CN=1")
    (folder / "extension").write_text(EXTENSION)
    extension = ["-extfile", "extension", "-extensions", "proxy"]
    signed = ["-CA", "user.pem", "-CAkey", "user.key", "-CAcreateserial", *extension]
    openssl("x509", "-req", "-in", "proxy.csr", *signed, "-days", str(days), "-out", "proxy.pem")
    whole = folder / "whole.new"
    whole.touch(mode=0o600)
    whole.write_text("".join((folder / name).read_text() for name in ("proxy.pem", "proxy.key", "user.pem")))
    return whole.rename(folder / "whole")


def test_proxies_and_tokens_come_with_a_job_and_htcondor_renews_its_own(study: Path, tmp_path: Path):
    card = read_card(study)
    only(card, 1)
    proxy, token, seen, script = (
        make_proxy(tmp_path / "my grid", 2),
        tmp_path / "token",
        tmp_path / "seen",
        "looks.sh",
    )
    token.write_text("a-token")
    digests = [hashlib.sha256(proxy.read_bytes()).hexdigest()]
    looks = LOOKS.replace("SEEN", shlex.quote(str(seen)))
    (tmp_path / script).write_text(looks.replace("$WAITS", ""))
    keys = [f"submit.before={tmp_path}/{script}", f"submit.proxy={proxy}", f"submit.token={token}"]
    submit(study, "jobs", *settings(*keys))
    job = read_job_folder(card.folder / "jobs" / "analyze-0001")
    wait_for(card, job, {0: "done"})
    assert seen.read_text().split() == ["600", "600", digests[0], "-", digests[0], "-"]
    assert (job.folder_of(0) / "token").read_text() == "a-token"

    seen.unlink()
    (tmp_path / script).write_text(looks.replace("$WAITS", "yes"))
    keys = [keys[0], f"submit.condor.x509userproxy={proxy}"]
    submit(study, "jobs", *settings(*keys))
    job = read_job_folder(card.folder / "jobs" / "analyze-0002")
    until(seen.exists, lambda: logs(job))
    time.sleep(3)  # HTCondor takes for new what is later than its own copy, by whole seconds
    make_proxy(proxy.parent, 3)
    digests.append(hashlib.sha256(proxy.read_bytes()).hexdigest())
    wait_for(card, job, {0: "done"})
    assert seen.read_text().split() == ["600", digests[0], "-", digests[1], "-"]


def test_a_job_of_the_packed_environment_gives_the_same_bits(study: Path, tmp_path: Path):
    """The archive goes along; nothing of this checkout is named to the job."""
    card = read_card(study)
    (file,) = only(card, 1)
    with packed() as archive:
        submit(study, "jobs", *settings("submit.condor={}", f"submit.environment={archive}"))
        job = read_job_folder(card.folder / "jobs" / "analyze-0001")
        wait_for(card, job, {0: "done"})
    assert same_as_here(card, file, tmp_path)


def test_a_chain_stops_where_something_is_missing_and_goes_on(tmp_path: Path, capsys):
    variables = {"PYTHONPATH": code_path()}
    path = whole_chain(tmp_path, {"backend": "condor", "retries": 0, "condor": lines(variables)})
    card = read_card(path)
    file = card.folder / "data" / "jets2.root"
    whole = file.read_bytes()
    file.write_bytes(whole[:3000])
    submit(path, "chain")
    chain = read_chain(card.folder / "jobs" / "chain-0001")

    def ended() -> bool:
        return shell("condor_q", "-af", "ClusterId") == ""

    def told() -> str:
        names = ("log.txt", "chain.dag.dagman.out")
        return "\n".join(found.read_text() for name in names if (found := chain.path / name).exists())

    until(ended, told)
    assert "prepare: 1 of 2 items" in told()
    assert "has not come to analyze" in told()
    assert not chain.job_path("train").exists()
    capsys.readouterr()
    assert submit(path, "status") == 75
    shown(capsys)

    file.write_bytes(whole)
    submit(path, "chain", "--folder", str(chain.path))
    until((chain.path / "chain.dag.lock").exists, told)
    with pytest.raises(StudyError, match="is running already"):
        submit(path, "chain", "--folder", str(chain.path))
    until(ended, told)
    assert (card.folder / "comparison" / "results.json").exists(), told()
    assert submit(path, "status") == 0
    shown(capsys)
    log = (chain.job_path("train") / "items" / "0" / "log.txt").read_text()
    assert "2 processes" in log
    assert shared_and_put_together(card, read_job_folder(chain.job_path("analyze")), tmp_path)
