#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""table.py FOLDER: judges what tests/kernel/measure printed on each kernel (FOLDER/logs), writes FOLDER/table.md and
FOLDER/results.json, prints both tables and closes with "N passed, N failed, N skipped"."""
import json
import pathlib
import re
import sys

REQUESTS = 1000
INSTRUCTION_LIMIT = 1_000_000  # BPF_COMPLEXITY_LIMIT_INSNS of the kernel
OUR_LIMIT = 0.8
GROUP = "/ballast-kernel-test/"
MACHINES = ["5.10.v2", "5.10.hybrid", "6.1.v2", "6.1.hybrid", "6.12.v2", "6.12.selinux", "newest.v2", "newest.locked", "host.native"]


class Run:
    """The sections of one log."""

    def __init__(self, text):
        self.done = False
        self.output = {}
        self.code = {}
        name = None
        for line in text.replace("\r", "").split("\n"):
            if line.startswith("@@begin "):
                name = line.split()[1]
                self.output[name] = []
            elif line.startswith("@@end ") and name:
                self.code[name] = int(line.split()[2])
                name = None
            elif line == "@@done":
                self.done = True
            elif name:
                self.output[name].append(line)

    def text(self, section):
        return "\n".join(self.output.get(section, []))

    def json(self, section):
        try:
            return json.loads(self.text(section))
        except json.JSONDecodeError:
            return None

    def of_pod(self, section, pod, **wanted):
        """The first row of a list for one of our two cgroups, or an empty one."""
        for row in self.json(section) or []:
            if row.get("cgroup") == GROUP + pod and all(row.get(k) == v for k, v in wanted.items()):
                return row
        return {}

    def succeeded(self, section):
        found = re.search(r"(\d+) succeeded", self.text(section))
        return int(found.group(1)) if found else 0

    def verifier(self):
        return {name: int(count) for name, count in re.findall(r"^(\w+) (\d+)$", self.text("verifier"), re.M)}


def counted(run, pod, protocol, load):
    """(client's count, ours, first-byte latencies, last-byte latencies)"""
    row = run.of_pod("requests", pod, role="server", protocol=protocol)
    latency = row.get("latency_ns", {})
    return (run.succeeded(load), row.get("requests", 0), row.get("responses", 0),
            latency.get("first_byte", {}).get("count", 0), latency.get("last_byte", {}).get("count", 0))


def judge(run, label):
    """Everything that has to hold on a kernel: [(what, whether)]."""
    exact = (REQUESTS,) * 5
    worst = max(run.verifier().values(), default=0)
    checks = [
        ("ran to its end", run.done),
        ("attached and alive", run.code.get("attach") == 0),
        ("status tells its features", bool((run.json("status") or {}).get("features"))),
        ("HTTP/1.1 counted and timed", counted(run, "http1", "http1", "load_http1") == exact),
        ("HTTP/2 counted and timed", counted(run, "h2", "http2", "load_h2") == exact),
        ("verifier below 80 % of its limit", 0 < worst <= OUR_LIMIT * INSTRUCTION_LIMIT),
        ("SIGTERM ends it with 0", run.code.get("exit") == 0),
        ("status of a dead ballastd", (run.json("dead") or {}).get("alive") is False),
        ("unloads with 0", run.code.get("unload") == 0),
    ]
    if label.endswith(".locked"):
        checks.append(("the kernel is locked down", "[confidentiality]" in run.text("lockdown")))
    if label.endswith(".selinux"):
        checks += [
            ("SELinux is in force, ballastd is spc_t", run.text("domain") == "system_u:system_r:spc_t:s0 1"),
            ("the probe in its container answers", run.code.get("probed") == 0),
            ("container_t may not use bpf(2)", re.search(r"denied .*system_r:container_t:.* tclass=bpf", run.text("denied")) is not None),
            ("check tells container_t of its type", re.search(r"warn.*security_module.*our type is \S*container_t", run.text("other")) is not None),
            ("nothing is denied to spc_t", run.done and "scontext=system_u:system_r:spc_t" not in run.text("denied")),
        ]
    for pod in ("http1", "h2"):
        row = run.of_pod("cpu", pod)
        checks.append((f"CPU time of {pod}", row.get("on_cpu_ns", 0) > 0))
        checks.append((f"memory of {pod}", (row.get("memory_bytes") or 0) > 0))
        checks.append((f"connections of {pod}", run.of_pod("connections", pod).get("accepted", 0) >= 4))
    return checks


def fallbacks(run):
    features = (run.json("status") or {}).get("features", [])
    missing = [f["name"] for f in features if not f["available"]]
    return ", ".join(missing) if missing else ("none" if features else "?")


def row_of(label, run, failed):
    worst = max(run.verifier().values(), default=0)
    _, http1, _, first1, last1 = counted(run, "http1", "http1", "load_http1")
    _, h2, _, first2, last2 = counted(run, "h2", "http2", "load_h2")
    cpu = run.of_pod("cpu", "http1")
    code = run.code.get("exit", "-")
    return [run.text("uname") or label.rsplit(".", 1)[0], label.rsplit(".", 1)[1], fallbacks(run),
            f"{http1} of {run.succeeded('load_http1')}", f"{h2} of {run.succeeded('load_h2')}",
            str(min(first1, last1) + min(first2, last2)),
            f"{cpu.get('on_cpu_ns', 0) / 1e6:.0f} ms, {(cpu.get('memory_bytes') or 0) / 1e6:.1f} MB",
            f"{100 * worst / INSTRUCTION_LIMIT:.1f} %", f"{code}{' (FAILED)' if failed else ''}"]


def instructions(run, program):
    count = run.verifier().get(program)
    return "-" if count is None else f"{count:,}" if count else "refused"


def markdown(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def main():
    folder = pathlib.Path(sys.argv[1])
    rows, results, runs = [], {}, {}
    passed = failed = skipped = 0
    for label in MACHINES:
        log = folder / "logs" / f"{label}.log"
        if not log.exists():
            skipped += 1
            print(f"skipped: {label}: that kernel is not there")
            continue
        run = runs[label] = Run(log.read_text(errors="replace"))
        checks = judge(run, label)
        wrong = [what for what, holds in checks if not holds]
        passed += len(checks) - len(wrong)
        failed += len(wrong)
        for what in wrong:
            print(f"FAILED: {label}: {what} ({log})")
        rows.append(row_of(label, run, wrong))
        results[label] = {"kernel": run.text("uname"), "failed": wrong, "features": (run.json("status") or {}).get("features"),
                          "verifier": run.verifier(), "http1": counted(run, "http1", "http1", "load_http1"),
                          "http2": counted(run, "h2", "http2", "load_h2"), "exit_code": run.code.get("exit")}
    programs = sorted({name for run in runs.values() for name in run.verifier()})
    plain = {label: run for label, run in runs.items() if label.endswith((".v2", ".native"))}
    kernels = markdown(["kernel", "cgroups", "fallbacks", "HTTP/1.1 counted", "HTTP/2 counted", "latencies",
                        "CPU, memory of the first pod", "most instructions of the limit", "exit code"], rows)
    verifier = markdown(["program"] + [run.text("uname").split("-")[0].split("+")[0] for run in plain.values()],
                        [[f"`{name}`"] + [instructions(run, name) for run in plain.values()] for name in programs])
    (folder / "table.md").write_text(kernels + "\n" + verifier)
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    print(kernels + "\n" + verifier)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
