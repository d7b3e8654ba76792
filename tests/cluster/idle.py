#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""idle.py COUNT: so many connections to itself that sent an HTTP/2 preface and stay silent, until standard input ends.
Says "there" once all are."""
import resource
import socket
import sys

PREFACE = b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n' + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])

count = int(sys.argv[1])
wanted = 2 * count + 64
resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
held = []
# Of one address there are 28,000 ports.
for address in range(1, 2 + (count - 1) // 10_000):
    with socket.socket() as listener:
        listener.bind((f'127.0.1.{address}', 0))
        listener.listen(64)
        for _ in range(min(10_000, count - len(held) // 2)):
            client = socket.create_connection(listener.getsockname())
            held += [client, listener.accept()[0]]
            client.sendall(PREFACE)
print('there', flush=True)
sys.stdin.read()
