"""The way to Kafka: what its address says, and with how much patience. Imports nothing of Kafka's.

    kafka://HOST[:PORT][,HOST[:PORT]...]/?OPTION=VALUE&...
    kafka+ssl://USER:PASSWORD@HOST:PORT/?mechanism=SCRAM-SHA-512&ca=/etc/ssl/kafka.pem

What is wrong with an address is said by the name of its part; a password is said by nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

SCHEMES: Final = ("kafka", "kafka+ssl")
PORT: Final = 9092
MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
OPTIONS: Final = ("mechanism", "ca", "cert", "key", "prefix")
FILES: Final = {
    "ca": "ssl.ca.location",
    "cert": "ssl.certificate.location",
    "key": "ssl.key.location",
}
#: Of Kafka's 249 for the name of a topic; what stands behind it needs 20.
PREFIX_CHARACTERS: Final = 200

#: The library's own are made for clusters that heal by themselves: a minute for one request.
PATIENCE: Final[Mapping[str, Any]] = {
    "socket.timeout.ms": 5_000,
    "socket.connection.setup.timeout.ms": 5_000,
    "socket.keepalive.enable": True,
    "reconnect.backoff.ms": 100,
    "reconnect.backoff.max.ms": 2_000,
    # A topic that is made, or gets more partitions, is seen so soon.
    "topic.metadata.refresh.interval.ms": 10_000,
    # What it has to tell comes as an error as well, and stands in our log then.
    "log_level": 2,
}


class BadAddress(ValueError):
    """What is wrong with an address, for the person who wrote it."""


@dataclass(frozen=True, slots=True)
class Address:
    servers: str
    #: Before the names of topics and of the group: several towers on one cluster.
    prefix: str = ""
    #: How to get in, in the words of librdkafka; with the password.
    access: Mapping[str, str] = field(default_factory=dict, repr=False)

    def client(self, **more: Any) -> dict[str, Any]:
        """The configuration of a client."""
        return {"bootstrap.servers": self.servers, **self.access, **PATIENCE, **more}


def is_kafka(url: str) -> bool:
    scheme, colon, _ = url.partition(":")
    return bool(colon) and scheme.lower() in SCHEMES


def address(url: str) -> Address:
    """What an address says, or ``BadAddress``."""
    scheme, found, rest = url.partition("://")
    if not found or scheme.lower() not in SCHEMES:
        raise BadAddress(f"its scheme must be {' or '.join(SCHEMES)}")
    rest, _, query = rest.partition("?")
    place, _, path = rest.partition("/")
    if path:
        raise BadAddress("it has a path, but the names of the topics are fixed (a prefix is an option)")
    login, at, hosts = place.rpartition("@")
    options = _options(query)
    secure = scheme.lower() == "kafka+ssl"
    access = _access(login, options, secure) if at else _no_login(options)
    protocol = ("SASL_" if at else "") + ("SSL" if secure else "PLAINTEXT")
    return Address(
        _servers(hosts),
        _prefix(options.get("prefix", "")),
        {"security.protocol": protocol, **access, **_files(options, secure)},
    )


def _options(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise BadAddress("its options must be NAME=VALUE, joined by &") from None
    for name, _ in pairs:
        if name not in OPTIONS:
            raise BadAddress(f"its option {name!r} is unknown (there are {', '.join(OPTIONS)})")
    options = dict(pairs)
    if len(options) < len(pairs):
        raise BadAddress("one of its options stands there twice")
    return options


def _servers(hosts: str) -> str:
    return ",".join(_server(host.strip()) for host in hosts.split(","))


def _server(host: str) -> str:
    name, colon, port = host.rpartition(":")
    if not colon or host.endswith("]"):
        name, port = host, str(PORT)
    if not name or any(character in name for character in " /#\\"):
        raise BadAddress("a host of it has no name that can be used")
    if ":" in name and not name.startswith("["):
        raise BadAddress(f"its host {name!r} must stand in brackets, as an address of IPv6")
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65_536:
        raise BadAddress(f"the port of its host {name!r} must be a number from 1 to 65535")
    return f"{name}:{port}"


def _no_login(options: Mapping[str, str]) -> dict[str, str]:
    if "mechanism" in options:
        raise BadAddress("its option mechanism needs USER:PASSWORD@ before the host")
    return {}


def _access(login: str, options: Mapping[str, str], secure: bool) -> dict[str, str]:
    user, colon, password = login.partition(":")
    if not user or not colon or not password:
        raise BadAddress("before its @ there must be USER:PASSWORD (percent-encode what is special)")
    mechanism = options.get("mechanism", "").upper()
    if mechanism not in MECHANISMS:
        raise BadAddress(f"with a user its option mechanism must be one of {', '.join(MECHANISMS)}")
    if mechanism == "PLAIN" and not secure:
        raise BadAddress("mechanism PLAIN would send the password for all to read: use kafka+ssl://")
    return {
        "sasl.mechanisms": mechanism,
        "sasl.username": unquote(user),
        "sasl.password": unquote(password),
    }


def _files(options: Mapping[str, str], secure: bool) -> dict[str, str]:
    named = {name: options[name] for name in FILES if name in options}
    if named and not secure:
        raise BadAddress(f"its option {min(named)} needs kafka+ssl://")
    if ("cert" in named) != ("key" in named):
        raise BadAddress("its options cert and key need each other")
    for name, path in named.items():
        _look_into(name, path)
    return {FILES[name]: path for name, path in named.items()}


def _look_into(name: str, path: str) -> None:
    try:
        Path(path).open("rb").close()
    except OSError as error:
        raise BadAddress(f"its option {name}: {path} cannot be read ({error.strerror})") from None


def _prefix(prefix: str) -> str:
    allowed: Callable[[str], bool] = lambda c: c.isascii() and (c.isalnum() or c in "._-")  # noqa: E731
    if not all(map(allowed, prefix)) or len(prefix) > PREFIX_CHARACTERS:
        raise BadAddress("its option prefix may hold letters, digits and . _ - only, 200 at most")
    return prefix
