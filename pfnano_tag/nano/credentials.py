"""Grid proxy and token: whether they are there, and until when they hold, to say why a server refuses access."""

from __future__ import annotations

import base64
import binascii
import json
import os
import ssl
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


def state() -> str:
    """Return one sentence on the grid proxy and the token that this process would show to a server."""
    return f"{_proxy()}; {_token()}"


def proxy_path() -> Path:
    """Return where the grid proxy lies: X509_USER_PROXY, else the file that voms-proxy-init writes."""
    stated = os.environ.get("X509_USER_PROXY")
    return Path(stated) if stated else Path("/", "tmp", f"x509up_u{os.getuid()}")


def _proxy() -> str:
    path = proxy_path()
    advice = "make one with voms-proxy-init"
    try:
        ends = expiry_of_certificates(path.read_text(encoding="ascii", errors="replace"))
    except OSError as error:
        return f"no grid proxy: {path}: {error.strerror} ({advice}; X509_USER_PROXY names another file)"
    except ValueError as error:
        return f"the grid proxy {path} can't be read: {error} ({advice})"
    return _until(f"the grid proxy {path}", ends, advice)


def _token() -> str:
    found = _stated_token()
    if found is None:
        return "no token (BEARER_TOKEN, BEARER_TOKEN_FILE)"
    where, token = found
    try:
        ends = expiry_of_token(token)
    except ValueError as error:
        return f"the token of {where} can't be read: {error}"
    return _until(f"the token of {where}", ends, "get a new one") if ends else f"the token of {where} has no end"


def _stated_token() -> tuple[str, str] | None:
    """Return where the token comes from and the token, by the WLCG's rules of discovery; None without."""
    if os.environ.get("BEARER_TOKEN"):
        return "BEARER_TOKEN", os.environ["BEARER_TOKEN"]
    name = f"bt_u{os.getuid()}"
    places = [os.environ.get("BEARER_TOKEN_FILE"), Path(os.environ.get("XDG_RUNTIME_DIR", "/nonexistent"), name)]
    for place in (Path(place) for place in (*places, Path("/", "tmp", name)) if place):
        try:
            return str(place), place.read_text(encoding="ascii", errors="replace").strip()
        except OSError:
            continue
    return None


def _until(what: str, ends: datetime, advice: str) -> str:
    word = "expired" if ends <= datetime.now(timezone.utc) else "holds until"
    return f"{what} {word} {'at ' if word == 'expired' else ''}{ends:%Y-%m-%d %H:%M} UTC" + (
        f" ({advice})" if word == "expired" else ""
    )


def expiry_of_token(token: str) -> datetime | None:
    """Return when a JSON web token expires; None when it says nothing of that.

    Raises
    ------
    ValueError
        When it is no such token.
    """
    parts = token.split(".")
    if len(parts) != 3:
        raise ValueError("not a JSON web token")
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        ends = claims.get("exp")
        return None if ends is None else datetime.fromtimestamp(float(ends), timezone.utc)
    except (binascii.Error, AttributeError, TypeError, OverflowError, ValueError) as error:
        raise ValueError("not a JSON web token") from error


def expiry_of_certificates(text: str) -> datetime:
    """Return when the first of the certificates of a PEM file expires.

    Raises
    ------
    ValueError
        When there is none, or one can't be read.
    """
    ends = [_not_after(ssl.PEM_cert_to_DER_cert(block)) for block in _blocks(text)]
    if not ends:
        raise ValueError("no certificate in it")
    return min(ends)


def _blocks(text: str) -> Iterator[str]:
    for block in text.split(_BEGIN)[1:]:
        yield f"{_BEGIN}{block.partition(_END)[0]}{_END}"


def _not_after(certificate: bytes) -> datetime:
    """Return a certificate's end, from its DER form (RFC 5280, section 4.1: tbsCertificate.validity.notAfter)."""
    try:
        to_be_signed = next(_elements(next(_elements(certificate))[1]))[1]
        parts = [(tag, content) for tag, content in _elements(to_be_signed) if tag != 0xA0]  # all but the version
        _, (tag, stamp) = _elements(parts[3][1])  # serial number, algorithm, issuer, validity
        text = stamp.decode("ascii")
        if tag == 0x17:  # UTCTime has two digits of the year: 1950 to 2049
            text = ("19" if text[:2] >= "50" else "20") + text
        return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=timezone.utc)
    except (IndexError, StopIteration, ValueError) as error:
        raise ValueError("a certificate in it is damaged") from error


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of the DER elements that follow each other."""
    at = 0
    while at < len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length >= 0x80:
            digits = length - 0x80
            length, at = int.from_bytes(data[at : at + digits], "big"), at + digits
        yield tag, data[at : at + length]
        at += length
