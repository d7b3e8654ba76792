# SPDX-License-Identifier: Apache-2.0
"""Cost: with and without the agent, interleaved in one run, so that the machine's moods hit both."""
import contextlib
import json
import pathlib
import re
import statistics
import subprocess

from machine import Child, Failed, finish, machine_cpu_seconds

STEADY_RATE = 40000
STEADY_TARGET = 1.03
EMPTY_DISTANCE = 0.05
NS_TARGET = 600
MILLICORES_TARGET = 50
STATS = pathlib.Path("/proc/sys/kernel/bpf_stats_enabled")


@contextlib.contextmanager
def arm(bench, kind):
    """off: nothing attached; empty: a pair that only passes; on: the agent."""
    empty = None
    if kind == "on":
        bench.start_agent()
    elif kind == "empty":
        empty = bench.tool("empty", bench.root)
        if empty.process.stdout.readline().strip() != "ready":
            raise Failed(empty.process.communicate()[1].strip())
    try:
        yield
    finally:
        if empty:
            empty.process.stdin.close()
            empty.process.wait()
        if kind == "on":
            bench.stop_agent()


def order(kinds, pair):
    """Every second pair the other way round, so that a drift does not favour one arm."""
    return kinds if pair % 2 == 0 else kinds[::-1]


def steady(bench, pairs, seconds, say):
    """CPU of the whole machine a request at a steady rate."""
    ratios, on_us, off_us = [], [], []
    with bench.nginx() as (_, port, _, _):
        rate = STEADY_RATE
        for pair in range(pairs):
            cpu = {}
            for kind in order(["off", "on"], pair):
                with arm(bench, kind):
                    # The client takes its own time from the end, so that the processes' ends do not count.
                    before = machine_cpu_seconds()
                    client = bench.load("127.0.0.1", port, cgroup=bench.cgroup("client"), connections=16, rate=rate,
                                        seconds=seconds)
                    cpu[kind] = (machine_cpu_seconds() - before) / max(1, client["answered"]) * 1e6
                    attained = client["answered"] / client["seconds"]
                    if attained < 0.9 * rate:  # the machine cannot: a lower rate for all that follow
                        rate = round(0.7 * attained, -3)
                        cpu = None
                        break
            if cpu is None:
                continue
            ratios.append(cpu["on"] / cpu["off"])
            on_us.append(cpu["on"])
            off_us.append(cpu["off"])
            say({"case": "steady", "pair": pair, "cpu_us_off": cpu["off"], "cpu_us_on": cpu["on"]})
    if not ratios:
        return {"case": "CPU a request, steady", "pass": None, "why": "no rate could be kept"}
    median = statistics.median(ratios)
    return {"case": "CPU a request, steady", "rate": rate, "pairs": len(ratios), "ratios": ratios, "ratio_median": median,
            "cpu_us_off": statistics.median(off_us), "cpu_us_on": statistics.median(on_us),
            "target": STEADY_TARGET, "pass": rate == STEADY_RATE and median <= STEADY_TARGET}


