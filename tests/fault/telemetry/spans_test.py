#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Three services that know nothing of tracing, one trace: spans_test.py BIN.

front calls middle, middle calls back, each a process in a cgroup of its own. ballastd samples every
request and sends spans to a collector, which is this test. One request to front has to arrive there
as one tree of six spans with the pods' names; a collector that is not there costs nothing but them.
Exit code 77: this process may not measure.
"""
import http.server
import json
import os
import pathlib
import sys
import tempfile
import threading
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "tools/bench/telemetry"))
import machine  # noqa: E402

SERVICE = """
import http.server, sys, urllib.request
port, next_port = int(sys.argv[1]), sys.argv[2]
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = b"done"
        if next_port != "-":
            body = urllib.request.urlopen(f"http://127.0.0.1:{next_port}/next/17", timeout=20).read()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def check(condition, what):
    if not condition:
        raise machine.Failed(what)


class Collector:
    """Reads OTLP over HTTP in JSON, as a collector's receiver does."""

    def __init__(self):
        collector = self
        self.spans = {}

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                check(self.path == "/v1/traces", f"asked for {self.path}")
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                for resource in body["resourceSpans"]:
                    named = {a["key"]: a["value"]["stringValue"] for a in resource["resource"]["attributes"]}
                    for span in resource["scopeSpans"][0]["spans"]:
                        collector.spans[span["spanId"]] = {**span, "service": named["service.name"]}
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def of_services(self, names):
        return [s for s in self.spans.values() if s["service"] in names]


def start_services(bench):
    names, ports = ["front", "middle", "back"], [machine.free_port() for _ in range(3)]
    children, pods = [], []
    for i, name in enumerate(names):
        group = bench.cgroup(name)
        following = str(ports[i + 1]) if i < 2 else "-"
        children.append(machine.Child([sys.executable, "-c", SERVICE, ports[i], following], cgroup=group))
        pods.append(f"  - {{cgroup: /{group.relative_to(bench.root)}, pod: {name}-0, namespace: shop, "
                    f"service: {name}, address: 127.0.0.1, port: {ports[i]}}}\n")
    for port in ports:
        machine.wait_for(lambda: machine.accepts("127.0.0.1", port), "a service listens")
    return names, ports, children, "pods:\n" + "".join(pods)


def start_ballastd(bench, pods, collector_port):
    (bench.work / "pods.yaml").write_text(pods)
    (bench.work / "ballast.yaml").write_text(
        f"bpffs: {bench.bpffs}\nidentity: static:{bench.work}/pods.yaml\ntick_ms: 100\nlog: warn\n"
        f"spans: {{every: 1, otlp: \"http://127.0.0.1:{collector_port}\"}}\n")
    bench.agent = machine.Child([bench.bin / "ballastd", "--config", bench.work / "ballast.yaml"],
                                log=bench.work / "ballastd.log")
    machine.wait_for(lambda: bench.agent.process.poll() is not None or bench.ctl("status").get("alive"), "ballastd runs")
    if bench.agent.process.poll() is not None:
        text = (bench.work / "ballastd.log").read_text()
        if bench.agent.process.returncode == 3:
            print(f"SKIPPED: {text.strip()}")
            sys.exit(77)
        raise machine.Failed(f"ballastd ended with {bench.agent.process.returncode}: {text[-500:]}")


def tree_of(spans):
    """None when these spans of the services are not the whole tree of one request."""
    by_end = {(s["service"], s["kind"]): s for s in spans}
    chain = [("back", 2), ("middle", 3), ("middle", 2), ("front", 3), ("front", 2)]
    if len(spans) != 5 or set(by_end) != set(chain):
        return None
    joined = all(by_end[child].get("parentSpanId") == by_end[parent]["spanId"] for child, parent in zip(chain, chain[1:]))
    return by_end if joined else None


def one_tree(bench, names, port, collector):
    """Asked a few times: this machine's other requests are sampled too and may push some spans out."""
    trees = []
    for _ in range(20):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/start", timeout=20).read()
        end = time.monotonic() + 5
        while time.monotonic() < end and not trees:
            traces = {}
            for span in collector.of_services(names):
                traces.setdefault(span["traceId"], []).append(span)
            trees = [tree for tree in map(tree_of, traces.values()) if tree]
            time.sleep(0.1)
        if trees:
            break
    check(trees, f"one trace is a whole tree: {collector.of_services(names)}")
    check(trees[0]["back", 2]["name"] == "GET /next/{id}", trees[0]["back", 2])
    calls = {(c["from"], c["to"]): c for c in bench.ctl("calls")}
    check(calls["shop/front-0", "shop/middle-0"]["responses"] >= 1 and ("shop/middle-0", "shop/back-0") in calls, calls)
    check(any(c["bottleneck"] for c in calls.values()), "a bottleneck is marked")


def main():
    if os.geteuid() != 0:
        print("SKIPPED: needs root (cgroups, eBPF)")
        return 77
    with tempfile.TemporaryDirectory(prefix="ballast-spans-test-") as work:
        bench, children = machine.Bench(sys.argv[1], work), []
        try:
            collector = Collector()
            names, ports, children, pods = start_services(bench)
            start_ballastd(bench, pods, collector.port)
            one_tree(bench, names, ports[0], collector)
            # The collector goes away: measuring goes on.
            collector.server.shutdown()
            collector.server.server_close()
            before = sum(c["responses"] for c in bench.ctl("calls"))
            urllib.request.urlopen(f"http://127.0.0.1:{ports[0]}/start", timeout=20).read()
            machine.wait_for(lambda: sum(c["responses"] for c in bench.ctl("calls")) >= before + 2, "calls go on")
            check(bench.agent.process.poll() is None, "ballastd lives")
        finally:
            for child in children:
                child.stop()
            bench.close()
    print("passed")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except machine.Failed as failure:
        sys.exit(f"FAILED: {failure}")
