"""Addresses on this machine. Frames carry no authentication yet, so nothing but loopback is bound or asked."""

from __future__ import annotations

import ipaddress

from libsedge.errors import ConfigError


def check_loopback(host: str) -> None:
    """ConfigError unless `host` is `localhost` or a loopback address."""
    try:
        loopback = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ConfigError(
            "frames carry no authentication yet, so only a loopback address such as 127.0.0.1 is used",
            field="host",
            value=host,
        )


def check_port(port: int, *, free: bool = True) -> None:
    """ConfigError unless `port` is 0 (`free`: take any that is free) or 1 to 65535."""
    if not (0 if free else 1) <= port <= 65535:
        raise ConfigError(f"must be {0 if free else 1} to 65535", field="port", value=port)


def parse_address(argument: str, *, free: bool = True) -> tuple[str, int]:
    """`PORT`, `HOST:PORT` or `[IPV6]:PORT` as (host, port); the host is a loopback address, 127.0.0.1 where
    it is left out."""
    host, _, port = argument.rpartition(":")
    if not port.isascii() or not port.isdigit() or len(port) > 5:
        raise ConfigError("must be a number of 0 to 65535", field="port", value=port)
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    check_loopback(host)
    check_port(int(port), free=free)
    return host, int(port)


def show_address(host: str, port: int) -> str:
    """`HOST:PORT`, with the brackets of an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