def wrk(bench, port, seconds):
    child = Child(["wrk", "-t1", "-c16", f"-d{max(1, round(seconds))}s", f"http://127.0.0.1:{port}/"],
                  cgroup=bench.cgroup("client"), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = child.process.communicate(timeout=120)
    found = re.search(r"(\d+) requests in ([\d.]+)(s|m)", out)
    if not found:
        raise Failed(f"wrk: {err.strip() or out[-300:]}")
    return int(found[1]) / (float(found[2]) * (60 if found[3] == "m" else 1))


def maximum(bench, pairs, seconds, say):
    """nginx at its own maximum, beside the floor: an empty pair of the same kind."""
    ratios = {"empty": [], "on": []}
    off = []
    with bench.nginx() as (_, port, _, _):
        wrk(bench, port, 1)
        for pair in range(pairs):
            rps = {}
            for kind in order(["off", "empty", "on"], pair):
                with arm(bench, kind):
                    rps[kind] = wrk(bench, port, seconds)
            off.append(rps["off"])
            for kind in ratios:
                ratios[kind].append(rps[kind] / rps["off"])
            say({"case": "maximum", "pair": pair, **{f"rps_{k}": round(v) for k, v in rps.items()}})
    on, empty = statistics.median(ratios["on"]), statistics.median(ratios["empty"])
    return {"case": "nginx at its maximum", "pairs": pairs, "rps_off": statistics.median(off), "ratio_median": on,
            "ratio_empty_median": empty, "ratios": ratios["on"], "ratios_empty": ratios["empty"],
            "target": empty - EMPTY_DISTANCE, "pass": on >= empty - EMPTY_DISTANCE}


def pair_at_root(bench):
    """ids of the cgroup_skb programs at the root."""
    done = subprocess.run(["bpftool", "-j", "cgroup", "show", bench.root], capture_output=True, text=True)
    return {p["id"] for p in json.loads(done.stdout.strip() or "[]") if p.get("attach_type", "").endswith("gress")}


def run_time(programs):
    """ns and runs of programs since run-time statistics are on."""
    ns = runs = 0
    for program in programs:
        told = json.loads(subprocess.run(["bpftool", "-j", "prog", "show", "id", str(program)], check=True,
                                         capture_output=True, text=True).stdout)
        ns += told.get("run_time_ns", 0)
        runs += told.get("run_cnt", 0)
    return ns, runs


def nanoseconds_of(bench, kind, rate, seconds):
    """ns and runs a request, and the rate, from the kernel's own clock around each run of a program."""
    before_enabled = STATS.read_text()
    others = pair_at_root(bench)
    with bench.nginx() as (_, port, _, _), arm(bench, kind):
        pair = pair_at_root(bench) - others
        STATS.write_text("1")
        try:
            ns, runs = run_time(pair)
            client = bench.load("127.0.0.1", port, cgroup=bench.cgroup("client"), connections=16, rate=rate,
                                seconds=seconds)
            after = run_time(pair)
        finally:
            STATS.write_text(before_enabled)
    answered = max(1, client["answered"])
    return (after[0] - ns) / answered, (after[1] - runs) / answered, client["answered"] / client["seconds"]


def nanoseconds(bench, rate, seconds):
    """Beside an empty pair, which is what the kernel's clock itself costs."""
    empty, _, _ = nanoseconds_of(bench, "empty", rate, seconds)
    each, runs, attained = nanoseconds_of(bench, "on", rate, seconds)
    return {"case": "kernel time a request", "rate": round(attained), "ns_a_request": round(each, 1),
            "ns_empty": round(empty, 1), "ns_a_request_and_end": round(each / 2, 1), "runs_a_request": round(runs, 2),
            "target": NS_TARGET, "pass": each <= NS_TARGET,
            "note": "both ends local: client and server sockets, requests, answers and acknowledgements"}


def agent(bench, rate, seconds):
    """ballastd itself while it measures."""
    with bench.nginx() as (_, port, _, _), arm(bench, "on"):
        before = bench.agent.cpu_seconds()
        client = bench.load("127.0.0.1", port, cgroup=bench.cgroup("client"), connections=16, rate=rate, seconds=seconds)
        used = (bench.agent.cpu_seconds() - before) / client["seconds"]
        rss = bench.agent.rss_bytes()
    return {"case": "ballastd", "rate": round(client["answered"] / client["seconds"]),
            "millicores": round(used * 1000, 1), "rss_mb": round(rss / 2 ** 20, 1), "target": MILLICORES_TARGET,
            "pass": used * 1000 <= MILLICORES_TARGET}


def run(bench, pairs, seconds, say):
    bench.stop_agent()
    rows = []
    for part in (lambda: steady(bench, pairs, seconds, say), lambda: maximum(bench, pairs, seconds, say),
                 lambda: nanoseconds(bench, STEADY_RATE, seconds), lambda: nanoseconds(bench, 0, seconds),
                 lambda: agent(bench, 10000, max(seconds, 5))):
        rows.append(part())
        say(rows[-1])
    return rows
