# SPDX-License-Identifier: Apache-2.0
"""What the examples share: pods in cgroups of their own, ballastd beside them, an Envoy in front, a little load.

Everything that a run makes bears its own name and goes with it, whatever happened.
"""
import argparse
import hashlib
import http.client
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
CACHE = pathlib.Path(os.environ.get("BALLAST_CACHE") or
                     pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "ballast")
V2 = pathlib.Path("/sys/fs/cgroup/unified" if pathlib.Path("/sys/fs/cgroup/unified").exists() else "/sys/fs/cgroup")
V1_CPU = pathlib.Path("/sys/fs/cgroup/cpu")
PERIOD_US = 20_000


class Missing(Exception):
    """Something that this example needs cannot be had: said once, exit code 3."""


class Built(Exception):
    """All that --build asks for."""


def go_program(name, package, version=None, source=None):
    """A program from its Go module, built once, outside of the tree: by its version, or as the module `source` requires it."""
    if source:
        text = b"".join(path.read_bytes() for path in sorted(source.glob("*.go")) + [source / "go.mod", source / "go.sum"])
        version = hashlib.sha256(text).hexdigest()[:16]
    program = CACHE / "examples" / f"{name}-{version}"
    if not program.exists():
        if not shutil.which("go"):
            raise Missing(f"{name} is built from its Go module: no Go here")
        program.parent.mkdir(parents=True, exist_ok=True)
        print(f"building {name} from its Go module", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            command = ["go", "build", "-o", folder + "/", package] if source else ["go", "install", f"{package}@{version}"]
            limit = float(os.environ.get("BALLAST_EXAMPLE_BUILD_S", 1800))
            try:
                built = subprocess.run([*command[:2], "-ldflags", "-s -w", *command[2:]], cwd=source or "/", check=False,
                                       capture_output=True, text=True, timeout=limit,
                                       env=dict(os.environ, GOBIN=folder, GOFLAGS="-buildvcs=false -mod=readonly" if source else "-buildvcs=false", GOWORK="off"))
            except subprocess.TimeoutExpired as error:
                raise Missing(f"{name} is not built from its Go module in {limit:.0f} s") from error
            if built.returncode != 0:
                raise Missing(f"{name} does not build from its Go module: {built.stderr[-500:]}")
            new = next(pathlib.Path(folder).iterdir())
            shutil.copy(new, f"{program}.new")
            os.replace(f"{program}.new", program)
    return program


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def tear_down(processes, ballastd, bpffs, groups):
    """Ends what a run started, and leaves the kernel, the mounts and the cgroups as they were."""
    for process in reversed(processes):
        process.terminate()
    for process in reversed(processes):
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if bpffs.exists():
        subprocess.run([ballastd, "--bpffs", bpffs, "--unload"], check=False, capture_output=True)
        if os.path.ismount(bpffs):
            subprocess.run(["umount", "-l", bpffs], check=False, capture_output=True)
    for group in sorted(groups, key=lambda g: -len(g.parts)):
        for _ in range(50):
            try:
                group.rmdir()
            except FileNotFoundError:
                break
            except OSError:  # its last process is still on its way out
                time.sleep(0.1)
            else:
                break


class Example:
    def __init__(self, about, seconds=30, more=None):
        parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--seconds", type=int, default=seconds, help="of load")
        parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build/release/bin")
        parser.add_argument("--build", action="store_true", help="only build what comes from a Go module, for a later run")
        for flag, settings in (more or {}).items():
            parser.add_argument(flag, **settings)
        self.flags = parser.parse_args()
        self.bin = self.flags.bin.resolve()
        self.processes, self.pods, self.groups = [], [], []
        self.name = f"ballast-example-{os.getpid()}"
        self.bpffs = pathlib.Path("/sys/fs/bpf") / self.name
        self.folder = None

    def run(self, body):
        """Exit code 0 done, 1 failed, 3 where something is missing."""
        code = 0
        with tempfile.TemporaryDirectory() as folder:
            self.folder = pathlib.Path(folder)
            try:
                if os.geteuid() != 0 and not self.flags.build:
                    raise Missing("it makes cgroups and loads eBPF: run it as root")
                if not (self.bin / "ballastd").exists() and not self.flags.build:
                    raise Missing(f"{self.bin}/ballastd is not built (tools/build.sh)")
                body(self)
            except Missing as missing:
                print(f"example: {missing}", file=sys.stderr)
                code = 3
            except (Built, KeyboardInterrupt):
                pass
            except (AssertionError, OSError, subprocess.SubprocessError) as error:
                print(f"example: {error}", file=sys.stderr)
                for log in sorted(self.folder.glob("*.log")):
                    print(f"--- the end of {log.name}\n{log.read_text(errors='replace')[-1500:]}", file=sys.stderr)
                code = 1
            finally:
                self.end()
        sys.exit(code)

    def program(self, *module, **settings):
        """go_program(); --build ends here."""
        built = go_program(*module, **settings)
        if self.flags.build:
            raise Built
        return built

    def end(self):
        tear_down(self.processes, self.bin / "ballastd", self.bpffs, self.groups)

    def start(self, name, command, groups=(), env=None):
        def enter():
            for group in groups:
                (group / "cgroup.procs").write_text(str(os.getpid()))
        with open(self.folder / f"{name}.log", "ab") as log:
            self.processes.append(subprocess.Popen([str(word) for word in command], stdout=log, stderr=log, preexec_fn=enter,
                                                   env=dict(os.environ, **(env or {}))))
        return self.processes[-1]

    def pod(self, name, service, address, port, quota, command, env=None):
        """A process in a cgroup of its own with `quota` CPUs, and its line in the identity file."""
        groups = [V2 / self.name / name] + ([V1_CPU / self.name / name] if V1_CPU.exists() else [])
        for group in groups:
            group.mkdir(parents=True, exist_ok=True)
            self.groups += [g for g in (group, group.parent) if g not in self.groups]
        if V1_CPU.exists():
            (groups[-1] / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (groups[-1] / "cpu.cfs_quota_us").write_text(str(int(quota * PERIOD_US)))
        else:
            for parent in (V2, V2 / self.name):
                (parent / "cgroup.subtree_control").write_text("+cpu")
            (groups[0] / "cpu.max").write_text(f"{int(quota * PERIOD_US)} {PERIOD_US}")
        self.pods.append({"cgroup": f"/{self.name}/{name}", "pod": name, "namespace": "example", "service": service,
                          "address": address, "port": port})
        return self.start(name, command, groups, env)

    def ballastd(self, xds=None, **settings):
        identity = self.folder / "pods.yaml"
        identity.write_text(json.dumps({"pods": self.pods}))  # which is YAML too
        config = {"bpffs": str(self.bpffs), "identity": f"static:{identity}", "mode": "active" if xds else "off",
                  **({"sink": f"xds:127.0.0.1:{xds}"} if xds else {}), **settings}
        file = self.folder / "ballastd.yaml"
        file.write_text(json.dumps(config))
        agent = self.start("ballastd", [self.bin / "ballastd", "--config", file])
        self.wait(lambda: self.ctl("status", "--alive", check=False).returncode == 0, agent, "ballastd", 120)
        return agent

    def envoy(self, service, xds, listen):
        envoy = os.environ.get("BALLAST_ENVOY") or ROOT / "build/venv/bin/envoy-binary"
        if not pathlib.Path(envoy).exists():
            raise Missing("no Envoy: tools/deps.sh brings it")
        admin = free_port()
        text = (ROOT / "examples/envoy/envoy.yaml").read_text()
        for key, value in {"LISTEN_PORT": listen, "ADMIN_PORT": admin, "XDS_PORT": xds, "SERVICE": f"example/{service}"}.items():
            text = text.replace(key, str(value))
        file = self.folder / "envoy.yaml"
        file.write_text(text)
        proxy = self.start("envoy", [envoy, "-c", file, "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warn"])
        self.wait(lambda: self.answers(listen), proxy, "Envoy with an endpoint", 90)

    @staticmethod
    def answers(port, path="/"):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", path)
            return connection.getresponse().status < 503
        except OSError:
            return False

    @staticmethod
    def listens(address, port):
        try:
            socket.create_connection((address, port), timeout=5).close()
        except OSError:
            return False
        return True

    @staticmethod
    def wait(condition, process, what, seconds):
        until = time.monotonic() + seconds
        while not condition():
            assert process.poll() is None, f"{what} has ended with {process.returncode}"
            assert time.monotonic() < until, f"no {what} after {seconds} s"
            time.sleep(0.2)

    def load(self, port, path, clients=8, pause=0.02):
        """Every client sends the next request `pause` seconds after the answer before; {status: count}."""
        print(f"{clients} clients, {self.flags.seconds} s of GET {path}", flush=True)
        counts, lock, until = {}, threading.Lock(), time.monotonic() + self.flags.seconds

        def client():
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            while time.monotonic() < until:
                try:
                    connection.request("GET", path)
                    answer = connection.getresponse()
                    answer.read()
                    status = answer.status
                except (OSError, http.client.HTTPException):
                    connection.close()
                    status = 0
                with lock:
                    counts[status] = counts.get(status, 0) + 1
                time.sleep(pause)

        threads = [threading.Thread(target=client) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print("answers by status:", counts, flush=True)
        return counts

    def ctl(self, *verb, check=True):
        return subprocess.run([self.bin / "ballastctl", "--bpffs", self.bpffs, *verb], capture_output=True, text=True,
                              check=check)

    def show(self, *verbs):
        for verb in verbs:
            said = self.ctl(*verb.split())
            print(f"\n$ ballastctl {verb}\n{said.stdout}", flush=True)

    def json(self, *verb):
        return json.loads(self.ctl(*verb, "-o", "json").stdout)

    def counted(self, service):
        """Requests that the kernel counted at the pods of a service, by pod."""
        out = {}
        for row in self.json("requests"):
            if row["service"] == service and row["role"] == "server":
                out[row["pod"]] = out.get(row["pod"], 0) + row["requests"]
        return out
