#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kubeflow_test.py objects|pipeline|train|katib BIN: deploy/kubeflow against the real thing.

objects   every object against Kubeflow's own CRDs on a real kube-apiserver; a broken one is refused
pipeline  pipeline.py compiled by kfp; objects read by Kubeflow's own Python models, KServe's too
train     the commands of the TrainJob as processes: four workers, one global network, and the gate
katib     the command of a trial as a process, its log read by Katib's own collector
"""
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy/kubeflow"
CACHE = pathlib.Path(os.environ.get("BALLAST_CACHE") or
                     pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "ballast")
BIN = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else ROOT / "build/release/bin").resolve()
TRAINER, KATIB = "github.com/kubeflow/trainer/v2@v2.3.0", "github.com/kubeflow/katib@v0.19.0"
PYTHON = ["kfp==2.17.3", "kubeflow-trainer-api==2.3.0", "kubeflow-katib-api==0.19.0"]
KSERVE = ["kserve==0.21.0", "six"]  # its models alone: without the servers that it brings


class Skip(Exception):
    pass


def within(seconds, command, **options):
    """What is fetched or built once on a machine may take so long in a test (BALLAST_TEST_BUILD_S), and no longer."""
    seconds = float(os.environ.get("BALLAST_TEST_BUILD_S", seconds))
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds, **options)
    except subprocess.TimeoutExpired as error:
        raise Skip(f"{' '.join(str(word) for word in command[:4])} ... was not done in {seconds:.0f} s") from error


def documents(name):
    return [d for d in yaml.safe_load_all((DEPLOY / name).read_text()) if d]


def go_module(module):
    if not shutil.which("go"):
        raise Skip("no Go")
    # Outside of the tree: no go.mod there is asked.
    told = subprocess.run(["go", "mod", "download", "-json", module], capture_output=True, text=True, cwd="/",
                          check=False)
    if told.returncode != 0:
        raise Skip(f"the Go proxy does not give {module}: {told.stdout[-300:]}{told.stderr[-300:]}")
    return pathlib.Path(json.loads(told.stdout)["Dir"])


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class ApiServer:
    """etcd and kube-apiserver on loopback; `kubectl` says what it answers."""

    def __init__(self, folder):
        self.folder, self.processes = folder, []
        if subprocess.run([ROOT / "tools/mesh/build.sh", "--check", "kube-apiserver", "kubectl"],
                          check=False).returncode != 0:
            raise Skip("kube-apiserver is not built (tools/mesh/build.sh kube-apiserver kubectl)")
        self.programs = ROOT / "build/mesh"
        client, peer, self.port = free_ports(3)
        self.start("etcd", "--unsafe-no-fsync", f"--data-dir={folder}/etcd", f"--listen-client-urls=http://127.0.0.1:{client}",
                   f"--advertise-client-urls=http://127.0.0.1:{client}", f"--listen-peer-urls=http://127.0.0.1:{peer}",
                   f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
                   f"--initial-cluster=default=http://127.0.0.1:{peer}")
        subprocess.run(["openssl", "genrsa", "-out", f"{folder}/a.key", "2048"], check=True, stderr=subprocess.DEVNULL)
        (folder / "tokens.csv").write_text("t0ken,admin,admin,system:masters\n")
        self.start(self.programs / "kube-apiserver", f"--etcd-servers=http://127.0.0.1:{client}", "--bind-address=127.0.0.1",
                   "--advertise-address=127.0.0.1", f"--secure-port={self.port}", f"--cert-dir={folder}/certs",
                   f"--token-auth-file={folder}/tokens.csv", "--authorization-mode=RBAC",
                   "--service-cluster-ip-range=10.96.0.0/16", "--endpoint-reconciler-type=none",
                   "--disable-admission-plugins=ServiceAccount",
                   "--service-account-issuer=https://kubernetes.default.svc",
                   f"--service-account-key-file={folder}/a.key", f"--service-account-signing-key-file={folder}/a.key")
        for _ in range(240):
            if self.kubectl("get", "--raw", "/readyz").returncode == 0:
                return
            if self.processes[-1].poll() is not None:
                break
            time.sleep(0.5)
        raise AssertionError("kube-apiserver is not ready: " + (folder / "kube-apiserver.log").read_text()[-1500:])

    def start(self, program, *arguments):
        name = pathlib.Path(program).name
        if not shutil.which(program):
            raise Skip(f"{name} is not installed")
        with open(self.folder / f"{name}.log", "wb") as log:
            self.processes.append(subprocess.Popen([str(program), *arguments], stdout=log, stderr=log))

    def kubectl(self, *arguments, text=None):
        return subprocess.run([self.programs / "kubectl", f"--server=https://127.0.0.1:{self.port}", "--token=t0ken",
                               "--insecure-skip-tls-verify", f"--cache-dir={self.folder}/kubectl", *arguments], input=text,
                              capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"], "HOME": "/none"})

    def stop(self):
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def objects():
    crds = sorted((go_module(TRAINER) / "manifests/base/crds").glob("trainer.*.yaml"))
    crds += [go_module(KATIB) / f"manifests/v1beta1/components/crd/{name}.yaml" for name in ("experiment", "trial")]
    with tempfile.TemporaryDirectory() as name:
        api = None
        try:
            api = ApiServer(pathlib.Path(name))
            done = api.kubectl("create", *[f"--filename={crd}" for crd in crds])
            assert done.returncode == 0, done.stderr
            kinds = [yaml.safe_load(crd.read_text())["metadata"]["name"] for crd in crds]
            done = api.kubectl("wait", "--for=condition=Established", "--timeout=60s", *[f"crd/{kind}" for kind in kinds])
            assert done.returncode == 0, done.stderr
            for file in ("namespace", "runtime", "trainjob", "experiment"):
                done = api.kubectl("create", "--validate=strict", f"--filename={DEPLOY / file}.yaml")
                print(done.stdout, end="")
                assert done.returncode == 0, f"{file}: {done.stderr}"
            kept = json.loads(api.kubectl("get", "clustertrainingruntime", "ballast-a3c", "-o", "json").stdout)
            assert [j["name"] for j in kept["spec"]["template"]["spec"]["replicatedJobs"]] == ["global", "node"], kept
            # What must be refused is refused: the check can fail.
            broken = documents("trainjob.yaml")[0]
            broken["metadata"]["name"] = "broken"
            broken["spec"]["trainer"]["numNodes"] = "four"
            refused = api.kubectl("create", "--validate=strict", "--filename=-", text=json.dumps(broken))
            assert refused.returncode != 0 and "numNodes" in refused.stderr, refused
        finally:
            if api:
                api.stop()


def venv():
    """Kubeflow's packages, outside the tree and made once."""
    home = CACHE / "kubeflow" / re.sub(r"[^a-z0-9.]+", "-", " ".join(PYTHON + KSERVE))
    python = home / "bin/python"
    if not (home / "whole").exists():
        shutil.rmtree(home, ignore_errors=True)
        home.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        for arguments in (PYTHON, ["--no-deps", *KSERVE]):
            done = within(120, [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments])
            if done.returncode != 0:
                raise Skip(f"PyPI does not give {' '.join(arguments)}: {done.stderr[-300:]}")
        (home / "whole").touch()
    return python


