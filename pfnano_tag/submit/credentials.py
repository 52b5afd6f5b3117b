"""Grid proxy and token that jobs take along: looked at first, and copied for their owner's eyes alone."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

from pfnano_tag.card.card import Card
from pfnano_tag.errors import FileError
from pfnano_tag.nano.credentials import expiry_of_certificates, expiry_of_token

log = logging.getLogger(__name__)

NAMES = ("proxy", "token")
"""Keys of section `submit`, and names in a job folder, where the worker script finds them."""
ADVICE = {"proxy": "make one with voms-proxy-init", "token": "get a new one"}


def check_credentials(card: Card) -> None:
    """Refuse a proxy or token that would be of no use to any job.

    Raises
    ------
    FileError
        When one can't be read, is none, or has expired.
    """
    for name, content in _contents(card):
        ends = _end(card, name, content)
        if ends is not None and ends <= datetime.now(timezone.utc):
            raise FileError(f"{_called(card, name)}: expired at {ends:%Y-%m-%d %H:%M} UTC; {ADVICE[name]}")


def ship_credentials(card: Card, stage: str, folder: Path) -> None:
    """Copy proxy and token into a job folder, in place of those that are there; nobody but the owner can read them.

    Parameters
    ----------
    card : Card
        Whose section `submit` names them.
    stage : str
        What the jobs do, which says how long they may run.
    folder : Path
        Job folder.

    Raises
    ------
    FileError
        As `check_credentials`.
    """
    check_credentials(card)
    minutes = card.submit.slot(stage).time or card.submit.time
    needed = datetime.now(timezone.utc) + timedelta(minutes=minutes)
    for name, content in _contents(card):
        ends = _end(card, name, content)
        if ends is not None and ends < needed:
            log.warning(
                "%s: holds until %s UTC, and jobs may run for %d minutes once they start; %s",
                *(_called(card, name), f"{ends:%Y-%m-%d %H:%M}", minutes, ADVICE[name]),
            )
        handle, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder)  # of mode 600 from the start
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).replace(folder / name)


def shipped(folder: Path) -> list[Path]:
    """Return the credentials that a job folder holds."""
    return [folder / name for name in NAMES if (folder / name).is_file()]


def _contents(card: Card) -> Iterator[tuple[str, bytes]]:
    for name in NAMES:
        path = getattr(card.submit, name)
        if path is not None:
            try:
                yield name, Path(path).expanduser().read_bytes()
            except OSError as error:
                raise FileError(
                    f"{_called(card, name)}: can't be read (seen from {Path.cwd()}): {error.strerror}; {ADVICE[name]}"
                ) from error


def _end(card: Card, name: str, content: bytes) -> datetime | None:
    """Return when a credential expires; None when it does not say."""
    text = content.decode("ascii", "replace")
    try:
        if name == "token":
            return _end_of_token(text.strip())
        if "PRIVATE KEY-----" not in text:
            raise ValueError("no private key in it, expected a proxy, with certificate and key")
        return expiry_of_certificates(text)
    except ValueError as error:
        raise FileError(f"{_called(card, name)}: {error}; {ADVICE[name]}") from error


def _end_of_token(text: str) -> datetime | None:
    """Return when a token expires; None for a kind (macaroons) that is no JSON web token.

    Raises
    ------
    ValueError
        When it can be no token: RFC 6750, section 2.1.
    """
    if not text or any(sign.isspace() or not sign.isprintable() for sign in text):
        raise ValueError("no token in it, expected one word")
    return expiry_of_token(text) if text.count(".") == 2 else None


def _called(card: Card, name: str) -> str:
    return f"submit.{name}: {getattr(card.submit, name)}"
