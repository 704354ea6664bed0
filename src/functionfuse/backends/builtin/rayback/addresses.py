"""Addresses of clusters: check that Ray answers, and compare two of them."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Final

from functionfuse.errors import EngineError

__all__ = ["check_ray_answers", "same_cluster"]

_TIMEOUT: Final = 10.0  # seconds for a connection, and again for the first bytes
#: How a client of HTTP/2 starts, as in RFC 9113: both kinds of Ray's servers speak gRPC, which is built on it.
_HTTP2_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS: Final = bytes([4, 0, 0, 0, 0, 0])  # in the head of the first frame, after its length


def check_ray_answers(address: str, *, encrypted: bool) -> None:
    """Check within seconds that Ray answers: Ray itself tries for minutes, and may then end the process.

    Args:
        address: The address for `ray.init`; without host and port it is not checked.
        encrypted: The server uses TLS: only check that it accepts connections.

    Raises:
        EngineError: No process listens there, or one that is not Ray.
    """
    host_and_port = _host_and_port(address)
    if host_and_port is None:
        return
    try:
        connection = socket.create_connection(host_and_port, _TIMEOUT)
    except OSError as error:
        message = (
            f"no process listens at the address of the Ray cluster, {address!r} ({error}): "
            "check ray_init_args={'address': ...} or the environment's RAY_ADDRESS, and that the cluster is up; "
            "without an address RayWorkflow starts Ray on this machine"
        )
        raise EngineError(message) from error
    with connection:
        if encrypted or _speaks_grpc(connection):
            return
    message = (
        f"a process listens at the address of the Ray cluster, {address!r}, but does not answer as Ray does: "
        "check the port (a cluster itself has 6379, its server for 'ray://' 10001, if nothing else was chosen), "
        "and that the cluster is up; one with TLS requires RAY_USE_TLS=1 in the environment"
    )
    raise EngineError(message)


def _host_and_port(address: str) -> tuple[str, int] | None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or "://" in host or not port.isdecimal():
        return None  # "local", "auto" and the like
    return host.strip("[]"), int(port)


def _speaks_grpc(connection: socket.socket) -> bool:
    with suppress(OSError), connection.makefile("rb") as answer:
        connection.sendall(_HTTP2_PREFACE)
        return answer.read(9)[3:] == _SETTINGS
    return False


def same_cluster(address: str, cluster: str) -> bool:
    """Tell whether an address is that of a cluster; True for addresses without a host.

    Args:
        address: An address for `ray.init`; of one for Ray's client only the host is compared.
        cluster: Host and port of the cluster itself.
    """
    one, other = _host_and_port(address), _host_and_port(cluster)
    if one is None or other is None:
        return True
    ports_differ = not address.startswith("ray://") and one[1] != other[1]
    return not ports_differ and bool(_hosts(one[0]) & _hosts(other[0]))


def _hosts(name: str) -> set[str]:
    """The addresses of a host name; all addresses of this machine count as one."""
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(name, None)}
    except OSError:
        return {name}
    return {"this machine" if _is_local(host) else host for host in found}


def _is_local(host: str) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as own:
        own.bind((host, 0))  # a process cannot bind an address of another machine
        return True
    return False
