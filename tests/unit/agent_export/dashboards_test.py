#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""dashboards_test.py SOURCE_DIR BIN_DIR: dashboards and alerts against the metrics that the programs define and that a
real ballastd gives out, which promtool lints; the same metrics as OTLP, read back by the published schema where
opentelemetry-proto is at hand (tools/deps.sh). What is not at hand is named, and the rest goes on."""
import http.server
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

SOURCE, BIN = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
FOLDER = SOURCE / "deploy/dashboards"
sys.path[:0] = [str(SOURCE / "tests/docs"), str(SOURCE / "examples")]
import pages  # noqa: E402
from example import tear_down  # noqa: E402

WRONG, MISSING = [], []
FAMILY = re.compile(r"\b(?:http|rpc|ballast|container|process)_\w+")
PROMTOOL = next((str(p) for p in (SOURCE / "build/promtool",) if p.exists()), shutil.which("promtool"))


def defined():
    """name of a series -> (type, labels), of both programs; None: one is not built."""
    found = {}
    for program in ("ballastd", "ballast-global"):
        if not (BIN / program).exists():
            MISSING.append(program)
            continue
        text = subprocess.run([BIN / program, "--help-format", "metrics"], capture_output=True, text=True, check=True).stdout
        for name, kind, labels in re.findall(r"^\| `(\w+)` \| (\w+) \| [^|]*\| ([^|]*) \|", text, re.M):
            for series in [name + end for end in ("_bucket", "_sum", "_count")] if kind == "histogram" else [name]:
                found[series] = set(filter(None, labels.strip().split(","))) | {"le"}
    return found


def check_expression(where, expression, series):
    if "ballast-global" in MISSING and re.search("ballast_(global|fleet)", expression):
        return
    plain = re.sub(r'"[^"]*"', '""', expression)
    used = set(FAMILY.findall(plain))
    known = {"instance", "job"}
    for name in used:
        if name not in series:
            WRONG.append(f"{where}: {name} is not a metric that is given out")
        known |= series.get(name, set())
    if not used:
        WRONG.append(f"{where}: names no metric: {expression}")
    labels = set(re.findall(r"(\w+)=~?\"", plain))
    for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", plain):
        labels |= {label.strip() for label in group.split(",")}
    for label in labels - known:
        WRONG.append(f"{where}: no metric in it has the label {label}")


def dashboards(series):
    subprocess.run([FOLDER / "make.py", "--check"], check=True)
    for file in sorted(FOLDER.glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel["targets"]:
                check_expression(f"{file.name}: {panel['title']}", target["expr"], series)
                for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
                    check_expression(f"{file.name}: {panel['title']}: legend", f"x by ({label}) " + target["expr"], series)
    with tempfile.TemporaryDirectory() as folder:
        other = pathlib.Path(folder) / "services.json"
        text = (FOLDER / "services.json").read_text()
        other.write_text(re.sub(r'"ballast-\d[\d.]*"', '"ballast-0.0.7"', text))
        done = subprocess.run([FOLDER / "make.py", "--check", other], capture_output=True, text=True)
        if done.returncode == 0 or "is of Ballast 0.0.7" not in done.stderr:
            WRONG.append(f"a dashboard of another version: {done.returncode} {done.stderr}")


def alerts(series):
    text = (FOLDER / "alerts.yaml").read_text()
    anchors = pages.anchors((SOURCE / "docs/troubleshooting.md").read_text())
    rules = re.split(r"- alert: ", text)[1:]
    for rule in rules:
        name = rule.split()[0]
        expression = re.search(r"expr: (?:>-\n)?(.*?)\n\s+(?:for|labels):", rule, re.S)[1]
        check_expression(f"alerts.yaml: {name}", expression, series)
        page, anchor = re.search(r"runbook: (\S+)#(\S+)", rule).groups()
        if page != "docs/troubleshooting.md" or anchor not in anchors:
            WRONG.append(f"alerts.yaml: {name}: {page}#{anchor} is no heading")
    if PROMTOOL:
        done = subprocess.run([PROMTOOL, "check", "rules", FOLDER / "alerts.yaml"], capture_output=True, text=True)
        if done.returncode != 0 or f"{len(rules)} rules found" not in done.stdout + done.stderr:
            WRONG.append(f"promtool check rules: {done.stdout}{done.stderr}")
        parsed(rules)


def parsed(rules):
    """promtool reads every expression of the dashboards, and each alert fires on its trouble alone (alerts_test.yaml)."""
    expressions = [re.sub(r"\$\w+", lambda m: "5m" if m[0] == "$__rate_interval" else ".*", target["expr"])
                   for file in sorted(FOLDER.glob("*.json")) for panel in json.loads(file.read_text())["panels"]
                   for target in panel["targets"]]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "expressions.yaml").write_text(json.dumps({"groups": [{"name": "dashboards", "rules": [
            {"record": f"dashboard:{i}", "expr": expression} for i, expression in enumerate(expressions)]}]}))
        for name, text in (("alerts.yaml", FOLDER / "alerts.yaml"),
                           ("alerts_test.yaml", SOURCE / "tests/unit/agent_export/alerts_test.yaml")):
            (folder / name).write_text(text.read_text())
        tested = set(re.findall(r"alertname: (\w+)", (folder / "alerts_test.yaml").read_text()))
        if tested != {rule.split()[0] for rule in rules}:
            WRONG.append(f"alerts without a test: {tested ^ {rule.split()[0] for rule in rules}}")
        for command in (["check", "rules", "--lint=none", folder / "expressions.yaml"], ["test", "rules", folder / "alerts_test.yaml"]):
            done = subprocess.run([PROMTOOL, *command], capture_output=True, text=True)
            if done.returncode != 0:
                WRONG.append(f"promtool {command[0]} rules: {done.stdout}{done.stderr}")


class Collector(http.server.BaseHTTPRequestHandler):
    bodies = []

    def log_message(self, *_):
        pass

    def do_POST(self):
        self.bodies.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def cgroup_root():
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        if line.split(" - ")[1].startswith("cgroup2 "):
            return pathlib.Path(line.split()[4])


def live(series):
    root = cgroup_root()
    if os.geteuid() != 0 or root is None:
        MISSING.append("root and cgroup v2 for a real ballastd")
        return
    group = root / f"ballast-dashboards-{os.getpid()}"
    port, app = free_port(), free_port()
    collector = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    started = []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        try:
            group.mkdir()
            (folder / "pods.yaml").write_text(
                f"pods: [{{cgroup: /{group.name}, pod: web-0, namespace: shop, service: web, address: 127.0.0.1, port: {app}}}]\n")
            (folder / "config.yaml").write_text(
                f"bpffs: {folder}/bpf\nidentity: static:{folder}/pods.yaml\nmode: active\nsink: dry-run\n"
                f"metrics: 127.0.0.1:{port}\nmetrics_otlp: http://127.0.0.1:{collector.server_address[1]}\n"
                "metrics_otlp_every_s: 1\nspans:\n  every: 1\n"
                f"  otlp: http://127.0.0.1:{collector.server_address[1]}\n")
            started.append(subprocess.Popen([BIN / "ballastd", "--config", folder / "config.yaml"],
                                            stderr=subprocess.PIPE, text=True))
            web = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(app)]
            started.append(subprocess.Popen(web, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                            preexec_fn=lambda: (group / "cgroup.procs").write_text(str(os.getpid()))))
            text = ""
            for _ in range(600):
                if started[0].poll() is not None:
                    MISSING.append("a ballastd that runs here: " + started[0].stderr.read()[-200:])
                    return
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{app}/", timeout=5).read()
                    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
                except OSError:
                    time.sleep(0.1)
                    continue
                if re.search(r'http_server_request_duration_seconds_count{[^}]*"web-0"} [1-9]', text) and any(path == "/v1/metrics" for path, _ in Collector.bodies):
                    break
                time.sleep(0.1)
            else:
                WRONG.append(f"ballastd gives out no request: {text[:2000]}")
            for name in set(re.findall(r"^(\w+)[{ ]", text, re.M)) - series.keys():
                WRONG.append(f"{name} is given out and is not in the list of metrics")
            if PROMTOOL:
                lint = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True, text=True)
                if lint.returncode != 0:
                    WRONG.append(f"promtool check metrics: {lint.stdout}{lint.stderr}")
            else:
                MISSING.append("promtool")
            otlp(text)
            exemplars(port)
            queried(port, folder, started, app)
        finally:
            tear_down(started, BIN / "ballastd", folder / "bpf", [group])
            collector.shutdown()


def exemplars(port):
    """OpenMetrics' exemplars are spans that the collector has."""
    sent = set()
    for _ in range(100):
        ask = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": "application/openmetrics-text"})
        with urllib.request.urlopen(ask, timeout=5) as answer:
            kind, text = answer.headers["Content-Type"], answer.read().decode()
        told = set(re.findall(r'^http_server_request_duration_seconds_bucket{.*http_request_method="GET",http_response_status_code="200"'
                              r'.*} \d+ # {trace_id="(\w{32})",span_id="(\w{16})"} ', text, re.M))
        for path, body in Collector.bodies:
            if path == "/v1/traces":
                sent |= {(s["traceId"], s["spanId"]) for r in json.loads(body)["resourceSpans"] for s in r["scopeSpans"][0]["spans"]}
        if told and told <= sent:
            break
        time.sleep(0.2)
    else:
        WRONG.append(f"exemplars {told} lead to none of {len(sent)} spans: {text[:1500]}")
    if not kind.startswith("application/openmetrics-text; version=1.0.0") or not text.endswith("# EOF\n"):
        WRONG.append(f"OpenMetrics: {kind}: {text[-100:]}")


