# SPDX-License-Identifier: Apache-2.0
"""Small pods: a process in a cgroup of its own that serves and calls itself over loopback."""
import contextlib
import os
import signal
import socket
import time

REQUEST = b"GET /item/%d HTTP/1.1\r\nHost: pod\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CLIENT_HELLO = b"\x16\x03\x01\x00\x10" + b"\x01" * 16  # enough of a TLS record to be told by


def receive(connection, end):
    got = b""
    while not got.endswith(end):
        more = connection.recv(4096)
        if not more:
            raise OSError("closed")
        got += more


def exchange(client, server, number):
    client.sendall(REQUEST % number)
    receive(server, b"\r\n\r\n")
    server.sendall(ANSWER)
    receive(client, ANSWER[-6:])


def live(seconds, connections, every):
    """One request on each connection; then, where `every` is given, one in so many seconds on one of
    them. One connection speaks TLS, one ends with a request outstanding."""
    end = time.monotonic() + seconds
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(connections)
        pairs = []
        for number in range(connections):
            client = socket.create_connection(listener.getsockname(), timeout=30)
            server, _ = listener.accept()
            server.settimeout(30)
            pairs.append((client, server))
            if number == 0:
                client.sendall(CLIENT_HELLO)
            else:
                exchange(client, server, number)
        turn = 1
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, every or left))
            if every:
                exchange(*pairs[turn % (connections - 1) + 1], turn)
                turn += 1
        pairs[-1][0].sendall(REQUEST % 0)
        for pair in pairs:
            for each in pair:
                each.close()


class Nursery:
    """Pods below one cgroup. `failed` counts those that did not do what they should."""

    def __init__(self, folder):
        self.folder, self.alive, self.gone = folder, {}, []
        self.born = self.connections = self.failed = 0
        self.start = time.monotonic()

    def bear(self, seconds, connections=10, every=0):
        group = self.folder / f"pod-{self.born}"
        group.mkdir()
        self.born += 1
        self.connections += connections
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                (group / "cgroup.procs").write_text(str(os.getpid()))
                live(seconds, connections, every)
                code = 0
            finally:
                os._exit(code)
        self.alive[pid] = group

    def reap(self):
        for pid in list(self.alive):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                self.failed += status != 0
                self.gone.append(self.alive.pop(pid))
        for group in list(self.gone):
            with contextlib.suppress(OSError):
                group.rmdir()
                self.gone.remove(group)

    def turn(self, each_second, seconds):
        """As many as are due by now."""
        while self.born < (time.monotonic() - self.start) * each_second:
            self.bear(seconds)
        self.reap()

    def close(self):
        for pid in self.alive:
            os.kill(pid, signal.SIGTERM)
        for pid, group in self.alive.items():
            os.waitpid(pid, 0)
            self.gone.append(group)
        self.alive = {}
        for _ in range(100):
            self.reap()
            if not self.gone:
                return
            time.sleep(0.05)
