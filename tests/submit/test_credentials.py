"""Proxies and tokens of jobs: looked at before anything is submitted, and nobody else's to read."""

from __future__ import annotations

import os
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from pfnano_tag.card import Card, read_card
from pfnano_tag.errors import CardError, FileError
from pfnano_tag.submit import credentials
from pfnano_tag.submit.__main__ import parser, run
from pfnano_tag.submit.jobfolder import read_job_folder
from pfnano_tag.submit.stage import describe
from tests.nano.test_credentials import LATE, LONG, at, token
from tests.submit.slurm_calls import calls

KEY = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0IQ==\n-----END PRIVATE KEY-----\n"
PROXY = LONG + KEY
TOKEN = token({"sub": "me", "exp": LATE.timestamp()})
BEFORE = """\
stat -c '%a %n' "$X509_USER_PROXY" "$BEARER_TOKEN_FILE" >"$1/said"
echo "${BEARER_TOKEN-none}" >>"$1/said"
"""


@pytest.fixture
def credentialed(twelve: Card, tmp_path: Path) -> Card:
    """A study whose jobs take a proxy and a token along."""
    for name, text in {"my proxy": PROXY, "token": TOKEN + "\n", "before.sh": BEFORE}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o644)
    path = tmp_path / "card.yaml"
    keys = f"proxy: '{tmp_path}/my proxy', token: '{tmp_path}/token', before: '{tmp_path}/before.sh', "
    path.write_text(path.read_text().replace("submit: {", f"submit: {{{keys}"))
    return read_card(path)


def submit(card: Card, action: str, *arguments: str) -> int | None:
    options = parser().parse_args([action, str(card.folder.parent / "card.yaml"), *arguments])
    return run(read_card(options.card, options.set), options)


def test_copies_are_for_their_owner_alone_and_jobs_find_them(credentialed, commands, tmp_path):
    before = os.umask(0)
    try:
        submit(credentialed, "jobs", "--backend", "condor", "--no-submit")
    finally:
        os.umask(before)
    job = read_job_folder(credentialed.folder / "jobs" / "analyze-0001")
    copies = {"proxy": PROXY, "token": TOKEN + "\n"}
    for name, text in copies.items():
        assert (job.path / name).read_text() == text
        assert (job.path / name).stat().st_mode & 0o777 == 0o600
    others = [path for path in job.path.rglob("*") if path.is_file() and path.name not in copies]
    assert not [path for path in others if any(secret in path.read_text() for secret in (TOKEN, "c2VjcmV0IQ=="))]
    line = next(
        line for line in (job.path / "submissions" / "001.sub").read_text().splitlines() if line.startswith("inputs")
    )
    assert line.endswith(f"{job.path}/proxy, {job.path}/token")
    settings = job.path / "settings.sh"
    settings.write_text(settings.read_text() + "python=/bin/true\n")
    command = ["bash", str(job.path / "worker.sh"), "3", str(job.path)]
    subprocess.run(command, check=False, timeout=60, env=os.environ | {"BEARER_TOKEN": "another"})
    assert (job.folder_of(3) / "said").read_text().splitlines() == [
        f"600 {job.path}/proxy",
        f"600 {job.path}/token",
        "none",
    ]


def test_a_dry_run_tells_no_secrets(credentialed):
    for backend in ("condor", "slurm", "local"):
        text = describe(credentialed, "analyze", backend)
        assert TOKEN not in text
        assert "PRIVATE" not in text
        assert "c2VjcmV0IQ==" not in text


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("my proxy", None, r"submit\.proxy: .*my proxy: can't be read .*No such file.*voms-proxy-init"),
        ("token", None, r"submit\.token: .*token: can't be read .*No such file.*get a new one"),
        ("my proxy", LONG, "no private key in it"),
        ("my proxy", KEY, "no certificate in it"),
        ("my proxy", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" + KEY, "damaged"),
        ("token", " \n", "no token in it"),
        ("token", "two words", "no token in it"),
        ("token", "a.b.c", "not a JSON web token"),
        ("token", token({"exp": 1_000_000_000}), r"expired at 2001-09-09 01:46 UTC; get a new one"),
    ],
)
def test_what_is_of_no_use_is_refused_before_anything_is_submitted(
    credentialed, commands, tmp_path, name, text, words
):
    (tmp_path / name).unlink()
    if text is not None:
        (tmp_path / name).write_text(text)
    for action in ("jobs", "chain"):
        with pytest.raises(FileError, match=words):
            submit(credentialed, action, "--backend", "slurm")
    with pytest.raises(FileError, match=words):
        submit(credentialed, "jobs", "--backend", "condor", "--dry-run")
    assert list(credentialed.folder.glob("jobs/*")) == []
    assert not calls(tmp_path, "sbatch")


def test_proxies_that_end_too_soon(credentialed, monkeypatch, tmp_path, caplog):
    at(monkeypatch, LATE - timedelta(minutes=31), credentials)
    credentials.ship_credentials(credentialed, "analyze", tmp_path)
    assert not caplog.messages
    at(monkeypatch, LATE - timedelta(minutes=29), credentials)
    credentials.ship_credentials(credentialed, "analyze", tmp_path)
    assert len(caplog.messages) == 2
    assert "holds until 2081-08-27 03:21 UTC, and jobs may run for 30 minutes" in caplog.messages[0]
    at(monkeypatch, LATE, credentials)
    with pytest.raises(FileError, match=r"submit\.proxy: .* expired at 2081-08-27 03:21 UTC; make one with voms"):
        credentials.check_credentials(credentialed)


@pytest.mark.parametrize("text", ["MDAxMmxvY2F0aW9uCg==", token({"sub": "me"})], ids=["macaroon", "without end"])
def test_tokens_that_do_not_say_when_they_end(credentialed, tmp_path, text, caplog):
    (tmp_path / "token").write_text(text)
    credentials.ship_credentials(credentialed, "analyze", tmp_path)
    assert not caplog.messages


def test_a_retry_brings_new_ones_or_submits_nothing(credentialed, commands, monkeypatch, tmp_path):
    commands("sbatch", "echo 7")
    submit(credentialed, "jobs", "--backend", "slurm")
    folder = credentialed.folder / "jobs" / "analyze-0001"
    new = token({"exp": LATE.timestamp(), "new": True})
    (tmp_path / "token").write_text(new)
    submit(credentialed, "retry", "--dry-run")
    assert (folder / "token").read_text() == TOKEN + "\n"
    submit(credentialed, "retry")
    assert (folder / "token").read_text() == new
    assert (folder / "token").stat().st_mode & 0o777 == 0o600
    asked = calls(tmp_path, "sbatch")
    at(monkeypatch, datetime(2090, 1, 1, tzinfo=timezone.utc), credentials)
    with pytest.raises(FileError, match="expired"):
        submit(credentialed, "retry")
    assert calls(tmp_path, "sbatch") == asked
    assert (folder / "token").read_text() == new


def test_two_proxies_are_refused(credentialed, tmp_path):
    with pytest.raises(CardError, match=r"proxy: and condor\.X509UserProxy: the job would have two proxies"):
        read_card(tmp_path / "card.yaml", ["submit.condor={X509UserProxy: /tmp/x}"])
