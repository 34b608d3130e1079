"""The address that a server listens on, and the files that it may have open: what comes before the first client. No
HTTP is spoken here."""

from __future__ import annotations

import errno
import ipaddress
import resource
import socket
import time

from decoupled.core import limits
from decoupled.server.options import Options

OTHER_FILES = 192  # that a process has open or may open: the database, two for each worker, logs
FEWEST_CLIENTS = 32  # at once, that are worth serving
LOOK_AGAIN_S = 0.02  # whether an address is free by now


def bind(host: str, port: int) -> socket.socket:
    """A socket that has the address, and does not listen yet. Raises ValueError naming why it cannot be had."""
    until = time.monotonic() + limits.ADDRESS_WAIT_S
    while True:
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # of a server that has just ended
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # connections inherit it
            listener.bind((host, port))
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE or time.monotonic() > until:
                raise _taken(host, port, error) from error
            time.sleep(LOOK_AGAIN_S)
        else:
            listener.setblocking(False)
            return listener


def refuse_strangers(listener: socket.socket, options: Options) -> None:
    """Raises ValueError where others than this machine's users could come, and nobody would ask who they are: unless
    that is meant."""
    address = str(listener.getsockname()[0])
    anybody = options.auth == ("none",) and not options.insecure
    if anybody and not ipaddress.ip_address(address.partition("%")[0]).is_loopback:
        raise ValueError(
            f"others can reach {address}, and nobody would ask who they are: ask for API keys (--auth keys), or say"
            " --insecure if a proxy or a firewall sees to it"
        )


def listen(listener: socket.socket) -> None:
    """From now on clients can connect; they wait until they are let in. Raises ValueError when somebody else listens on
    the address by now."""
    try:
        listener.listen(limits.MAX_CLIENTS)
    except OSError as error:
        host, port = listener.getsockname()[:2]
        raise _taken(host, port, error) from error


def _taken(host: str, port: int, error: OSError) -> ValueError:
    return ValueError(f"cannot listen on {host}:{port}: {error.strerror}")


def raise_file_limit() -> None:
    """Of files that the process may have open: as far as it goes. Raises ValueError where that is too few to serve."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.MAX_CLIENTS + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        if soft < FEWEST_CLIENTS + OTHER_FILES:
            raise ValueError(
                f"only {soft} files may be open at once, and {FEWEST_CLIENTS + OTHER_FILES} are needed:"
                " raise the limit (ulimit -n)"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def places(processes: int = 1) -> int:
    """For clients, of each of so many processes that have some, within the number of files that one may open."""
    most = limits.MAX_CLIENTS // processes
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most if soft == resource.RLIM_INFINITY else min(most, soft - OTHER_FILES)
