#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""pipeline.py FILE.yaml: the pipeline train -> gate -> release for Kubeflow Pipelines (kfp 2.x), compiled.

train learns by A3C in the simulator's training set; gate holds the candidate against the capacity prior and the shipped
parameters on held-out scenarios (model/policy/README.md) and fails, with its table in the log, where it may not be
released; release writes it to the ConfigMap ballast-parameters, which only runs after the gate. An agent takes it by
`policy: {parameters: FILE}`, a global network by --initial.
"""
import sys

from kfp import compiler, dsl

IMAGE = "localhost/ballast-bench:0.1.0"


@dsl.container_component
def train(steps: int, workers: int, seed: int, out: dsl.Output[dsl.Artifact]):
    return dsl.ContainerSpec(image=IMAGE, command=["ballast-bench", "train", "--algo", "a3c", "--env", "sim"],
                             args=["--steps", steps, "--workers", workers, "--seed", seed, "--out", out.path])


@dsl.container_component
def gate(trained: dsl.Input[dsl.Artifact], seeds: str, report: dsl.Output[dsl.Artifact]):
    return dsl.ContainerSpec(image=IMAGE, command=["ballast-bench", "gate"],
                             args=["--candidate", f"{trained.path}/parameters.bin", "--seeds", seeds,
                                   "--output", report.path])


@dsl.component(base_image="python:3.12-slim", packages_to_install=["kubernetes==31.0.0"])
def release(trained: dsl.Input[dsl.Artifact], namespace: str):
    import base64
    import pathlib

    from kubernetes import client, config
    config.load_incluster_config()
    raw = pathlib.Path(trained.path, "parameters.bin").read_bytes()
    body = {"metadata": {"name": "ballast-parameters"},
            "binaryData": {"parameters.bin": base64.b64encode(raw).decode()}}
    api = client.CoreV1Api()
    try:
        api.patch_namespaced_config_map("ballast-parameters", namespace, body)
    except client.ApiException as error:
        if error.status != 404:
            raise
        api.create_namespaced_config_map(namespace, body)


@dsl.pipeline(name="ballast-policy", description="Learn, prove and release a policy of Ballast.")
def pipeline(steps: int = 2_000_000, workers: int = 4, seed: int = 1, seeds: str = "1001..1010",
             namespace: str = "ballast-training"):
    trained = train(steps=steps, workers=workers, seed=seed)
    judged = gate(trained=trained.outputs["out"], seeds=seeds)
    release(trained=trained.outputs["out"], namespace=namespace).after(judged)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    compiler.Compiler().compile(pipeline, sys.argv[1])