MODELS = """
import importlib, inspect, json, pathlib, sys, types, yaml
def read(file):
    return [d for d in yaml.safe_load_all(pathlib.Path(sys.argv[1], file).read_text()) if d]
from kubeflow_trainer_api import models as trainer
from kubeflow_katib_api import models as katib
runtime = trainer.TrainerV1alpha1ClusterTrainingRuntime.from_dict(read("runtime.yaml")[0])
assert runtime.spec.ml_policy.num_nodes == 4
job = trainer.TrainerV1alpha1TrainJob.from_dict(read("trainjob.yaml")[0])
assert job.spec.trainer.num_nodes == 4 and job.spec.runtime_ref.name == runtime.metadata.name
experiment = katib.V1beta1Experiment.from_dict(read("experiment.yaml")[0])
assert experiment.spec.objective.objective_metric_name == "evaluation"
# KServe's generated models, without the servers that its package brings.
import importlib.util
where = pathlib.Path(importlib.util.find_spec("kserve").submodule_search_locations[0])
for name, path in (("kserve", where), ("kserve.models", where / "models")):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [str(path)]
def known(kind, given):
    parts = {"V1beta1InferenceService": "v1beta1_inference_service", "V1beta1InferenceServiceSpec":
             "v1beta1_inference_service_spec", "V1beta1PredictorSpec": "v1beta1_predictor_spec",
             "V1beta1ModelSpec": "v1beta1_model_spec"}
    if kind not in parts:
        return
    model = getattr(importlib.import_module("kserve.models." + parts[kind]), kind)
    types_of = {json_name: model.openapi_types[name] for name, json_name in model.attribute_map.items()}
    for key, value in given.items():
        assert key in types_of, f"{kind} has no {key}"
        known(types_of[key], value)
service = read("inferenceservice.yaml")[0]
known("V1beta1InferenceService", service)
try:
    known("V1beta1InferenceService", {"spec": {"predictor": {"minReplica": 4}}})
except AssertionError as error:
    assert "minReplica" in str(error)
else:
    raise AssertionError("a wrong key was not seen")
print("models: TrainJob, ClusterTrainingRuntime, Experiment, InferenceService")
"""


