# SPDX-License-Identifier: Apache-2.0
"""Counted where the link loses packets and lets them overtake each other."""
import contextlib
import json
import pathlib
import subprocess
import sys

import counted
import machine
from machine import Child, Failed

HERE, THERE = "198.18.251.5", "198.18.251.6"
LINKS = [("0.1 % lost", 0.001, 0), ("1 % lost", 0.01, 0), ("1 % reordered", 0, 0.01), ("1 % both", 0.01, 0.01)]
QUICK_LINKS = LINKS[-1:]
CASES = [
    ("keep-alive", dict(connections=16, path="/", rate=2000)),
    ("pipelined x16", dict(connections=8, path="/", pipeline=16, rate=4000)),
    ("chunked both ways", dict(connections=16, path="/file/text", body=6000, chunked=True, rate=500)),
    ("close per request", dict(connections=16, path="/", close=True, rate=500)),
    ("1 MB answers", dict(connections=4, path="/big/1m")),
    ("1 MB requests", dict(connections=4, path="/", body=counted.MIB)),
]
STREAMS = [("h2, 1 stream", 1), ("h2, 10 streams", 10)]


@contextlib.contextmanager
def bad_link(namespace, loss, reorder):
    """Packets that it passed, lost and reordered, known at the end."""
    did = {}
    child = Child([sys.executable, pathlib.Path(__file__).with_name("relay.py"), namespace, HERE, THERE, loss, reorder, 1],
                  text=True, stdout=subprocess.PIPE, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        if child.process.stdout.readline().strip() != "ready":
            raise Failed(f"the lossy link: {child.process.communicate()[1].strip()[-300:]}")
        yield did
    finally:
        if child.process.poll() is None:
            out, _ = child.process.communicate("\n", timeout=30)
            did.update(json.loads(out.strip().splitlines()[-1]) if out.strip() else {})
        child.stop()


def row(bench, name, namespace, protocol, run):
    with bench.nginx(THERE, namespace) as (group, port, h2_port, _):
        client, span = run(h2_port if protocol == "http2" else port)
        kernel = bench.rows(group).get(protocol, {})
    result = counted.row(name, client.get("rate", 0), protocol, client, kernel, span)
    timed = kernel.get("latency_ns", {}).get("first_byte", {}).get("count", 0)
    return {**result, "timed": round(timed / client["answered"], 5) if client["answered"] else None}


def load(bench, options, seconds):
    def run(port):
        client = bench.load(THERE, port, cgroup=bench.cgroup("client"), seconds=seconds, **options)
        return {**client, "rate": options.get("rate", 0)}, client["seconds"]
    return run


def streams(bench, count, seconds):
    return lambda port: counted.h2load(bench, port, count, [], 1000, seconds, address=THERE)


def run(bench, seconds, quick, say):
    rows = []
    with machine.server_namespace() as (namespace, _, _):
        for link, loss, reorder in QUICK_LINKS if quick else LINKS:
            with bad_link(namespace, loss, reorder) as did:
                mine = [row(bench, f"{name}, {link}", namespace, "http1", load(bench, options, seconds))
                        for name, options in CASES]
                mine += [row(bench, f"{name}, {link}", namespace, "http2", streams(bench, count, seconds))
                         for name, count in STREAMS]
            for each in mine:
                each["link"] = dict(did)
                say(each)
            rows += mine
    return rows
