"""Who may come in: by which name the server was called, from whose page, with which password, from which address."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import secrets
import time
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers

NETWORK = 64  # bits: who has one address of IPv6 has all that share these
WRONG, WAIT = 10, 600  # passwords that one address may have wrong, within so many seconds


def visitor_at(host: str) -> str:
    """Whom an address stands for: itself, or its network with IPv6."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.version == 4:
        return host
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address), NETWORK), strict=False))


class Names:
    """What this server is called, and whether a request comes from a page of its own.

    A page of another site could have this server do work, or read what it tells to those who are near it, with the
    visitor's browser as its hand: by asking at once, or after it had its own name point here (DNS rebinding).

    Args:
        known: names that it may be called besides addresses and ``localhost``; None is any.
        outside: ``host:port`` of the page's address where a proxy serves it, as browsers know it.
    """

    def __init__(self, known: Iterable[str] | None, outside: str = "") -> None:
        self.known = None if known is None else frozenset(known)
        self.outside = outside

    @classmethod
    def of(cls, host: str, *, root_path: str = "", anybody: bool = False) -> Names:
        """Of a server that listens at ``host``: any name, unless it listens to its own machine alone.

        Args:
            root_path: if it is a whole address, its name is known.
            anybody: it is served to others by what stands before it, under names of theirs.
        """
        outside = urlsplit(root_path)
        if anybody or not means_here(host):
            return cls(None, outside.netloc)
        return cls({host, outside.hostname or host}, outside.netloc)

    def refusal(self, method: str, headers: Headers) -> str | None:
        """Why a request is not let in, if so."""
        called = headers.get("host", "")
        name = urlsplit(f"//{called}").hostname or "" if _plain(called) else ""
        if self.known is not None and not (name in self.known or means_here(name) or _is_address(name)):
            return (
                "this server is for its own machine, and goes by no such name; behind a proxy, start it with "
                "--root-path https://NAME"
            )
        site = headers.get("sec-fetch-site")
        if site is not None:  # of browsers that know where a request comes from, and of no script
            visits = method in ("GET", "HEAD") and headers.get("sec-fetch-mode") == "navigate"
            foreign = site not in ("same-origin", "none") and not visits
        else:
            origin = headers.get("origin")
            ours = {called, headers.get("x-forwarded-host", ""), self.outside} - {""}
            foreign = origin is not None and origin.partition("://")[2] not in ours
        if foreign:
            return "this server answers no pages of other sites; behind a proxy, start it with --root-path http://NAME"
        return None


class Door:
    """HTTP's basic authentication, which guards every address alike, and is bounded against guessing.

    Args:
        auth: ``NAME:PASSWORD``.
        clock: s.
    """

    ASKS = {"www-authenticate": 'Basic realm="bind2gen", charset="UTF-8"'}
    WORDS = {
        401: "wanted the name and password that this server was started with",
        429: f"too many wrong passwords from this address; try again in {WAIT // 60} minutes",
    }

    def __init__(self, auth: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.auth, self.clock = auth.encode(), clock
        self._wrong: dict[str, list[float]] = {}  # visitor -> when

    def refusal(self, visitor: str, header: str | None) -> int | None:
        """401 without the right password; 429, even with it, after too many wrong ones; None if it may pass."""
        if header is None:
            return 401
        since = self.clock() - WAIT
        self._wrong = {who: late for who, times in self._wrong.items() if (late := [t for t in times if t > since])}
        wrong = self._wrong.get(visitor, [])
        if len(wrong) >= WRONG:
            return 429
        if secrets.compare_digest(_credentials(header), self.auth):
            return None
        self._wrong[visitor] = [*wrong, self.clock()]
        return 401


def means_here(host: str) -> bool:
    """Whether a name or an address is that of this machine for itself."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _plain(called: str) -> bool:
    return not set(called) & set("/?#@\\ ")


def _credentials(header: str) -> bytes:
    scheme, _, value = header.partition(" ")
    if scheme.lower() != "basic":
        return b""
    try:
        return base64.b64decode(value.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""
