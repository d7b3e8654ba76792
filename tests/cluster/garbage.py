#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""garbage.py IP:PORT CA TOKEN: 300 connections to ballast-global with a token that holds, and bytes that mean nothing:
half of them no HTTP/2, half of them calls whose messages announce a gigabyte, or are random."""
import os
import random
import socket
import ssl
import sys

address, authority, token = sys.argv[1], sys.argv[2], open(sys.argv[3]).read().strip()
context = ssl.create_default_context(cafile=authority)
context.check_hostname = False
context.set_alpn_protocols(['h2'])
random.seed(1)


def frame(kind, flags, stream, payload):
    return len(payload).to_bytes(3, 'big') + bytes([kind, flags]) + stream.to_bytes(4, 'big') + payload


def literal(name, value):
    def text(s):
        n = len(s)
        # HPACK's integer of seven bits.
        head = bytes([n]) if n < 127 else b'\x7f' + (bytes([(n - 127) % 128 | 128]) + bytes([(n - 127) // 128]))
        return head + s.encode()
    return b'\x00' + text(name) + text(value)


def call(method):
    return (b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n' + frame(4, 0, 0, b'') + frame(1, 4, 1, b''.join(
        literal(k, v) for k, v in ((':method', 'POST'), (':scheme', 'https'), (':path', method), (':authority', 'global'),
                                   ('te', 'trailers'), ('content-type', 'application/grpc'),
                                   ('authorization', f'Bearer {token}')))))


ended = 0
links = []
for i in range(300):
    host, port = address.split(':')
    link = context.wrap_socket(socket.create_connection((host, int(port)), timeout=10), server_hostname='ballast-global')
    try:
        if i % 2:
            link.sendall(os.urandom(100_000))
        else:
            path = random.choice(('/ballast.sync.v1.Fleet/Report', '/ballast.sync.v1.GlobalNetwork/Sync'))
            length = random.choice((1 << 30, 5000))
            link.sendall(call(path) + frame(0, 0, 1, b'\0' + length.to_bytes(4, 'big') + os.urandom(8000)))
    except OSError:
        ended += 1  # closed while we spoke
    links.append(link)
print(f'{len(links)} connections, {ended} closed while they spoke')
