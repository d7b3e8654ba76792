# SPDX-License-Identifier: Apache-2.0
"""Counted: what the kernel says was served against what the client says it was answered."""
import re
import subprocess

from machine import Child, Failed, accepts, free_port, wait_for

TARGET = 0.999
MIB = 1 << 20

# name, options of the load generator
HTTP1 = [
    ("keep-alive", dict(connections=16, path="/")),
    ("pipelined x16", dict(connections=8, path="/", pipeline=16)),
    ("chunked both ways", dict(connections=16, path="/file/text", body=6000, chunked=True)),
    ("close per request", dict(connections=16, path="/", close=True)),
    ("1 MB answers", dict(connections=4, path="/big/1m")),
    ("1 MB requests", dict(connections=4, path="/", body=MIB)),
]
# name, streams a connection, more headers: protocol in `requests`
HTTP2 = [
    ("h2, 1 stream", 1, [], "http2"),
    ("h2, 10 streams", 10, [], "http2"),
    ("h2, 100 streams", 100, [], "http2"),
    ("gRPC unary heads over h2", 10, ["-H", "content-type: application/grpc", "-H", "te: trailers"], "grpc"),
]
# gRPC's own C++ library at both ends: name, kind of call, streams that get no answer
GRPC = [("gRPC unary", "once", 0), ("gRPC bidirectional streaming", "converse", 0)]
GRPC_THREADS = 4
RATES = [1000, 10000, 0]


def row(name, rate, protocol, client, kernel, seconds):
    requests = kernel.get("requests", 0)
    responses = kernel.get("responses", 0)
    asked, answered = client["sent"], client["answered"]
    return {
        "case": name, "protocol": protocol, "rate_wanted": rate or "max",
        "rate": round(answered / seconds) if seconds else 0,
        "client_sent": asked, "client_answered": answered, "client_broken": client.get("broken", 0),
        "kernel_requests": requests, "kernel_responses": responses,
        "counted": round(responses / answered, 6) if answered else None,
        "in_flight_after": kernel.get("in_flight", 0),
        # Too many is as wrong as too few.
        "pass": answered > 0 and abs(responses / answered - 1) <= 1 - TARGET
                and abs(requests / asked - 1) <= 1 - TARGET,
    }


def http1(bench, name, options, rate, seconds):
    with bench.nginx() as (group, port, _, _):
        client = bench.load("127.0.0.1", port, cgroup=bench.cgroup("client"), rate=rate, seconds=seconds, **options)
        return row(name, rate, "http1", client, bench.rows(group).get("http1", {}), client["seconds"])


def h2load(bench, port, streams, headers, rate, seconds, address="127.0.0.1"):
    """h2load's own count, from its summary."""
    connections = 4
    argv = ["h2load", "-c", connections, "-m", streams, "-t", "1", *headers]
    if rate:
        argv += ["-n", int(rate * seconds) // connections * connections, "--rps", max(1, rate // connections)]
    else:
        argv += ["-n", 40000 if streams > 1 else 20000]
    child = Child([*argv, f"http://{address}:{port}/"], cgroup=bench.cgroup("client"), text=True,
                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = child.process.communicate(timeout=120)
    done = re.search(r"requests: (\d+) total, (\d+) started, (\d+) done, (\d+) succeeded, (\d+) failed", out)
    took = re.search(r"finished in ([\d.]+)(m?s)", out)
    if child.process.returncode != 0 or not done or not took:
        raise Failed(f"h2load: {err.strip() or out[-300:]}")
    span = float(took[1]) * (1e-3 if took[2] == "ms" else 1)
    return {"sent": int(done[2]), "answered": int(done[3]), "broken": int(done[5])}, span


def http2(bench, case, rate, seconds):
    name, streams, headers, protocol = case
    with bench.nginx() as (group, _, port, _):
        client, span = h2load(bench, port, streams, headers, rate, seconds)
        return row(name, rate, protocol, client, bench.rows(group).get(protocol, {}), span)


def grpc(bench, case, rate, seconds):
    client, kernel, span = grpc_calls(bench, case, rate, seconds)
    return row(case[0], rate, "grpc", client, kernel, span)


def grpc_calls(bench, case, rate, seconds):
    """Calls of ballast_test_grpc, each of which it checks, and streams beside them that it cancels in the end."""
    _, kind, beside = case
    calls = int(rate * seconds) if rate else round(5000 * seconds)
    group, port = bench.cgroup("server"), free_port()
    program = bench.bin / "tests/ballast_test_grpc"
    server = Child([program, "server", port], cgroup=group, log=bench.work / "grpc.log")
    try:
        wait_for(lambda: accepts("127.0.0.1", port), "the gRPC server listens")
        client = Child([program, "client", port, kind, calls, rate, GRPC_THREADS], cgroup=bench.cgroup("client"), text=True,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = client.process.communicate(timeout=120)
        if client.process.returncode != 0:
            raise Failed(f"ballast_test_grpc: {err.strip() or out}")
        kernel = bench.rows(group).get("grpc", {})
    finally:
        server.stop()
    return {"sent": calls + beside, "answered": calls}, kernel, float(out)


def supports(bench, protocol):
    """Whether one request of it appears in `requests`: asks the agent itself, not a version."""
    case = next(c for c in HTTP2 if c[3] == protocol)
    with bench.nginx() as (group, _, port, _):
        h2load(bench, port, 1, case[2], 100, 0.1)
        return protocol in bench.rows(group)


def run(bench, seconds, quick, say):
    rows = []
    rates = [1000, 0] if quick else RATES
    for name, options in HTTP1:
        for rate in rates:
            rows.append(http1(bench, name, options, rate, seconds))
            say(rows[-1])
    for case in HTTP2:
        if not supports(bench, case[3]):
            rows.append({"case": case[0], "protocol": case[3], "pass": None, "not_supported": True})
            say(rows[-1])
            continue
        for rate in rates:
            rows.append(http2(bench, case, rate, seconds))
            say(rows[-1])
    for case in GRPC if (bench.bin / "tests/ballast_test_grpc").exists() else []:
        for rate in rates:
            rows.append(grpc(bench, case, rate, seconds))
            say(rows[-1])
    return rows
