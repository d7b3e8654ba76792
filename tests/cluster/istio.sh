#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tests/cluster/istio.sh: Istio by its own chart, istiod as a pod that injects sidecars (pilot-agent and the Envoy that
# the tree pins, which has none of Istio's own filters: what would configure them is off).
set -euo pipefail
. "$(dirname "$0")/env.sh"
charts=$(istio_source)/manifests/charts
k create namespace istio-system --dry-run=client -o yaml | k apply -f - >/dev/null
cat >"$run/istio-values.yaml" <<'V'
autoscaleEnabled: false
resources: {requests: {cpu: 20m, memory: 128Mi}}
env: {PILOT_ENABLE_METADATA_EXCHANGE: "false", PILOT_ENABLE_ALPN_FILTER: "false", PILOT_ENABLE_TELEMETRY_LABEL: "false"}
telemetry: {enabled: false}
meshConfig: {accessLogFile: "", enablePrometheusMerge: false}
global:
  hub: localhost
  tag: "1"
  imagePullPolicy: Never
  proxy: {resources: {requests: {cpu: 50m, memory: 40Mi}, limits: {cpu: 2000m, memory: 512Mi}}}
  proxy_init: {resources: {requests: {cpu: 10m, memory: 10Mi}, limits: {cpu: 2000m, memory: 512Mi}}}
V
helm template istiod "$charts/istio-control/istio-discovery" --kube-version 1.36.1 --namespace istio-system \
  -f "$run/istio-values.yaml" >"$run/istio.yaml"
k apply --server-side -f "$run/istio.yaml" >/dev/null
k -n istio-system rollout status deploy/istiod --timeout=180s
# istiod writes its authority into the webhook that injects.
injects() { [ -n "$(k get mutatingwebhookconfigurations -o jsonpath="{.items[*].webhooks[*].clientConfig.caBundle}")" ]; }
eventually 60 injects
