// SPDX-License-Identifier: Apache-2.0

// Katib's own code on our files: its collector on a log, its types on an Experiment.
//
//	katib collect LOG FILTER METRIC...   prints "NAME VALUE" a line, as Katib would store it
//	katib read FILE.json                 fails where the Experiment has a field that Katib's has not
package main

import (
	"encoding/json"
	"fmt"
	"os"

	common "github.com/kubeflow/katib/pkg/apis/controller/common/v1beta1"
	experiments "github.com/kubeflow/katib/pkg/apis/controller/experiments/v1beta1"
	collector "github.com/kubeflow/katib/pkg/metricscollector/v1beta1/file-metricscollector"
)

func collect(log, filter string, metrics []string) error {
	found, err := collector.CollectObservationLog(log, metrics, []string{filter}, common.TextFormat)
	if err != nil {
		return err
	}
	for _, metric := range found.MetricLogs {
		fmt.Println(metric.Metric.Name, metric.Metric.Value)
	}
	return nil
}

func read(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	strict := json.NewDecoder(file)
	strict.DisallowUnknownFields()
	var experiment experiments.Experiment
	if err := strict.Decode(&experiment); err != nil {
		return err
	}
	fmt.Println(experiment.Name, experiment.Spec.Objective.ObjectiveMetricName)
	return nil
}

func main() {
	var err error
	switch {
	case len(os.Args) > 4 && os.Args[1] == "collect":
		err = collect(os.Args[2], os.Args[3], os.Args[4:])
	case len(os.Args) == 3 && os.Args[1] == "read":
		err = read(os.Args[2])
	default:
		err = fmt.Errorf("usage: katib collect LOG FILTER METRIC... | read FILE.json")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