def queried(port, folder, started, app):
    """A real Prometheus scrapes the agent, and every expression of the dashboards is asked of it."""
    server = SOURCE / "build/prometheus"
    if not server.exists():
        MISSING.append("Prometheus")
        return
    own = free_port()
    (folder / "prometheus.yaml").write_text(
        f"global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: ballast, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]\n")
    started.append(subprocess.Popen(
        [server, f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/tsdb",
         f"--web.listen-address=127.0.0.1:{own}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def ask(expression):
        with urllib.request.urlopen(f"http://127.0.0.1:{own}/api/v1/query?" +
                                    urllib.parse.urlencode({"query": expression}), timeout=10) as answer:
            return json.loads(answer.read())["data"]["result"]

    for _ in range(300):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{app}/", timeout=5).read()
            if ask("rate(http_server_request_duration_seconds_count[30s]) > 0"):
                break
        except OSError:
            pass
        time.sleep(0.2)
    else:
        WRONG.append("Prometheus shows no rate of requests")
        return
    silent = []
    for file in sorted(FOLDER.glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            asked = [re.sub(r"\$\w+", lambda m: "30s" if m[0] == "$__rate_interval" else ".*", target["expr"])
                     for target in panel["targets"]]
            if not any([ask(expression) for expression in asked]) and file.name != "learning.json":
                silent.append(panel["title"])
    # What this agent cannot have: gRPC, a proxy, a span exporter, a trouble.
    unexpected = set(silent) - {"gRPC p99 by pod", "Weight in force", "Spans", "Trouble", "Errors"}
    if unexpected:
        WRONG.append(f"panels without data of a living agent: {sorted(unexpected)}")


def otlp(text):
    """The last export: the published names, the pod's resource, and as many metrics as Prometheus has."""
    path, body = [one for one in Collector.bodies if one[0] == "/v1/metrics"][-1]
    export = json.loads(body)
    names, resources = {}, []
    for resource in export["resourceMetrics"]:
        attributes = {a["key"]: a["value"]["stringValue"] for a in resource["resource"]["attributes"]}
        resources.append(attributes)
        for metric in resource["scopeMetrics"][0]["metrics"]:
            names[metric["name"]] = metric
    families = set(re.findall(r"^# TYPE (\w+) ", text, re.M))
    if path != "/v1/metrics" or len(names) < len(families) - 2:
        WRONG.append(f"OTLP: {path}: {sorted(names)} against {sorted(families)}")
    if not any(r.get("k8s.pod.name") == "web-0" and r.get("service.name") == "web" and
               r.get("service.namespace") == "shop" and r.get("k8s.namespace.name") == "shop" for r in resources):
        WRONG.append(f"OTLP: no resource is the pod: {resources}")
    for name, kind, unit in (("http.server.request.duration", "histogram", "s"), ("http.server.active_requests", "sum", ""),
                             ("container.cpu.time", "sum", "s"), ("container.memory.usage", "gauge", "By")):
        if kind not in names.get(name, {}) or names[name]["unit"] != unit:
            WRONG.append(f"OTLP: {name} is not a {kind} in {unit}: {names.get(name)}")
    point = names["http.server.request.duration"]["histogram"]["dataPoints"][0]
    if len(point["bucketCounts"]) != len(point["explicitBounds"]) + 1 or sum(map(int, point["bucketCounts"])) != int(point["count"]):
        WRONG.append(f"OTLP: buckets and count do not agree: {point}")
    schema = """
import sys
from google.protobuf import json_format
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
request = json_format.Parse(sys.stdin.buffer.read(), ExportMetricsServiceRequest())
again = ExportMetricsServiceRequest.FromString(request.SerializeToString())
assert again == request and len(again.resource_metrics) == int(sys.argv[1])
"""
    python = SOURCE / "build/venv/bin/python"
    if not python.exists() or subprocess.run([python, "-c", "import opentelemetry.proto"], capture_output=True).returncode != 0:
        MISSING.append("opentelemetry-proto")
        return
    done = subprocess.run([python, "-c", schema, str(len(export["resourceMetrics"]))], input=body, capture_output=True)
    if done.returncode != 0:
        WRONG.append(f"OTLP: not by the published schema: {done.stderr.decode()[-600:]}")


if not (BIN / "ballastd").exists():
    print("skipped: ballastd is not built")
    sys.exit(77)
known = defined()
dashboards(known)
alerts(known)
live(known)
for what in MISSING:
    print(f"not tried, for want of it: {what}")
if WRONG:
    sys.exit("FAIL:\n" + "\n".join(WRONG))
print(f"ok: dashboards and alerts against {len(known)} series")
