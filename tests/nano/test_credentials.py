"""Grid proxies and tokens: when they end, and the words for it."""

import base64
import json
from datetime import datetime, timedelta, timezone

import pytest

from pfnano_tag.nano import credentials
from pfnano_tag.nano.credentials import expiry_of_certificates, expiry_of_token

LONG = """\
-----BEGIN CERTIFICATE-----
MIIBnzCCAUWgAwIBAgIUf4+6bpb1tLozIES95g+xcU8PBl4wCgYIKoZIzj0EAwIw
JDETMBEGCgmSJomT8ixkARkWA29yZzENMAsGA1UEAwwEbG9uZzAgFw0yNjExMjQw
MzIxMTNaGA8yMDgxMDgyNzAzMjExM1owJDETMBEGCgmSJomT8ixkARkWA29yZzEN
MAsGA1UEAwwEbG9uZzBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABFnNFD4BG4VX
j9Dc+P3yU/t7do+H7sLfO050VLPLczraVwSg305lVzUF0tph1kIORa/d82Bs6E9o
yfWiNbg2kIWjUzBRMB0GA1UdDgQWBBS+hIEg2mBUbRkE2SrWjE0UrFC9djAfBgNV
HSMEGDAWgBS+hIEg2mBUbRkE2SrWjE0UrFC9djAPBgNVHRMBAf8EBTADAQH/MAoG
CCqGSM49BAMCA0gAMEUCID1q3wCXWnxW4QyEMUT91iGfRdocREvchRw9ka+ChMez
AiEAxup3f70k/5lPdisUOzHG88Qjf38cTVCafZaU5WbfdWY=
-----END CERTIFICATE-----
"""
"""Ends 2081-08-27 03:21:13 (`openssl x509 -enddate`), after 2049: written as GeneralizedTime."""
SHORT = """\
-----BEGIN CERTIFICATE-----
MIIBoDCCAUWgAwIBAgIUCsDsqLX9HYDZKK+hkDhH2cO1TvowCgYIKoZIzj0EAwIw
JTETMBEGCgmSJomT8ixkARkWA29yZzEOMAwGA1UEAwwFc2hvcnQwHhcNMjYxMTI0
MDMyMTEzWhcNMjYxMjI0MDMyMTEzWjAlMRMwEQYKCZImiZPyLGQBGRYDb3JnMQ4w
DAYDVQQDDAVzaG9ydDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABPkWLWOMWBPt
rLjP+Dl+7kZsNvmnm+PsL1nKhuV5zol1MPeFWzVt3wHqS3C/o4J9okiwMYKSwpLN
P2Vl9vg00qSjUzBRMB0GA1UdDgQWBBTbcUbxcsR3FvfOWhhyLVGCVBAIhjAfBgNV
HSMEGDAWgBTbcUbxcsR3FvfOWhhyLVGCVBAIhjAPBgNVHRMBAf8EBTADAQH/MAoG
CCqGSM49BAMCA0kAMEYCIQDs+VvPrDgWgEOlwyAvV087TnTEP81manZU0UbnSoPu
pAIhAJzmbS1jgnt/1jdp/9OoQgwESaKlQrklkUHYXJsukUOX
-----END CERTIFICATE-----
"""
"""Ends 2026-12-24 03:21:13: written as UTCTime."""
LATE = datetime(2081, 8, 27, 3, 21, 13, tzinfo=timezone.utc)
EARLY = datetime(2026, 12, 24, 3, 21, 13, tzinfo=timezone.utc)


def token(claims):
    parts = (json.dumps(part).encode() for part in ({"alg": "none"}, claims))
    return ".".join([*(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts), "signature"])


@pytest.fixture(autouse=True)
def nothing_at_hand(tmp_path, monkeypatch):
    """No credentials but those of the test."""
    for name in ("X509_USER_PROXY", "BEARER_TOKEN", "BEARER_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(credentials.os, "getuid", lambda: 4_000_000_000)


def at(monkeypatch, now, credentials=credentials):
    """Let it be that time, for a module that asks."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return now

    monkeypatch.setattr(credentials, "datetime", Clock)


def test_the_first_end_in_a_chain_counts():
    assert expiry_of_certificates(LONG) == LATE
    assert expiry_of_certificates(SHORT) == EARLY
    key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
    assert expiry_of_certificates(LONG + key + SHORT) == EARLY


def test_what_is_no_certificate_is_said():
    with pytest.raises(ValueError, match="no certificate in it"):
        expiry_of_certificates("nothing")
    for damaged in (SHORT[:27] + SHORT[200:], SHORT.replace("MIIBoDCCAUWg", "AAAAAAAAAAAA")):
        with pytest.raises(ValueError, match=r"."):
            expiry_of_certificates(damaged)


def test_words_for_proxies(tmp_path, monkeypatch):
    assert "no grid proxy: /tmp/x509up_u4000000000: No such file" in credentials.state()
    proxy = tmp_path / "proxy.pem"
    proxy.write_text(SHORT + LONG)
    monkeypatch.setenv("X509_USER_PROXY", str(proxy))
    at(monkeypatch, EARLY - timedelta(hours=1))
    assert f"the grid proxy {proxy} holds until 2026-12-24 03:21 UTC" in credentials.state()
    at(monkeypatch, EARLY + timedelta(seconds=1))
    expected = f"the grid proxy {proxy} expired at 2026-12-24 03:21 UTC (make one with voms-proxy-init)"
    assert expected in credentials.state()
    proxy.write_text("nothing")
    assert f"the grid proxy {proxy} can't be read: no certificate in it" in credentials.state()
    proxy.unlink()
    assert f"no grid proxy: {proxy}: No such file" in credentials.state()


def test_words_for_tokens(tmp_path, monkeypatch):
    assert credentials.state().endswith("no token (BEARER_TOKEN, BEARER_TOKEN_FILE)")
    at(monkeypatch, EARLY)
    past, future = EARLY.timestamp() - 60, EARLY.timestamp() + 3600
    (tmp_path / "bt_u4000000000").write_text(token({"exp": future}) + "\n")
    assert credentials.state().endswith(f"the token of {tmp_path}/bt_u4000000000 holds until 2026-12-24 04:21 UTC")
    file = tmp_path / "token"
    file.write_text(token({"exp": past}))
    monkeypatch.setenv("BEARER_TOKEN_FILE", str(file))
    assert f"the token of {file} expired at 2026-12-24 03:20 UTC (get a new one)" in credentials.state()
    monkeypatch.setenv("BEARER_TOKEN", token({"sub": "somebody"}))
    assert credentials.state().endswith("the token of BEARER_TOKEN has no end")


@pytest.mark.parametrize("text", ["", "a.b", "a.b.c", token([]), token({"exp": "soon"}), token({"exp": 1e300})])
def test_what_is_no_token_is_said(text):
    with pytest.raises(ValueError, match="not a JSON web token"):
        expiry_of_token(text)
