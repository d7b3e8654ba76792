# SPDX-License-Identifier: Apache-2.0
"""The pieces that a run is made of: cgroups, processes, nginx, the agent, a namespace."""
import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import time

NGINX = """daemon off; master_process off; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/error.log crit;
worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 300; client_max_body_size 8m;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi; client_body_buffer_size 2m;
  http2_max_requests 1000000000; http2_max_concurrent_streams 256; default_type text/plain; lingering_close off;
  server {{
    listen {address}:{port}{listens}; listen {address}:{h2} http2;
    location / {{ return 200 "hello\\n"; }}
    # A POST to a file: answered as a GET, in chunks where gzip is accepted.
    location /file {{ root {dir}; error_page 405 =200 $uri; gzip on; gzip_min_length 1; gzip_types *; }}
    location /big {{ root {dir}; sendfile on; }}
  }}
}}
"""


class Failed(RuntimeError):
    """A run that could not be made; the message says why."""


def cgroup_root():
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        head, tail = line.split(" - ")
        if tail.split()[0] == "cgroup2":
            return pathlib.Path(head.split()[4])
    raise Failed("no cgroup v2 is mounted")


def free_port(address="127.0.0.1"):
    with socket.socket() as s:
        s.bind((address, 0))
        return s.getsockname()[1]


def wait_for(condition, what, seconds=15):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.02)
    raise Failed(f"{what} within {seconds} s")


def accepts(address, port):
    with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=1):
        return True
    return False


