#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tests/cluster/mesh.sh: istiod, and one Envoy that it tells of the cluster's Services, beside the control plane. The
# Envoy serves port 80 on loopback there, as a sidecar without interception does.
set -euo pipefail
. "$(dirname "$0")/env.sh"
mkdir -p "$run/istio"
k create namespace istio-system --dry-run=client -o yaml | k apply -f - >/dev/null
k apply -f - >/dev/null <<C
apiVersion: v1
kind: Service
metadata: {name: istiod, namespace: istio-system}
spec: {clusterIP: None, ports: [{name: grpc-xds, port: 15010}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: istiod-1, namespace: istio-system, labels: {kubernetes.io/service-name: istiod}}
addressType: IPv4
ports: [{name: grpc-xds, port: 15010, protocol: TCP}]
endpoints: [{addresses: [$api], conditions: {ready: true}}]
C
printf 'enableAutoMtls: false\naccessLogFile: ""\n' >"$run/istio/mesh.yaml"
env ENABLE_CA_SERVER=false INJECT_ENABLED=false VALIDATION_WEBHOOK_CONFIG_NAME= PILOT_ENABLE_METADATA_EXCHANGE=false \
  PILOT_ENABLE_ALPN_FILTER=false POD_NAMESPACE=istio-system POD_NAME=istiod \
  nsenter --net=/run/netns/ballast-cp setsid "$mesh/pilot-discovery" discovery --kubeconfig="$KUBECONFIG" \
  --registries=Kubernetes --clusterID=Kubernetes -n istio-system --meshConfig="$run/istio/mesh.yaml" \
  --grpcAddr="$api:15010" --httpAddr=127.0.0.1:8081 --httpsAddr= --secureGRPCAddr= --monitoringAddr=127.0.0.1:15014 \
  --ctrlz_port=0 >"$run/logs/istiod.log" 2>&1 </dev/null &
echo "$!" >>"$run/control.pids"
eventually 120 in_control curl -fsS -m 2 http://127.0.0.1:8081/ready
python3 - "$api" >"$run/istio/envoy.json" <<'P'
import json
import sys
api = sys.argv[1]
ads = {'ads': {}, 'resource_api_version': 'V3', 'initial_fetch_timeout': '0s'}
http2 = {'@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
         'explicit_http_config': {'http2_protocol_options': {}}}
xds = {'name': 'xds-grpc', 'type': 'STATIC', 'connect_timeout': '1s',
       'typed_extension_protocol_options': {'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': http2},
       'load_assignment': {'cluster_name': 'xds-grpc', 'endpoints': [{'lb_endpoints': [{'endpoint': {'address': {
           'socket_address': {'address': api, 'port_value': 15010}}}}]}]}}
print(json.dumps({
    'node': {'id': f'sidecar~{api}~client.shop~shop.svc.cluster.local', 'cluster': 'client.shop', 'metadata': {
        'NAMESPACE': 'shop', 'CLUSTER_ID': 'Kubernetes', 'ISTIO_VERSION': '1.32.0', 'LABELS': {'app': 'client'},
        'INSTANCE_IPS': api, 'INTERCEPTION_MODE': 'NONE'}},
    'admin': {'address': {'socket_address': {'address': '127.0.0.1', 'port_value': 15000}}},
    'dynamic_resources': {'lds_config': ads, 'cds_config': ads, 'ads_config': {
        'api_type': 'GRPC', 'transport_api_version': 'V3', 'set_node_on_first_message_only': True,
        'grpc_services': [{'envoy_grpc': {'cluster_name': 'xds-grpc'}}]}},
    'static_resources': {'clusters': [xds]}}))
P
# Envoy ends with who started it, so that somebody has to wait for it.
nsenter --net=/run/netns/ballast-cp setsid bash -c '"$@" & wait' _ "$root/build/venv/bin/envoy-binary" \
  -c "$run/istio/envoy.json" --concurrency 1 --use-dynamic-base-id --log-level warning \
  >"$run/logs/envoy.log" 2>&1 </dev/null &
echo "$!" >>"$run/control.pids"
eventually 60 in_control curl -fsS -m 2 http://127.0.0.1:15000/ready
