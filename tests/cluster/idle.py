#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""idle.py COUNT: so many connections to itself that sent an HTTP/2 preface and stay silent, until standard input ends.
Says "there" once all are."""
import os
import resource
import socket
import sys

PREFACE = b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n' + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


def hold(count, address, ready):
    held = []
    with socket.socket() as listener:
        listener.bind((address, 0))
        listener.listen(64)
        for _ in range(count):
            client = socket.create_connection(listener.getsockname())
            held += [client, listener.accept()[0]]
            client.sendall(PREFACE)
    os.write(ready, b'1')
    sys.stdin.read()


count = int(sys.argv[1])
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
# As many processes as open files ask for, each on an address of its own: of one there are 28,000 ports.
each = min(10_000, (hard - 64) // 2)
there, ready = os.pipe()
shares = [min(each, count - first) for first in range(0, count, each)]
for number, share in enumerate(shares):
    if os.fork() == 0:
        hold(share, f'127.0.1.{1 + number}', ready)
        os._exit(0)
os.close(ready)
for _ in shares:
    if not os.read(there, 1):
        sys.exit('the connections could not be made')
print('there', flush=True)
for _ in shares:
    os.wait()