class Child:
    """One process, started inside a cgroup (and a namespace) and killed by its own pid."""

    def __init__(self, argv, cgroup=None, namespace=None, log=None, **popen):
        command = ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(cgroup)] if cgroup else []
        if namespace:
            # Not `ip netns exec`: that hides the cgroup mounts.
            command = ["nsenter", f"--net=/run/netns/{namespace}"] + command
        out = open(log, "ab") if log else None
        self.log = log
        self.process = subprocess.Popen(command + [str(a) for a in argv], stdout=popen.pop("stdout", out),
                                        stderr=popen.pop("stderr", out), **popen)

    @property
    def pid(self):
        return self.process.pid

    def stop(self, number=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(number)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_bytes(self):
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        return 0


class Bench:
    """Owns everything that a run leaves behind: close() takes it away again."""

    def __init__(self, binaries, work):
        self.bin = pathlib.Path(binaries).resolve()
        self.agent_bin = self.bin  # whose ballastd and ballastctl run
        self.work = pathlib.Path(work)
        self.root = cgroup_root()
        self.mine = self.root / f"ballast-bench-{os.getpid()}"
        self.mine.mkdir()
        self.count = 0
        self.stack = contextlib.ExitStack()
        self.agent = None
        self.bpffs = self.work / "pins"

    def close(self):
        self.stop_agent()
        self.stack.close()
        for _ in range(200):
            for folder in [*self.mine.glob("*"), self.mine]:
                with contextlib.suppress(OSError):
                    folder.rmdir()
            if not self.mine.exists():
                return
            time.sleep(0.02)

    def cgroup(self, name):
        """A new one each time: its row in the maps begins at zero."""
        self.count += 1
        path = self.mine / f"{name}-{self.count}"
        path.mkdir()
        return path

    @contextlib.contextmanager
    def nginx(self, address="127.0.0.1", namespace=None, listens=""):
        """nginx with one worker in a cgroup of its own; yields (cgroup, port, h2 port, process).
        `listens`: more of its `listen`."""
        group = self.cgroup("server")
        folder = self.work / group.name
        (folder / "file").mkdir(parents=True)
        (folder / "big").mkdir()
        (folder / "file/text").write_text("hello hello hello\n" * 64)
        (folder / "big/1m").write_bytes((b"HTTP/1.1 200 OK\r\n\r\nGET / HTTP/1.1\r\n" * 32768)[:2 ** 20])
        ports = {"port": free_port(), "h2": free_port()}
        (folder / "nginx.conf").write_text(NGINX.format(dir=folder, address=address, listens=listens and f" {listens}", **ports))
        child = Child(["nginx", "-c", folder / "nginx.conf", "-p", folder, "-e", folder / "error.log"], cgroup=group,
                      namespace=namespace, log=folder / "nginx.log")
        try:
            wait_for(lambda: accepts(address, ports["port"]), "nginx listens")
            yield group, ports["port"], ports["h2"], child
        finally:
            child.stop(signal.SIGKILL)

    def start_agent(self, *options):
        log = self.work / "ballastd.log"
        self.agent = Child([self.agent_bin / "ballastd", "--bpffs", self.bpffs, "--log", "warn", *options], log=log)
        pinned = self.bpffs / "http_egress_link"
        wait_for(lambda: self.agent.process.poll() is not None or
                 (pinned.exists() and self.ctl("status").get("programs", {}).get("http")), "ballastd attaches")
        if self.agent.process.poll() is not None:
            raise Failed(f"ballastd ended with {self.agent.process.returncode}: {log.read_text()[-500:]}")

    def stop_agent(self):
        """Out of the kernel too."""
        if self.agent is None:
            return
        self.agent.stop()
        self.agent = None
        done = subprocess.run([self.agent_bin / "ballastd", "--bpffs", self.bpffs, "--unload"], capture_output=True, text=True)
        if done.returncode != 0:
            raise Failed(f"ballastd --unload: {done.stderr.strip()}")

    def ctl(self, verb, target=None):
        argv = [self.agent_bin / "ballastctl", "--bpffs", self.bpffs, "-o", "json", verb] + ([target] if target else [])
        done = subprocess.run(argv, capture_output=True, text=True)
        return json.loads(done.stdout) if done.returncode == 0 else {}

    def rows(self, cgroup, role="server"):
        """The rows of `requests` of one cgroup, by protocol."""
        path = "/" + str(cgroup.relative_to(self.root))
        return {row["protocol"]: row for row in self.ctl("requests", path) or [] if row["role"] == role}

    def tool(self, *arguments, cgroup=None, namespace=None, **popen):
        return Child([self.bin / "bench/ballast-bench-telemetry", *arguments], cgroup=cgroup, namespace=namespace,
                     text=True, stdout=subprocess.PIPE, stdin=subprocess.PIPE, stderr=subprocess.PIPE, **popen)

    def load(self, address, port, cgroup=None, **options):
        """Runs the load generator to its end; its own count."""
        arguments = ["load", "--address", address, "--port", port]
        for key, value in options.items():
            if value is True:
                arguments.append(f"--{key.replace('_', '-')}")
            elif value not in (False, None):
                arguments += [f"--{key}", value]
        return finish(self.tool(*arguments, cgroup=cgroup))


def finish(child, timeout=120):
    """Ends a tool's input, waits, and gives the object that it printed last."""
    try:
        out, err = child.process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired as error:
        child.stop(signal.SIGKILL)
        raise Failed(f"{' '.join(map(str, error.cmd[:4]))} ... did not end within {timeout} s") from error
    if child.process.returncode != 0:
        raise Failed(err.strip() or f"exit code {child.process.returncode}")
    return json.loads(out.strip().splitlines()[-1])


def machine_cpu_seconds():
    """Busy time of all CPUs: everything but idle and waiting for disks."""
    fields = [int(n) for n in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return (sum(fields[:8]) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def other_load(seconds=2.0):
    """CPUs that others use while this benchmark does nothing."""
    before = machine_cpu_seconds()
    time.sleep(seconds)
    return (machine_cpu_seconds() - before) / seconds


def foreign_programs(root):
    """cgroup_skb programs at the root that are not ours: they cost every packet as well."""
    done = subprocess.run(["bpftool", "-j", "cgroup", "show", root], capture_output=True, text=True)
    with contextlib.suppress(json.JSONDecodeError):
        return sum(p.get("attach_type", "").endswith("gress") for p in json.loads(done.stdout or "[]"))
    return 0


@contextlib.contextmanager
def server_namespace():
    """A namespace for the server behind a veth pair; yields (name, server's address, its interface)."""
    name = f"ballast-bench-{os.getpid()}"
    ours, theirs = f"bb{os.getpid()}a", f"bb{os.getpid()}b"
    run = lambda *argv: subprocess.run(argv, check=True, capture_output=True, text=True)
    try:
        run("ip", "netns", "add", name)
        run("ip", "link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", name)
        run("ip", "addr", "add", "198.18.251.1/30", "dev", ours)
        run("ip", "link", "set", ours, "up")
        run("ip", "-n", name, "addr", "add", "198.18.251.2/30", "dev", theirs)
        run("ip", "-n", name, "link", "set", theirs, "up")
        run("ip", "-n", name, "link", "set", "lo", "up")
        yield name, "198.18.251.2", theirs
    except subprocess.CalledProcessError as error:
        raise Failed(f"{' '.join(error.cmd)}: {error.stderr.strip()}") from error
    finally:
        subprocess.run(["ip", "link", "del", ours], capture_output=True)
        subprocess.run(["ip", "netns", "del", name], capture_output=True)


def measured(binaries, run):
    """The exit code of a test that is run(bench) beside an agent: 77 where this process may not measure."""
    if os.geteuid() != 0:
        print("SKIPPED: needs root (cgroups, namespaces, eBPF)")
        return 77
    with tempfile.TemporaryDirectory(prefix="ballast-measured-") as work:
        os.chmod(work, 0o755)
        bench = Bench(binaries, work)
        try:
            bench.start_agent()
            run(bench)
        except Failed as failure:
            if "ballastd ended with 3" in str(failure):
                print(f"SKIPPED: {failure}")
                return 77
            raise
        finally:
            bench.close()
    print("passed")
    return 0
