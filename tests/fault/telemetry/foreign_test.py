#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Programs that nobody here wrote, through their own clients: foreign_test.py BIN MESH [--build].

etcd whose client is kube-apiserver (gRPC in clear text), Envoy before nginx, gRPC's own interop client and server,
and go-httpbin before curl: what they count themselves is what is measured of them. --build makes what comes of Go
modules (minutes) where it is not there. Exit code 77: this process may not measure, or none of them is here.
"""
import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
import urllib.request

SOURCE = pathlib.Path(__file__).resolve().parents[3]
sys.path[:0] = [str(SOURCE / "tools/bench/telemetry"), str(SOURCE / "examples")]
import example  # noqa: E402
import machine  # noqa: E402
from machine import Child, free_port, wait_for  # noqa: E402

ENVOY = """
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {admin}}}}}}}
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          http_filters:
          - name: router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
          route_config:
            virtual_hosts:
            - {{name: all, domains: ["*"], routes: [{{match: {{prefix: /}}, route: {{cluster: back}}}}]}}
  clusters:
  - name: back
    type: STATIC
    connect_timeout: 5s
    load_assignment:
      cluster_name: back
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {back}}}}}}}}}]}}]
"""


def get(url):
    with urllib.request.urlopen(url, timeout=10) as reply:
        return reply.read().decode()


def answers(url):
    with contextlib.suppress(OSError):
        return bool(get(url))
    return False


def check(condition, what):
    if not condition:
        sys.exit(f"FAILED: {what}")


def envoy_and_nginx(bench, program):
    """Every program counts each request once, at both of its ends."""
    front, ports = bench.cgroup("envoy"), {"admin": free_port(), "port": free_port()}
    with bench.nginx() as (back, back_port, _, _):
        config = bench.work / "envoy.yaml"
        config.write_text(ENVOY.format(back=back_port, **ports))
        envoy = Child([program, "-c", config, "--concurrency", 1, "--disable-hot-restart", "-l", "warn"], cgroup=front,
                      log=bench.work / "envoy.log")
        try:
            wait_for(lambda: answers(f"http://127.0.0.1:{ports['admin']}/ready"), "Envoy is ready", 60)
            client = bench.load("127.0.0.1", ports["port"], cgroup=bench.cgroup("client"), connections=8, rate=500, seconds=3)
            failing = bench.load("127.0.0.1", ports["port"], cgroup=bench.cgroup("client"), connections=2, rate=50,
                                 seconds=1, path="/big/none")
            stats = {s["name"]: s.get("value") for s in
                     json.loads(get(f"http://127.0.0.1:{ports['admin']}/stats?format=json"))["stats"] if "name" in s}
            served, asked, behind = (bench.rows(front).get("http1", {}), bench.rows(front, "client").get("http1", {}),
                                     bench.rows(back).get("http1", {}))
        finally:
            envoy.stop()
    told = stats["cluster.back.upstream_rq_completed"]
    check(client["answered"] + failing["answered"] == told, f"Envoy says {told}, the client {client} {failing}")
    check(asked["responses"] == told and behind["responses"] == told, f"Envoy says {told}, measured {asked} {behind}")
    # Its administration is served by the same pod.
    check(served["responses"] >= told and served["in_flight"] == 0, f"Envoy says {told}, measured {served}")
    check(failing["failed"] == failing["answered"] and stats["cluster.back.upstream_rq_4xx"] == failing["answered"],
          f"what nginx does not have: {failing}")
    print(f"Envoy and nginx: {told} answers, as the client, Envoy's two ends and nginx have them")


def counters(text, name):
    """{labels: value} of one counter of a page of metrics."""
    return {found[1]: int(float(found[2])) for found in re.finditer(rf"^{name}{{(.*)}} (\S+)$", text, re.M)}


def etcd_and_apiserver(bench, program):
    store, api = bench.cgroup("etcd"), bench.cgroup("apiserver")
    folder = bench.work / "api"
    folder.mkdir()
    port, peers, secure = free_port(), free_port(), free_port()
    subprocess.run(["openssl", "genrsa", "-out", folder / "accounts.key", "2048"], check=True, capture_output=True)
    etcd = Child(["etcd", "--unsafe-no-fsync", f"--data-dir={folder}/etcd", f"--listen-client-urls=http://127.0.0.1:{port}",
                  f"--advertise-client-urls=http://127.0.0.1:{port}", f"--listen-peer-urls=http://127.0.0.1:{peers}",
                  "--enable-grpc-gateway=false"],
                 cgroup=store, log=bench.work / "etcd.log", env={**os.environ, "ETCD_UNSUPPORTED_ARCH": ""})
    server = None
    try:
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/health"), "etcd is healthy", 60)
        server = Child([program, f"--etcd-servers=http://127.0.0.1:{port}", "--bind-address=127.0.0.1",
                        f"--secure-port={secure}", f"--cert-dir={folder}/certs", "--authorization-mode=AlwaysAllow",
                        "--service-cluster-ip-range=10.96.0.0/16", "--service-account-issuer=https://kubernetes.default.svc",
                        f"--service-account-key-file={folder}/accounts.key",
                        f"--service-account-signing-key-file={folder}/accounts.key"],
                       cgroup=api, log=bench.work / "apiserver.log")
        page = lambda: get(f"http://127.0.0.1:{port}/metrics")
        begun = lambda: sum(counters(page(), "grpc_server_started_total").values())
        wait_for(lambda: begun() > 300, "kube-apiserver asks etcd", 120)
        time.sleep(5)
        server.stop()
        wait_for(lambda: sum(counters(page(), "grpc_server_handled_total").values()) == begun(), "all calls ended", 30)
        text = page()
        measured, asked = bench.rows(store).get("grpc", {}), bench.rows(api, "client").get("grpc", {})
    finally:
        if server:
            server.stop()
        etcd.stop()
    started = sum(counters(text, "grpc_server_started_total").values())
    handled = counters(text, "grpc_server_handled_total")
    well = sum(n for labels, n in handled.items() if 'grpc_code="OK"' in labels)
    check(measured["requests"] == started and measured["in_flight"] == 0, f"etcd says {started}, measured {measured}")
    check(asked["requests"] == started and asked["in_flight"] == 0, f"etcd says {started}, kube-apiserver {asked}")
    check(measured["grpc_status"].get("0") == well, f"etcd says {well} were OK, measured {measured}")
    print(f"etcd and kube-apiserver: {started} calls, {well} of them OK, as etcd counts them and both ends are measured")


GRPC = "v1.76.0"
# Of gRPC's interop cases, as its client checks them: calls, and those that fail by what OpenTelemetry calls so.
INTEROP = {"empty_unary": (1, 0), "large_unary": (1, 0), "client_streaming": (1, 0), "server_streaming": (1, 0),
           "ping_pong": (1, 0), "empty_stream": (1, 0), "status_code_and_message": (2, 2), "special_status_message": (1, 1),
           "unimplemented_method": (1, 1), "unimplemented_service": (1, 1), "custom_metadata": (2, 0)}


def interop(bench, client, server):
    group, asking, port = bench.cgroup("interop"), bench.cgroup("client"), free_port()
    serving = Child([server, f"--port={port}"], cgroup=group, log=bench.work / "interop.log")
    try:
        wait_for(lambda: machine.accepts("127.0.0.1", port), "the interop server listens")
        for case in INTEROP:
            asked = Child([client, "--server_host=127.0.0.1", f"--server_port={port}", f"--test_case={case}"], cgroup=asking,
                          log=bench.work / "interop.log")
            check(asked.process.wait(60) == 0, f"{case}: {(bench.work / 'interop.log').read_text()[-300:]}")
        rows = [bench.rows(group).get("grpc", {}), bench.rows(asking, "client").get("grpc", {})]
    finally:
        serving.stop()
    calls, failed = (sum(each[i] for each in INTEROP.values()) for i in (0, 1))
    for row in rows:
        check(row["requests"] == row["responses"] == calls and row["failed"] == failed and row["in_flight"] == 0,
              f"{calls} calls of which {failed} failed, measured {row}")
    print(f"gRPC interop: {calls} calls, {failed} of them failed, as its client checks them and both ends are measured")


HTTPBIN = "v2.26.0"
# What curl asks for, on one connection as long as the server keeps it: heads, chunks, bodies both ways, redirects,
# an answer that ends with the connection or comes by drops, every class of status.
ASKED = ["/get", "/status/204", "/status/404", "/status/500", "/status/503", "/gzip", "/stream/20", "/stream-bytes/5000",
         "/drip?numbytes=20&duration=0.3&delay=0.1", "/bytes/100000", "/delay/0.1", "/sse?count=5&duration=0.2", "/redirect/3"]


def httpbin(bench, program):
    group, asking, port = bench.cgroup("httpbin"), bench.cgroup("client"), free_port()
    serving = Child([program, "-host", "127.0.0.1", "-port", port], cgroup=group, log=bench.work / "httpbin.log")
    at = f"http://127.0.0.1:{port}"
    told = ["-s", "-o", "/dev/null", "-w", "%{http_code} %{num_redirects}\\n"]
    asked = [[*told, "-L", at + path] for path in ASKED]
    asked += [[*told, "-I", at + "/get"], [*told, "-d", "a=b", at + "/post"], [*told, "-T", "/proc/self/status", at + "/put"]]
    arguments = [a for each in asked * 20 for a in ("--next", *each)][1:]
    try:
        wait_for(lambda: machine.accepts("127.0.0.1", port), "go-httpbin listens")
        curl = Child(["curl", *arguments], cgroup=asking, text=True, stdout=subprocess.PIPE)
        lines = [line.split() for line in curl.process.communicate(timeout=120)[0].splitlines()]
        rows = [bench.rows(group)["http1"], bench.rows(asking, "client")["http1"]]
    finally:
        serving.stop()
    answers_had = sum(1 + int(redirects) for _, redirects in lines)
    failed = sum(code.startswith("5") for code, _ in lines)
    check(len(lines) == 20 * len(asked), f"curl told {len(lines)}")
    for row in rows:
        check(row["requests"] == row["responses"] == answers_had and row["failed"] == failed and row["in_flight"] == 0,
              f"{answers_had} answers of which {failed} failed, measured {row}")
    print(f"go-httpbin: {answers_had} answers, {failed} of them failed, as curl counts them and both ends are measured")


def go_programs(build):
    """What is made from Go modules, by name: of those that are here, or are to be."""
    packages = {f"grpc-interop-{end}": (f"google.golang.org/grpc/interop/{end}", GRPC) for end in ("client", "server")}
    packages["go-httpbin"] = ("github.com/mccutchen/go-httpbin/v2/cmd/go-httpbin", HTTPBIN)
    return {name: example.go_program(name, package, version) for name, (package, version) in packages.items()
            if build or (example.CACHE / "examples" / f"{name}-{version}").exists()}


def main():
    mesh = pathlib.Path(sys.argv[2])
    envoy = os.environ.get("BALLAST_ENVOY") or SOURCE / "build/venv/bin/envoy-binary"
    runs = []
    if pathlib.Path(envoy).exists():
        runs.append(lambda bench: envoy_and_nginx(bench, envoy))
    if (mesh / "kube-apiserver").exists() and shutil.which("etcd"):
        runs.append(lambda bench: etcd_and_apiserver(bench, mesh / "kube-apiserver"))
    made = go_programs("--build" in sys.argv)
    if "grpc-interop-client" in made and "grpc-interop-server" in made:
        runs.append(lambda bench: interop(bench, made["grpc-interop-client"], made["grpc-interop-server"]))
    if "go-httpbin" in made:
        runs.append(lambda bench: httpbin(bench, made["go-httpbin"]))
    if not runs:
        print("SKIPPED: neither Envoy, nor kube-apiserver and etcd, nor gRPC's interop programs, nor go-httpbin are here")
        return 77

    def each(bench):
        for run in runs:
            run(bench)
    return machine.measured(sys.argv[1], each)


if __name__ == "__main__":
    sys.exit(main())
