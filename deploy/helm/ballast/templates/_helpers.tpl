{{/* SPDX-License-Identifier: Apache-2.0 */}}
{{- define "ballast.labels" -}}
app.kubernetes.io/name: ballast
app.kubernetes.io/part-of: ballast
{{- end }}

{{- define "ballast.image" -}}
{{ .root.Values.image.registry }}/{{ .name }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{- define "ballast.pull" -}}
imagePullPolicy: {{ .Values.image.pullPolicy }}
# What a program that could not start said last stands in the pod's status.
terminationMessagePolicy: FallbackToLogsOnError
{{- end }}

{{/* What every container of ours may not do. */}}
{{- define "ballast.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* ballastd.yaml: the file, then what belongs together, then the user's keys. */}}
{{- define "ballast.config" -}}
{{- $config := .Files.Get "files/ballastd.yaml" | fromYaml }}
{{- if .Values.metrics.enabled }}
{{- $_ := set $config "metrics" "0.0.0.0:9464" }}
{{- $_ := set $config "metrics_beyond_loopback" true }}
{{- end }}
{{- if .Values.learner.enabled }}
{{- $_ := set $config "learner" (dict "socket" "unix:/run/ballast/learner.sock") }}
{{- end }}
{{- $_ := set $config "fleet" (dict "remote" (include "ballast.global" .) "tls_ca" "/etc/ballast-ca/ca.crt" "token_file" "/var/run/secrets/ballast/token") }}
{{- if .Values.istioFast.enabled }}
{{- $_ := set $config "kubernetes" (dict "istio_fast" true "istio_root_namespace" .Values.istioFast.rootNamespace) }}
{{- end }}
{{- if dig "policy" "parameters" "" .Values.config }}
{{- $_ := set $config "policy" (dict "name" "learned") }}
{{- end }}
{{- mergeOverwrite $config .Values.config | toYaml }}
{{- end }}

{{/* Headless: gRPC dials the replicas in turn, and the one that leads answers. */}}
{{- define "ballast.global" -}}
dns:///ballast-global.{{ .Release.Namespace }}.svc:7700
{{- end }}

{{/* How a caller proves itself to ballast-global, and ballast-global to it. */}}
{{- define "ballast.proofs" -}}
- {name: ca, mountPath: /etc/ballast-ca, readOnly: true}
- {name: proof, mountPath: /var/run/secrets/ballast, readOnly: true}
{{- end }}
{{- define "ballast.proof-volumes" -}}
{{- with .Values.certificates.secret }}
- name: ca
  secret: {secretName: {{ . }}, items: [{key: ca.crt, path: ca.crt}]}
{{- else }}
# ballast-global makes and rotates it; until it has, agents measure alone.
- name: ca
  configMap: {name: ballast-ca, optional: true}
{{- end }}
- name: proof
  projected:
    sources:
      - serviceAccountToken: {path: token, audience: ballast, expirationSeconds: 3600}
{{- end }}

{{/* For a Prometheus that scrapes by annotations; the operator's PodMonitor has the ports by name. */}}
{{- define "ballast.scrape" -}}
{{- if and .root.Values.metrics.enabled (not .root.Values.metrics.podMonitor) -}}
prometheus.io/scrape: "true"
prometheus.io/port: {{ .port | quote }}
{{- end }}
{{- end }}
