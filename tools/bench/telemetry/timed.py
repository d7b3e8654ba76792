# SPDX-License-Identifier: Apache-2.0
"""Timed: the kernel's first-byte quantiles against a packet capture at the server's interface."""
from machine import finish, server_namespace

TARGET = 0.05
CONNECTIONS = 32
LOADS = [0.02, 0.1, 0.25, 0.5, 0.75, 0.9]
QUICK_LOADS = [0.02, 0.5, 0.9]


def highest_rate(bench, namespace, address, interface, seconds):
    """Answers a second with the capture running, which takes its share of the machine too."""
    with bench.nginx(address, namespace) as (_, port, _, _):
        capture = start_capture(bench, namespace, interface, port)
        client = bench.load(address, port, cgroup=bench.cgroup("client"), connections=CONNECTIONS, seconds=seconds)
        finish(capture)
    return client["answered"] / client["seconds"]


def start_capture(bench, namespace, interface, port):
    capture = bench.tool("capture", "--interface", interface, "--port", port, namespace=namespace)
    capture.process.stdout.readline()  # "ready", or the end of a capture that failed, told by finish()
    return capture


def error(kernel, packets):
    return kernel / packets - 1 if packets else None


def measure(bench, namespace, address, interface, rate, seconds):
    with bench.nginx(address, namespace) as (group, port, _, _):
        capture = start_capture(bench, namespace, interface, port)
        client = bench.load(address, port, cgroup=bench.cgroup("client"), connections=CONNECTIONS, rate=rate,
                            seconds=seconds)
        packets = finish(capture)
        kernel = bench.rows(group).get("http1", {})
    first = kernel.get("latency_ns", {}).get("first_byte", {})
    row = {
        "rate_wanted": round(rate), "rate": round(client["answered"] / client["seconds"]),
        "client_answered": client["answered"], "captured": packets["pairs"], "capture_dropped": packets["dropped"],
        "kernel_responses": kernel.get("responses", 0),
        "counted": round(kernel.get("responses", 0) / client["answered"], 6) if client["answered"] else None,
    }
    for q in ("p50", "p90", "p99"):
        row[f"packets_{q}_us"] = round(packets[f"{q}_ns"] / 1000, 2)
        row[f"kernel_{q}_us"] = round(first.get(q, 0) / 1000, 2)
        row[f"error_{q}"] = round(error(first.get(q, 0), packets[f"{q}_ns"]), 4) if packets["pairs"] else None
    # A capture that lost packets pairs the wrong ones: no verdict from it.
    whole = packets["dropped"] == 0 and packets["pairs"] >= 0.999 * client["answered"] > 0
    row["pass"] = max(abs(row["error_p50"]), abs(row["error_p99"])) <= TARGET if whole else None
    return row


def run(bench, seconds, quick, say):
    rows = []
    with server_namespace() as (namespace, address, interface):
        highest = highest_rate(bench, namespace, address, interface, min(seconds, 3))
        for load in QUICK_LOADS if quick else LOADS:
            row = measure(bench, namespace, address, interface, load * highest, seconds)
            rows.append({"load": load, **row})
            say(rows[-1])
    return rows
