#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Driver of tools/bench/soak.sh."""
import argparse
import contextlib
import csv
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

import machine
import plot
import pods

RSS_TARGET_MB = 64
GROWTH_TARGET_MB = 1.0  # from the second third of the soak to the last
SAMPLE_SECONDS = 5.0
BORN_EACH_SECOND, LIFE_SECONDS = 10, 4.0
STANDING_CGROUPS, STANDING_CONNECTIONS, STANDING_SECONDS = 500, 40, 120
NO_COLLECTOR = "http://127.0.0.1:9"


class Watch:
    """ballastd's memory and the maps' fill, a row every few seconds."""

    def __init__(self, bench, metrics):
        self.bench, self.metrics, self.start, self.next, self.rows = bench, metrics, time.monotonic(), 0.0, []

    def turn(self, **more):
        now = time.monotonic() - self.start
        if now < self.next:
            return
        self.next = now + SAMPLE_SECONDS
        row = {"seconds": round(now, 1), "rss_mb": round(self.bench.agent.rss_bytes() / 2 ** 20, 2),
               "cpu_s": round(self.bench.agent.cpu_seconds(), 2), "kernel_maps_mb": self.kernel_maps(), **more}
        self.rows.append({**row, **self.fill()})

    def kernel_maps(self):
        """Of the pinned maps, as the kernel accounts them."""
        total = 0
        for pin in self.bench.bpffs.glob("*"):
            done = subprocess.run(["bpftool", "-j", "map", "show", "pinned", pin], capture_output=True, text=True)
            with contextlib.suppress(json.JSONDecodeError):
                total += int(json.loads(done.stdout or "{}").get("bytes_memlock", 0))
        return round(total / 2 ** 20, 2)

    def fill(self):
        """Scraped as Prometheus would, which is load of its own."""
        fill = {}
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        for line in text.splitlines():
            if line.startswith("ballast_map_entries{"):
                fill[line.split('"')[1]] = int(float(line.rsplit(" ", 1)[1]))
        return {**fill, "metrics_kb": len(text) // 1024}


def third(rows, which, key):
    size = len(rows) // 3
    return [row[key] for row in rows[which * size:(which + 1) * size]]


def churn(bench, metrics, minutes):
    watch, nursery = Watch(bench, metrics), pods.Nursery(bench.mine)
    try:
        while time.monotonic() - watch.start < 60 * minutes:
            nursery.turn(BORN_EACH_SECOND, LIFE_SECONDS)
            watch.turn(born=nursery.born, alive=len(nursery.alive))
            time.sleep(0.02)
    finally:
        nursery.close()
    rows = watch.rows
    maps = [key for key in rows[-1] if key not in ("seconds", "rss_mb", "cpu_s", "born", "alive", "kernel_maps_mb")]
    grown = statistics.median(third(rows, 2, "rss_mb")) - statistics.median(third(rows, 1, "rss_mb"))
    loss = bench.ctl("loss")
    seconds = rows[-1]["seconds"]
    return rows, {
        "case": "churn", "seconds": seconds, "cgroups_born": nursery.born, "connections_born": nursery.connections,
        "failed_pods": nursery.failed, "rss_mb_first": rows[0]["rss_mb"], "rss_mb_last": rows[-1]["rss_mb"],
        "rss_mb_most": max(row["rss_mb"] for row in rows), "growth_mb": round(grown, 3),
        "kernel_maps_mb_most": max(row["kernel_maps_mb"] for row in rows),
        "most": {key: [max(third(rows, 1, key)), max(third(rows, 2, key))] for key in maps},
        "millicores": round(1000 * rows[-1]["cpu_s"] / seconds, 1), "map_full": loss["map_full"]["events"],
        "pass": grown <= GROWTH_TARGET_MB and max(row["rss_mb"] for row in rows) <= RSS_TARGET_MB
                and loss["map_full"]["events"] == 0 and nursery.failed == 0,
    }


def standing(bench, metrics):
    nursery = pods.Nursery(bench.mine)
    try:
        for _ in range(STANDING_CGROUPS):
            nursery.bear(STANDING_SECONDS + 120, STANDING_CONNECTIONS, every=1.0)
            time.sleep(0.02)
        machine.wait_for(lambda: open_connections(bench) >= 2 * STANDING_CGROUPS * STANDING_CONNECTIONS,
                         "all connections are open", 60)
        watch = Watch(bench, metrics)
        while time.monotonic() - watch.start < STANDING_SECONDS:
            watch.turn()
            time.sleep(0.2)
        sockets = open_connections(bench)
        nursery.reap()
        alive = len(nursery.alive)
    finally:
        nursery.close()
    rows = watch.rows
    return {
        "case": "standing", "cgroups": alive, "connections": sockets // 2, "sockets": sockets,
        "rss_mb_most": max(row["rss_mb"] for row in rows), "kernel_maps_mb": rows[-1]["kernel_maps_mb"],
        "millicores": round(1000 * (rows[-1]["cpu_s"] - rows[0]["cpu_s"]) / (rows[-1]["seconds"] - rows[0]["seconds"]), 1),
        "metrics_kb": rows[-1]["metrics_kb"], "map_full": bench.ctl("loss")["map_full"]["events"],
        "pass": max(row["rss_mb"] for row in rows) <= RSS_TARGET_MB and alive == STANDING_CGROUPS,
    }


def open_connections(bench):
    """Sockets of this benchmark's cgroups, by the agent's own count."""
    mine = f"/{bench.mine.name}/"
    return sum(row["open"] for row in bench.ctl("connections") or [] if row["cgroup"].startswith(mine))


def start_agent(bench):
    metrics = f"127.0.0.1:{machine.free_port()}"
    config = bench.work / "ballastd.yaml"
    config.write_text(f"metrics: \"{metrics}\"\nspans: {{every: 10, otlp: \"{NO_COLLECTOR}\"}}\n")
    bench.start_agent("--config", config)
    return metrics


def arguments():
    parser = argparse.ArgumentParser(prog="soak.sh")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--only", default="churn,standing")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("build/bench/soak"))
    parser.add_argument("--bin", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.only.split(",")) - {"churn", "standing"}:
        parser.error(f"--only: unknown part {', '.join(sorted(unknown))}")
    return options


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    options.out.mkdir(parents=True, exist_ok=True)
    results = []
    with tempfile.TemporaryDirectory(prefix="ballast-soak-") as work:
        bench = machine.Bench(options.bin, work)
        try:
            if "standing" in options.only:
                results.append(standing(bench, start_agent(bench)))
                print(json.dumps(results[-1]), flush=True)
                bench.stop_agent()
            if "churn" in options.only:
                rows, result = churn(bench, start_agent(bench), options.minutes)
                results.append(result)
                with open(options.out / "soak.csv", "w", newline="") as out:
                    writer = csv.DictWriter(out, fieldnames=rows[-1].keys())
                    writer.writeheader()
                    writer.writerows(rows)
                (options.out / "soak.svg").write_text(plot.soak(rows[:: max(1, len(rows) // 60)]))
                print(json.dumps(result), flush=True)
        finally:
            bench.close()
    (options.out / "soak.json").write_text(json.dumps(results, indent=1) + "\n")
    print(f"written to {options.out}/")
    return 0 if all(result["pass"] for result in results) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except machine.Failed as failure:
        print(f"soak: {failure}", file=sys.stderr)
        sys.exit(1)
