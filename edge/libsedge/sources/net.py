"""Addresses. Nothing but loopback is bound or asked, unless the other side has to prove itself (`sources.tls`), or
every frame does (`frame_key`)."""

from __future__ import annotations

import ipaddress
import re

from libsedge.errors import ConfigError

_HOST = re.compile(r"(localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[::1\])(:\d{1,5})?", re.ASCII | re.IGNORECASE)


def is_loopback_host(header: str) -> bool:
    """Whether an HTTP Host header names this machine itself, with or without a port."""
    return _HOST.fullmatch(header) is not None


def is_loopback(host: str) -> bool:
    """Whether `host` is `localhost` or a loopback address."""
    try:
        return ipaddress.ip_address("127.0.0.1" if host == "localhost" else host).is_loopback
    except ValueError:
        return False


def check_loopback(host: str) -> None:
    """ConfigError unless `host` is `localhost` or a loopback address."""
    if not is_loopback(host):
        raise ConfigError(
            "without an authentication (mutual TLS: --tls-cert, --tls-key, --tls-ca; for tcp and the live page; signed "
            "frames: --hmac-key; for udp, ccsds:udp and zmq) only a loopback address such as 127.0.0.1 is used",
            field="host",
            value=host,
        )


def check_host(host: str, *, authenticated: bool) -> None:
    """ConfigError for an address that is not loopback, unless the peers are `authenticated`; then for a name."""
    if not authenticated:
        check_loopback(host)
        return
    try:
        ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise ConfigError("must be an IP address", field="host", value=host) from None


def check_port(port: int, *, free: bool = True) -> None:
    """ConfigError unless `port` is 0 (`free`: take any that is free) or 1 to 65535."""
    if not (0 if free else 1) <= port <= 65535:
        raise ConfigError(f"must be {0 if free else 1} to 65535", field="port", value=port)


def parse_address(argument: str, *, free: bool = True, authenticated: bool = False) -> tuple[str, int]:
    """`PORT`, `HOST:PORT` or `[IPV6]:PORT` as (host, port); the host is a loopback address unless the peers are
    `authenticated`, and 127.0.0.1 where it is left out."""
    host, _, port = argument.rpartition(":")
    if not port.isascii() or not port.isdigit() or len(port) > 5:
        raise ConfigError("must be a number of 0 to 65535", field="port", value=port)
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    check_host(host, authenticated=authenticated)
    check_port(int(port), free=free)
    return host, int(port)


def show_address(host: str, port: int) -> str:
    """`HOST:PORT`, with the brackets of an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