def pipeline():
    python = venv()
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder, "pipeline.yaml")
        subprocess.run([python, DEPLOY / "pipeline.py", out], check=True)
        compiled = next(yaml.safe_load_all(out.read_text()))
        tasks = compiled["root"]["dag"]["tasks"]
        after = {name: sorted(task.get("dependentTasks", [])) for name, task in tasks.items()}
        assert after == {"train": [], "gate": ["train"], "release": ["gate", "train"]}, after
        commands = {name: e["container"]["command"] for name, e in compiled["deploymentSpec"]["executors"].items()}
        assert commands["exec-train"][:2] == ["ballast-bench", "train"], commands
        # Flags that ballast-bench has.
        for name in ("train", "gate"):
            flags = [a for a in compiled["deploymentSpec"]["executors"][f"exec-{name}"]["container"]["args"]
                     if a.startswith("--")]
            usage = subprocess.run([BIN / "ballast-bench", name, "--help"], capture_output=True, text=True, check=True).stdout
            assert all(flag in usage for flag in flags), (flags, usage)
    subprocess.run([python, "-c", MODELS, DEPLOY], check=True)


def filled(words, values):
    out = []
    for word in words:
        for key, value in values.items():
            word = word.replace(key, str(value))
        assert "$(" not in word and "${" not in word, word
        out.append(word)
    return [str(BIN / out[0]), *out[1:]]


def train():
    runtime, job = documents("runtime.yaml")[0]["spec"], documents("trainjob.yaml")[0]
    jobs = {j["name"]: j["template"]["spec"]["template"]["spec"] for j in runtime["template"]["spec"]["replicatedJobs"]}
    port, operations = free_ports(2)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        server_name = f"{job['metadata']['name']}-global-0-0.{job['metadata']['name']}:7700"
        assert server_name in job["spec"]["trainer"]["command"], "workers do not name the job's own server"
        command = filled(jobs["global"]["containers"][0]["command"],
                         {"0.0.0.0:7700": f"127.0.0.1:{port}", "/state": folder / "state"})
        with open(folder / "global.log", "wb") as log:
            server = subprocess.Popen([*command, "--operations", f"127.0.0.1:{operations}"], stdout=log, stderr=log)
        workers = []
        try:
            for i in range(job["spec"]["trainer"]["numNodes"]):
                command = filled(job["spec"]["trainer"]["command"],
                                 {"$(JOB_COMPLETION_INDEX)": i, server_name: f"127.0.0.1:{port}", "/parameters": folder})
                command[command.index("--steps") + 1] = "400"
                with open(folder / f"worker-{i}.log", "wb") as log:
                    workers.append(subprocess.Popen(command, stdout=log, stderr=log))
            for i, worker in enumerate(workers):
                code = worker.wait(240)
                said = (folder / f"worker-{i}.log").read_text()
                assert code == 0, said
                print(said.strip().splitlines()[-1])
                last = dict(re.findall(r"(\w+)=(\S+)", said.strip().splitlines()[-1]))
                assert int(last["accepted"]) > 0 and int(last["version"]) > 0, last
                assert (folder / f"worker-{i}.bin").stat().st_size > 10_000
        finally:
            for process in [*workers, server]:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
            server.wait(20)
        said = (folder / "global.log").read_text()
        assert "workers=4" in said, said[-2000:]
        # The pipeline's gate; one scenario and seed, since this is about the door and not about these parameters.
        judged = subprocess.run([BIN / "ballast-bench", "gate", "--candidate", folder / "worker-0.bin", "--scenario", "static",
                                 "--seeds", "1001..1002", "--output", folder / "gate.json"], capture_output=True, text=True,
                                check=False, timeout=400)
        print(judged.stdout[-1500:], judged.stderr[-500:])
        assert judged.returncode in (0, 1), judged
        assert (folder / "gate.json").exists(), judged
        if judged.returncode == 1:
            assert (judged.stdout + judged.stderr).strip(), "refused without a reason"


