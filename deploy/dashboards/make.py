#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The Grafana dashboards of this folder, from the tables below.

    deploy/dashboards/make.py               writes services.json, learning.json and agent.json
    deploy/dashboards/make.py --check [FILE...]
        fails where a dashboard (all three, or those named) is not what this version makes; one that another version
        made is refused with that version

Import them in Grafana (Dashboards, Import), or hand them to its sidecar:
    kubectl create configmap ballast-dashboards --from-file=deploy/dashboards/services.json
    kubectl label configmap ballast-dashboards grafana_dashboard=1
"""
import json
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
OF = '{namespace=~"$namespace",service=~"$service"}'
DURATION = "http_server_request_duration_seconds"


def rate(metric, by, of=OF):
    return f"sum by ({by}) (rate({metric}{of}[$__rate_interval]))"


def quantile(q, metric, by, of=OF):
    return f"histogram_quantile({q}, {rate(metric + '_bucket', 'le, ' + by, of)})"


# dashboard -> (title, what it is for, variables, panels); a panel: title, unit, [(expression, legend)], what it says.
DASHBOARDS = {
    "services": ("Ballast: services", "Rates, errors, latencies and weights, by Service and pod", True, [
        ("Requests", "reqps", [(rate(DURATION + "_count", "service"), "{{service}}")], "Answered requests a second."),
        ("Errors", "percentunit", [(f"{rate('ballast_requests_failed_total', 'service')} / "
                                    f"{rate(DURATION + '_count', 'service')}", "{{service}}")],
         "Share of requests that ended with 5xx, a gRPC failure, or without an answer."),
        ("Latency", "s", [(quantile(q, DURATION, "service"), "{{service}} p" + p)
                          for q, p in ((0.5, "50"), (0.99, "99"))], "To the last byte of the response."),
        ("p99 by pod", "s", [(quantile(0.99, DURATION, "pod"), "{{pod}}")], "The pod that is slow stands out here."),
        ("gRPC p99 by pod", "s", [(quantile(0.99, "rpc_server_call_duration_seconds", "pod"), "{{pod}}")],
         "Of gRPC calls alone."),
        ("Errors by pod", "reqps", [(rate("ballast_requests_failed_total", "pod"), "{{pod}}")], "Failures a second."),
        ("Weight in force", "none", [(f"ballast_weight{OF}", "{{pod}}")], "A fair share is 1000; none: not by us."),
        ("Weight as decided", "none", [(f"ballast_decided_weight{OF}", "{{pod}}")],
         "What would be in force, or is on its way."),
        ("Share that active goes towards", "percentunit", [(f"ballast_shadow_share{OF}", "{{pod}}")],
         "In mode shadow: what active would do. Take the writer's: a node's process knows its own pods alone."),
        ("Share of traffic", "percentunit",
         [(f"{rate(DURATION + '_count', 'service, pod')} / on (service) group_left "
           f"{rate(DURATION + '_count', 'service')}", "{{pod}}")], "What each pod really gets."),
        ("Why: state of the weights", "none",
         [(f"ballast_service_neutral{OF}", "{{service}}: equal"), (f"ballast_service_tripped{OF}", "{{service}}: tripped"),
          (f"ballast_decision_outcome{OF}", "{{service}}: {{outcome}}")],
         "Equal weights, a trip of the guard, and what became of the weights. ballastctl explain says more."),
        ("Requests in flight", "none", [(f"http_server_active_requests{OF}", "{{pod}}")], "Not answered yet."),
        ("Connections", "none", [(f"ballast_open_connections{OF}", "{{pod}}")], "Open sockets of the pod."),
        ("CPU", "none", [(rate("container_cpu_time_seconds_total", "pod"), "{{pod}}")], "Cores used."),
        ("Waiting for a CPU", "none", [(rate("ballast_run_queue_wait_seconds_total", "pod"), "{{pod}}")],
         "Tasks that were ready and did not run, throttling included."),
        ("Memory", "bytes", [(f"container_memory_usage_bytes{OF}", "{{pod}} {{container}}")], "By the cgroup."),
        ("Pressure: some task waited", "percentunit",
         [(rate(f"container_pressure_{r}_waiting_seconds_total", "pod"), "{{pod}} " + r) for r in ("cpu", "memory", "io")],
         "Share of the time."),
        ("Pressure: all tasks waited", "percentunit",
         [(rate(f"container_pressure_{r}_stalled_seconds_total", "pod"), "{{pod}} " + r) for r in ("cpu", "memory", "io")],
         "Share of the time."),
    ]),
    "learning": ("Ballast: learning", "The global network and its workers", False, [
        ("Reward of the trial", "none", [("ballast_global_canary_objective", "canaries"),
                                         ("ballast_global_rest_objective", "the others")],
         "Mean objective of the workers that try newer parameters, and of the others meanwhile."),
        ("Trials", "none", [("ballast_global_canaries", "canaries now"), ("ballast_global_promotions_total", "released"),
                            ("ballast_global_returns_total", "given up")], "How trials ended."),
        ("Versions", "none", [("ballast_global_version", "newest"), ("ballast_global_released_version", "released"),
                              ("ballast_policy_version", "in force {{instance}}")], "Of the parameters."),
        ("Epochs", "none", [("ballast_global_epoch", "global"), ("ballast_policy_epoch", "in force {{instance}}")],
         "They change with the leader."),
        ("Staleness", "none", [(quantile(q, "ballast_global_staleness_versions", "job", ""), f"p{p}")
                               for q, p in ((0.5, 50), (0.99, 99))], "Versions that gradients lagged behind."),
        ("Gradients", "ops", [("rate(ballast_global_gradients_accepted_total[$__rate_interval])", "accepted"),
                              ("rate(ballast_global_gradients_clipped_total[$__rate_interval])", "clipped"),
                              ("rate(ballast_global_gradients_rejected_total[$__rate_interval])", "refused: {{reason}}")],
         "What workers sent."),
        ("Norm of gradients", "none", [("ballast_global_gradient_norm_median", "median")], "Of the last accepted ones."),
        ("Workers", "none", [("ballast_global_workers", "push"), ("ballast_global_workers_quarantined", "shut out"),
                             ("ballast_global_streams", "streams")], "Who learns along."),
        ("Batch", "none", [("ballast_global_batch_size", "size"), ("ballast_global_batch_buffered", "buffered")],
         "Gradients that one step takes."),
        ("Ages", "s", [("ballast_global_version_age_seconds", "version"), ("ballast_global_batch_age_seconds", "batch"),
                       ("ballast_global_checkpoint_age_seconds", "checkpoint")], "Of what should be young."),
        ("Leader", "none", [("ballast_global_leader", "{{instance}} leads"), ("ballast_global_ready", "{{instance}} serves")],
         "One of the replicas."),
        ("Fleet", "none", [("ballast_fleet_nodes", "nodes"), ("ballast_fleet_endpoints", "endpoints"),
                           ("ballast_fleet_services", "services")], "What the nodes report."),
        ("Reports refused", "ops", [("rate(ballast_fleet_reports_refused_total[$__rate_interval])", "{{reason}}")],
         "And why."),
        ("Traffic", "Bps", [("rate(ballast_global_received_bytes_total[$__rate_interval])", "received"),
                            ("rate(ballast_global_sent_bytes_total[$__rate_interval])", "sent")], "Of the network."),
    ]),
    "agent": ("Ballast: the agent", "What it loses and what it costs, by node", False, [
        ("Trouble", "none", [("ballast_trouble", "{{instance}} {{of}}")], "1: it cannot do that work now."),
        ("Lost, by reason", "ops", [("sum by (reason) (rate(ballast_loss_events_total[$__rate_interval]))", "{{reason}}")],
         "Messages and events that were not measured."),
        ("Not parsed, by reason", "Bps", [("sum by (reason) (rate(ballast_loss_bytes_total[$__rate_interval]))",
                                           "{{reason}}")], "Bytes."),
        ("CPU of the agent", "none", [("rate(process_cpu_seconds_total[$__rate_interval])", "{{instance}}")],
         "Cores, of the process alone: the programs' cost is in the sockets' own time."),
        ("Memory of the agent", "bytes", [("process_resident_memory_bytes", "{{instance}}")], "Resident."),
        ("Work of a tick", "s", [(quantile(0.99, "ballast_tick_duration_seconds", "instance", ""), "{{instance}} p99")],
         "Without its sleep."),
        ("Ticks", "ops", [("rate(ballast_samples_total[$__rate_interval])", "{{instance}}")], "Measured a second."),
        ("Fill of the maps", "percentunit", [("ballast_map_entries / ballast_map_max_entries", "{{instance}} {{map}}")],
         "A full map loses what comes next."),
        ("Socket table", "none", [("rate(ballast_reconcile_failures_total[$__rate_interval])", "{{instance}} failures"),
                                  ("sum by (instance) (abs(ballast_connections_drift))", "{{instance}} drift")],
         "The kernel's own count of connections against ours."),
        ("Proxies", "none", [("ballast_xds_subscribers", "{{instance}} subscribers")], "That take weights by EDS."),
        ("Acknowledged after", "s", [("ballast_acknowledgement_delay_seconds", "{{instance}}")], "Of a publication."),
        ("Spans", "ops", [(f"rate(ballast_spans_{what}_total[$__rate_interval])", "{{instance}} " + what)
                          for what in ("exported", "dropped", "lost", "failures")], "To the collector."),
        ("Pods left out", "none", [("ballast_metrics_pods_left_out", "{{instance}}")],
         "Without metrics of their own, for want of room."),
    ]),
}


def version():
    return re.search(r"^project\(\w+ VERSION ([\d.]+)", (HERE.parents[1] / "CMakeLists.txt").read_text(), re.M)[1]


def variable(name, query):
    return {"name": name, "type": "query", "datasource": {"type": "prometheus", "uid": "${source}"}, "query": query,
            "definition": query, "includeAll": True, "multi": True, "refresh": 2,
            "current": {"text": "All", "value": "$__all"}}


def dashboard(name):
    title, about, by_service, panels = DASHBOARDS[name]
    variables = [{"name": "source", "label": "Data source", "type": "datasource", "query": "prometheus"}]
    if by_service:
        variables += [variable("namespace", f"label_values({DURATION}_count, namespace)"),
                      variable("service", f'label_values({DURATION}_count{{namespace=~"$namespace"}}, service)')]
    drawn = []
    for i, (heading, unit, queries, says) in enumerate(panels):
        drawn.append({
            "id": i + 1, "type": "timeseries", "title": heading, "description": says,
            "datasource": {"type": "prometheus", "uid": "${source}"},
            "gridPos": {"h": 8, "w": 12, "x": 12 * (i % 2), "y": 8 * (i // 2)},
            "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": {"fillOpacity": 5, "showPoints": "never"}},
                            "overrides": []},
            "options": {"legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
                        "tooltip": {"mode": "multi", "sort": "desc"}},
            "targets": [{"refId": chr(ord("A") + j), "expr": expr, "legendFormat": legend,
                         "datasource": {"type": "prometheus", "uid": "${source}"}}
                        for j, (expr, legend) in enumerate(queries)]})
    return {"uid": f"ballast-{name}", "title": title, "description": f"{about}. Ballast {version()}.",
            "tags": ["ballast", f"ballast-{version()}"], "schemaVersion": 39, "version": 1, "editable": True,
            "refresh": "10s", "time": {"from": "now-30m", "to": "now"}, "timezone": "browser",
            "templating": {"list": variables}, "panels": drawn}


def check(file):
    try:
        found = json.loads(pathlib.Path(file).read_text())
        made_by = next(tag.removeprefix("ballast-") for tag in found["tags"] if tag.startswith("ballast-"))
        wanted = dashboard(found["uid"].removeprefix("ballast-"))
    except (OSError, ValueError, KeyError, StopIteration) as error:
        return f"{file}: is no dashboard of Ballast: {error!r}"
    if made_by != version():
        return f"{file}: is of Ballast {made_by}, and this is {version()}: run deploy/dashboards/make.py"
    return "" if found == wanted else f"{file}: is not what deploy/dashboards/make.py makes: run it"


def main():
    if sys.argv[1:2] == ["--check"]:
        wrong = [said for said in map(check, sys.argv[2:] or [HERE / f"{name}.json" for name in DASHBOARDS]) if said]
        sys.exit("\n".join(wrong) if wrong else 0)
    for name in DASHBOARDS:
        (HERE / f"{name}.json").write_text(json.dumps(dashboard(name), indent=1) + "\n")


if __name__ == "__main__":
    main()
