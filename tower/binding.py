"""The address that people reach the tower at: what may be bound, and why not."""

from __future__ import annotations

import os
import socket
from ipaddress import ip_address

from django.conf import settings

SHORTEST_KEY = 50


class Refused(Exception):
    """One sentence for who starts the tower."""


def parsed(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535 or not host:
        raise Refused(f"The address to listen at is HOST:PORT, such as 127.0.0.1:8000, not {text!r}.")
    return host.strip("[]"), int(port)


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def judge(host: str) -> None:
    """Refuse to be reachable by others with settings that were meant for this machine alone."""
    if is_loopback(host):
        return
    given = [name for name in os.environ.get("ALLOWED_HOSTS", "").split(",") if name]
    if not given or "*" in given:
        raise Refused(
            f"Listening at {host} lets other machines in: name the hosts that people will type in"
            " ALLOWED_HOSTS (separated by commas, no *)."
        )
    key = settings.SECRET_KEY
    if len(key) < SHORTEST_KEY or len(set(key)) < 10 or key.startswith("django-insecure-"):
        raise Refused(
            f"Listening at {host} needs a strong SECRET_KEY: leave it unset to have one made,"
            f" or set {SHORTEST_KEY} random characters."
        )
    if settings.DEBUG:
        raise Refused(f"Listening at {host} with DEBUG on would show other machines our code and settings.")


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket that listens; refused where the address is taken or is none of this machine's."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        # Connections of a server that is gone stay in the kernel and would keep its port for a minute.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        # Before the web process is there, and while it is restarted, the kernel lets people wait.
        listening.listen(1024)
    except OSError as error:
        raise Refused(f"Cannot listen at {shown(host, port)}: {reason(error)}.") from error
    return listening


def reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return "no such host"
    return (os.strerror(error.errno) if error.errno else str(error)).lower()


def shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
