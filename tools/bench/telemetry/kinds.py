# SPDX-License-Identifier: Apache-2.0
"""Counted and timed: what real servers are set to, and what real clients send."""
import contextlib
import subprocess

import counted
import machine

COUNTED = 0.9999
TIMED = 0.999
RATES = [1000, 10000]
WATCHES = 500  # as ballast_test_grpc has them

# name, what nginx is told, options of the load generator
CASES = [
    ("deferred accept", "deferred", dict(connections=16, close=True)),
    ("Fast Open", "fastopen=256", dict(connections=16, close=True, fast_open=True)),
    ("PROXY v1", "proxy_protocol", dict(connections=16, close=True, proxy=1)),
    ("PROXY v2", "proxy_protocol", dict(connections=16, close=True, proxy=2)),
    ("chunks of 4 bytes asked", "", dict(connections=16, path="/file/text", body=2000, chunked=True, chunk=4)),
]
# What nginx cannot: how ballast_test_http_server listens
OWN = [
    ("MPTCP", "mptcp", dict(connections=16, path="/plain", mptcp=True)),
    ("5,000 chunks of a byte answered", "", dict(connections=16, path="/tiny")),
]
GRPC = (f"gRPC unary beside {WATCHES} watches", "watched", WATCHES)


def judge(row, kernel, longest_s=None, begun_only=0):
    """Besides what was counted: what was timed, and no latency that the client did not see. `begun_only`: answers
    that began, and whose end never came."""
    first_byte = kernel.get("latency_ns", {}).get("first_byte", {})
    answered = row["client_answered"]
    row["timed"] = round((first_byte.get("count", 0) - begun_only) / answered, 5) if answered else None
    row["longest_us"] = round(first_byte.get("max", 0) / 1000)
    row["client_longest_us"] = round(longest_s * 1e6) if longest_s else None
    off = max(abs(row["kernel_responses"] / answered - 1), abs(row["kernel_requests"] / row["client_sent"] - 1)) if answered else 1
    row["pass"] = (off <= 1 - COUNTED and row["timed"] >= TIMED and row["in_flight_after"] == 0 and
                   (not longest_s or row["longest_us"] <= row["client_longest_us"]))
    return row


@contextlib.contextmanager
def own_server(bench, how):
    group, port = bench.cgroup("server"), machine.free_port()
    server = machine.Child([bench.bin / "tests/ballast_test_http_server", port, how], cgroup=group, log=bench.work / "own.log")
    try:
        machine.wait_for(lambda: machine.accepts("127.0.0.1", port), "the server listens")
        yield group, port
    finally:
        server.stop()


def http(bench, name, options, rate, seconds, group, address, port):
    client = bench.load(address, port, cgroup=bench.cgroup("client"), rate=rate, seconds=seconds, **options)
    kernel = bench.rows(group).get("http1", {})
    return judge(counted.row(name, rate, "http1", client, kernel, client["seconds"]), kernel, client["longest_s"])


def run(bench, seconds, quick, say):
    rows = []
    rates = RATES[:1] if quick else RATES
    # Fast Open is asked for by a namespace, and not to be changed for the whole machine.
    with machine.server_namespace() as (namespace, address, _):
        subprocess.run(["nsenter", f"--net=/run/netns/{namespace}", "sysctl", "-qw", "net.ipv4.tcp_fastopen=3"], check=True)
        for name, listens, options in CASES:
            for rate in rates:
                with bench.nginx(address, namespace, listens) as (group, port, _, _):
                    rows.append(http(bench, name, options, rate, seconds, group, address, port))
                say(rows[-1])
    for name, how, options in OWN:
        for rate in rates:
            with own_server(bench, how) as (group, port):
                rows.append(http(bench, name, options, rate, seconds, group, "127.0.0.1", port))
            say(rows[-1])
    for rate in rates:
        client, kernel, span = counted.grpc_calls(bench, GRPC, rate, seconds)
        rows.append(judge(counted.row(GRPC[0], rate, "grpc", client, kernel, span), kernel, begun_only=WATCHES))
        say(rows[-1])
    return rows