def katib():
    modules = ROOT / "tests/paper/kubeflow/katib"
    go_module(KATIB)
    collector = CACHE / "kubeflow/katib-collector-v0.19.0"
    if not collector.exists():
        collector.parent.mkdir(parents=True, exist_ok=True)
        built = within(120, ["go", "build", "-o", f"{collector}.new", "."], cwd=modules,
                       env=dict(os.environ, GOFLAGS="-mod=readonly -buildvcs=false", GOWORK="off"))
        if built.returncode != 0:
            raise Skip(f"Katib's collector does not build here: {built.stderr[-500:]}")
        os.replace(f"{collector}.new", collector)
    # Katib's CRD keeps whatever it is given; its types do not.
    experiment = documents("experiment.yaml")[0]
    spec = experiment["spec"]
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "experiment.json")
        file.write_text(json.dumps(experiment))
        subprocess.run([collector, "read", file], check=True)
        file.write_text(json.dumps(experiment).replace("objectiveMetricName", "objectiveMetric"))
        refused = subprocess.run([collector, "read", file], capture_output=True, text=True, check=False)
        assert refused.returncode == 1 and "objectiveMetric" in refused.stderr, refused
    space = {p["name"]: p["feasibleSpace"]["min"] for p in spec["parameters"]}
    values = {"${trialParameters.%s}" % p["name"]: space[p["reference"]] for p in spec["trialTemplate"]["trialParameters"]}
    container = spec["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["containers"][0]
    with tempfile.TemporaryDirectory() as folder:
        words = [word.replace("--steps=20000", "--steps=400") for word in container["command"]]
        command = filled(words, {**values, "/out": folder + "/out"})
        command += ["--evaluate-every", "200", "--episodes", "1", "--final-episodes", "1"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=400)
        assert done.returncode == 0, done.stdout
        log = pathlib.Path(folder, "log")
        log.write_text(done.stdout)
        metrics = [spec["objective"]["objectiveMetricName"], *spec["objective"]["additionalMetricNames"]]
        filters = spec["metricsCollectorSpec"]["source"]["filter"]["metricsFormat"]
        assert len(filters) == 1 and re.match(r".*\(.*\).*\(.*\).*", filters[0]), filters  # as its webhook asks
        read = subprocess.run([collector, "collect", log, filters[0], *metrics], capture_output=True, text=True, check=True).stdout
        print(done.stdout + read)
        told = re.findall(r"evaluation\s+(-?[\d.]+)", done.stdout)
        stored = [line.split()[1] for line in read.splitlines() if line.startswith("evaluation ")]
        assert stored and stored == told, (stored, told)


if __name__ == "__main__":
    try:
        {"objects": objects, "pipeline": pipeline, "train": train, "katib": katib}[sys.argv[1]]()
    except Skip as reason:
        print(f"skipped: {reason}")
        sys.exit(77)
