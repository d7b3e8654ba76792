// Custom resource definitions that manifests of ours use and no test of ours installs: read from the modules, not built.
module ballast.example/cluster/crds

go 1.26.0

require (
	github.com/openshift/api v0.0.0-20260501191448-a49973eaef53
	github.com/prometheus-operator/prometheus-operator v0.85.0
)
