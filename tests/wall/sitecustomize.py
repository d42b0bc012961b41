"""What Python runs at its start where this folder is on its path: no connection and no look-up leaves the machine.

Each that was tried is refused, and noted in the file that ``WALL_LOG`` names. Sockets of C libraries that do not go
through Python's are not seen.
"""

import json
import os
import socket
import traceback


def own_address():
    """The machine's own, by which Ray's processes find each other; to connect a datagram socket sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("10.255.255.255", 1))
        except OSError:
            return "127.0.0.1"
        return probe.getsockname()[0]


HERE = ("127.", "localhost", "::1", "0.0.0.0", "::ffff:127.", own_address())
OUT_OF_REACH = 101  # ENETUNREACH


def outside(host):
    host = host.decode() if isinstance(host, bytes) else host
    return host is not None and host != "" and not str(host).startswith(HERE)


def refuse(what, host):
    with open(os.environ["WALL_LOG"], "a") as log:
        log.write(json.dumps([what, str(host), traceback.format_stack()]) + "\n")
    raise OSError(OUT_OF_REACH, "the network is out of reach in this test")


def walled(owner, name, host_of):
    known = getattr(owner, name)

    def call(*args, **options):
        host = host_of(args, options)
        return refuse(name, host) if outside(host) else known(*args, **options)

    setattr(owner, name, call)


def of_address(args, options):
    sock, address = args[0], args[-1]
    if sock.type == socket.SOCK_DGRAM and len(args) == 2:  # connect, not sendto
        return None
    return address[0] if isinstance(address, tuple) else None  # of a Unix socket


for method in ("connect", "connect_ex", "sendto"):
    walled(socket.socket, method, of_address)
for function in ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr"):
    walled(socket, function, lambda args, options: args[0] if args else options.get("host"))
