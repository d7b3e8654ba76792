#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A latency is never another request's: gaps_test.py BIN.

Clients that wait for their answers send every request in two segments over a link that lets many of
them overtake each other, so that the kernel's programs meet the end of a head before its beginning.
Every fifth request is slow. All are counted, nothing stays in flight, and no more latencies are slow
than requests were: one that is matched to its neighbour's start would be. Exit code 77: this process
may not measure.
"""
import os
import pathlib
import socket
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "tools/bench/telemetry"))
import lossy  # noqa: E402
import machine  # noqa: E402

CONNECTIONS, REQUESTS, SLOW_EVERY = 24, 40, 5
SLOW_SECONDS = 1.0
SERVER = """
import http.server, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path == "/slow":
            time.sleep(float(sys.argv[3]))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 64
Server((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
"""


def check(condition, what):
    if not condition:
        raise machine.Failed(what)


def talk(port, answers):
    """One connection; a head is cut in the middle of its first line."""
    with socket.create_connection((lossy.THERE, port), timeout=30) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(REQUESTS):
            path = "/slow" if i % SLOW_EVERY == SLOW_EVERY - 1 else "/fast"
            s.sendall(b"GE")
            s.sendall(f"T {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
            got = b""
            while not got.endswith(b"\r\n\r\nok"):
                more = s.recv(4096)
                check(more, "the server closed")
                got += more
            answers.append(path)


def over(bench, namespace):
    group, port = bench.cgroup("server"), machine.free_port()
    with lossy.bad_link(namespace, 0, 0.2) as did:
        server = machine.Child([sys.executable, "-c", SERVER, lossy.THERE, port, SLOW_SECONDS], cgroup=group,
                               namespace=namespace, log=bench.work / "server.log")
        try:
            machine.wait_for(lambda: machine.accepts(lossy.THERE, port), "the server listens")
            answers = []
            threads = [threading.Thread(target=talk, args=(port, answers)) for _ in range(CONNECTIONS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            row = bench.rows(group)["http1"]
        finally:
            server.stop()
    total, slow = CONNECTIONS * REQUESTS, CONNECTIONS * (REQUESTS // SLOW_EVERY)
    check(len(answers) == total and did["reordered"] > total / 20, f"the run itself: {len(answers)} answers, {did}")
    check(row["requests"] == total and row["responses"] == total and row["in_flight"] == 0, f"counts: {row}")
    doubts = bench.ctl("loss")["in_doubt"]["events"]
    check(doubts > 0, "some heads were met end first")
    first = row["latency_ns"]["first_byte"]
    check(total - doubts <= first["count"] < total, f"{first['count']} timed of {total}, {doubts} in doubt")
    histograms = bench.ctl("histogram", "/" + str(group.relative_to(bench.root)))
    buckets = next(h["first_byte"]["buckets"] for h in histograms if h["role"] == "server")
    late = sum(b["count"] for b in buckets if b["lower_ns"] >= 0.6e9 * SLOW_SECONDS)
    check(0 < late <= slow, f"{late} slow latencies of {slow} slow requests")
    print(f"{total} requests counted, {first['count']} timed, {doubts} in doubt, {late} of {slow} slow ones timed")


def run(bench):
    with machine.server_namespace() as (namespace, _, _):
        over(bench, namespace)


def main():
    if not os.path.exists("/dev/net/tun"):
        print("SKIPPED: needs /dev/net/tun")
        return 77
    return machine.measured(sys.argv[1], run)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except machine.Failed as failure:
        sys.exit(f"FAILED: {failure}")
