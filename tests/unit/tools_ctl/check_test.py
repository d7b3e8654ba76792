#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""check_test.py SOURCE_DIR BIN_DIR: `ballastctl check` on set-ups that are broken, each made for real: mount
namespaces, dropped capabilities, a seccomp filter, agents that died, an API server that refuses. Each has to be named
with its fix, its exit code and a link to a heading that is there."""
import ctypes
import glob
import http.server
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

SOURCE, BIN = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
CTL, DAEMON = BIN / "ballastctl", BIN / "ballastd"
sys.path.insert(0, str(SOURCE / "tests/docs"))
import pages  # noqa: E402

for tool in ("unshare", "setpriv", "bpftool", "openssl"):
    if not shutil.which(tool):
        sys.exit(print(f"skipped: no {tool}") or 77)
if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"]).returncode != 0:
    print("skipped: needs root and mount namespaces")
    sys.exit(77)

ANCHORS = pages.anchors((SOURCE / "docs/troubleshooting.md").read_text())
WORK = pathlib.Path(tempfile.mkdtemp(prefix="ballast-check-"))
FAILED, DONE = [], 0


def mounted(commands, *argv):
    """argv in a mount namespace of its own, after `commands`."""
    return ["unshare", "-m", "--propagation", "private", "sh", "-ec", f'{commands}\nexec "$@"', "sh", *map(str, argv)]


def run(argv, **how):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=60, **how)
    try:
        findings = json.loads(done.stdout)
    except ValueError:
        raise SystemExit(f"FAIL: no JSON: {argv}: {done.stdout[:300]} {done.stderr[:300]}")
    for one in findings:
        assert list(one) == ["check", "status", "what", "fix", "link"], one
        assert one["status"] in ("ok", "warn", "fail", "skipped"), one
        page, anchor = one["link"].split("#")
        assert page == "docs/troubleshooting.md" and anchor in ANCHORS, one
        assert one["status"] in ("ok", "skipped") or one["fix"], one
    return findings, done.returncode


def expect(name, argv, check, status, what, fix, code=None, **how):
    """`check` is told with that status, what and fix (patterns); `code`: the exit code, None: not looked at."""
    global DONE
    findings, returned = run(argv, **how)
    found = [one for one in findings if re.fullmatch(check, one["check"]) and one["status"] == status
             and re.search(what, one["what"], re.S) and re.search(fix, one["fix"], re.S)]
    if not found or (code is not None and returned != code):
        FAILED.append(f"{name}: exit code {returned}, wanted {check} {status} /{what}/ /{fix}/ in\n" +
                      "\n".join(map(str, [one for one in findings if one["status"] != "ok"])))
    else:
        DONE += 1
        print(f"ok: {name}: {found[0]['what']} -> {found[0]['fix']}")


def pre(*more):
    return [CTL, "check", "--pre", "-o", "json", *more]


def host():
    expect("no BTF", mounted("mount -t tmpfs none /sys/kernel/btf", *pre()), "btf", "fail", "BTF|types",
           "CONFIG_DEBUG_INFO_BTF", 3)
    expect("cgroup v1 alone", mounted("umount -R -l /sys/fs/cgroup; mount -t tmpfs none /sys/fs/cgroup\n"
           "mkdir /sys/fs/cgroup/old; mount -t cgroup -o none,name=ballast none /sys/fs/cgroup/old", *pre()),
           "cgroup", "fail", "cgroup v2 is not mounted", "mount -t cgroup2", 3)
    expect("no bpffs", mounted("mount -t tmpfs none /sys/fs/bpf", *pre()), "bpffs", "warn", "no bpffs", "mount -t bpf")
    expect("no bpffs and no right to mount one",
           mounted("mount -t tmpfs none /sys/fs/bpf", "setpriv", "--inh-caps=-sys_admin", "--bounding-set=-sys_admin",
                   CTL, "check", "-o", "json"), "bpffs", "fail", "no bpffs", "mount -t bpf", 3)
    expect("unprivileged", ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", CTL, "check", "-o", "json"],
           "capabilities", "fail", "CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN", "as root", 3)
    expect("unprivileged, before the installation",
           ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *pre()],
           "capabilities", "warn", "missing CAP_BPF.*not tried", "as root")
    expect("a container that drops CAP_NET_ADMIN",
           ["setpriv", "--inh-caps=-net_admin", "--bounding-set=-net_admin", *pre()], "capabilities", "fail",
           "missing CAP_NET_ADMIN", "securityContext", 3)
    expect("seccomp refuses bpf(2)", pre(), "bpf", "fail", "refused.*seccomp is on", "seccomp", 3,
           preexec_fn=no_bpf)


def no_bpf():
    """A seccomp filter that answers EPERM to bpf(2) of x86-64."""
    filters = (ctypes.c_uint64 * 4)(
        0x20 | 0 << 32,                                   # load the number of the call
        0x15 | (0 << 16) | (1 << 24) | (321 << 32),       # bpf? else skip one
        0x06 | (0x00050001 << 32),                        # EPERM
        0x06 | (0x7FFF0000 << 32))                        # allow
    program = (ctypes.c_uint64 * 2)(4, ctypes.addressof(filters))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) != 0 or libc.prctl(22, 2, ctypes.byref(program), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "seccomp")


class Api(http.server.BaseHTTPRequestHandler):
    """An API server of a healthy cluster, but for what `broken` says: path (without its query) -> answer."""
    protocol_version = "HTTP/1.1"
    broken, allowed, token = {}, True, None

    def log_message(self, *_):
        pass

    def healthy(self, path):
        now = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
        ready = {"status": {"phase": "Running", "containerStatuses": [
            {"name": "ballastd", "ready": True, "state": {}}, {"name": "ballast-learner", "ready": True, "state": {}}]}}
        istiod = {"spec": {"template": {"spec": {"containers": [{"image": "istio/pilot:1.30.1"}]}}},
                  "status": {"readyReplicas": 1}}
        web = {"metadata": {"namespace": "shop", "name": "web", "labels": {"ballast.dev/mode": "active"}},
               "spec": {"type": "ClusterIP", "clusterIP": "10.0.0.9", "ports": [{"name": "http", "port": 80}]}}
        entry = {"kind": "ServiceEntry", "metadata": {
            "namespace": "shop", "name": "ballast-web",
            "labels": {"app.kubernetes.io/managed-by": "ballast", "ballast.dev/service": "web"}},
            "spec": {"hosts": ["web.shop.svc.cluster.local"]}}
        lists = {
            "/version": {"gitVersion": "v1.36.1"}, "/apis/networking.istio.io": {"kind": "APIGroup"},
            "/apis/apps/v1/deployments": {"items": [istiod]}, "/apis/apps/v1/daemonsets": {"items": []},
            "/api/v1/namespaces/ballast-system/pods": {"items": [
                {"metadata": {"name": "ballastd-x"}, "spec": {"nodeName": "node-1"}, **ready}]},
            "/apis/apps/v1/namespaces/ballast-system/deployments/ballast-global": {"status": {"readyReplicas": 2}},
            "/apis/coordination.k8s.io/v1/namespaces/ballast-system/leases/ballast-leader": {
                "metadata": {}, "spec": {"holderIdentity": "node-1", "renewTime": now, "leaseDurationSeconds": 15}},
            "/api/v1/services": {"items": [web]},
            "/apis/networking.istio.io/v1/serviceentries": {"items": [entry]},
            "/apis/networking.istio.io/v1/virtualservices": {"items": []},
            "/apis/networking.istio.io/v1/destinationrules": {"items": []},
            "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices": {"items": [{"endpoints": [
                {"addresses": ["10.1.0.1"], "conditions": {"ready": True}, "targetRef": {"kind": "Pod"}}]}]}}
        return lists.get(path)

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer({"status": {"allowed": self.allowed}}, 201)

    def do_GET(self):
        path = self.path.split("?")[0]
        if self.token and self.headers.get("Authorization") != f"Bearer {self.token}":
            self.answer({"kind": "Status", "message": "Unauthorized"}, 401)
        elif path in self.broken:
            self.answer(*(self.broken[path] if isinstance(self.broken[path], tuple) else (self.broken[path], 200)))
        elif (found := self.healthy(path)) is not None:
            self.answer(found, 200)
        else:
            self.answer({"kind": "Status", "message": f"{path} not found"}, 404)

    def answer(self, body, status):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class Served:
    def __init__(self, context=None, broken=(), **attributes):
        handler = type("Handler", (Api,), {"broken": dict(broken), **attributes})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.scheme = "https" if context else "http"
        if context:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return ["--server", f"{self.scheme}://127.0.0.1:{self.server.server_address[1]}"]

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def certificate(name):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
                    "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout",
                    WORK / f"{name}.key", "-out", WORK / f"{name}.crt"], check=True, capture_output=True)
    return WORK / f"{name}.crt"


def cluster():
    ours, other = certificate("ours"), certificate("other")
    (WORK / "token").write_text("right\n")
    (WORK / "stale").write_text("stale\n")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ours, WORK / "ours.key")
    with Served(context, token="right") as server:
        expect("a healthy API server", pre(*server, "--ca-file", ours, "--token-file", WORK / "token"),
               "api_server", "ok", "v1.36.1", "")
        expect("a certificate of another", pre(*server, "--ca-file", other), "api_server", "fail", "certificate",
               "--ca-file", 1)
        expect("a token of another", pre(*server, "--ca-file", ours, "--token-file", WORK / "stale"), "api_server",
               "fail", "401", "make a new one", 3)
        expect("no token file", pre(*server, "--ca-file", ours, "--token-file", WORK / "none"), "api_server", "fail",
               "none", "can be read", 1)
        library = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
        if library:
            expect("a clock of a year ago", pre(*server, "--ca-file", ours), "api_server", "fail", "not yet valid",
                   "clock", 1, env={**os.environ, "LD_PRELOAD": library[0], "FAKETIME": "-365d"})
    expect("no API server", pre("--server", "https://127.0.0.1:1"), "api_server", "fail", "127.0.0.1:1", "firewall", 1)
    if glob.glob("/usr/lib/*/faketime/libfaketime.so.1"):
        with Served() as server:
            expect("a clock that is behind", pre(*server), "clock", "fail", "60. s behind", "chrony", 1,
                   env={**os.environ, "LD_PRELOAD": glob.glob("/usr/lib/*/faketime/libfaketime.so.1")[0],
                        "FAKETIME": "-600s"})
    with Served(allowed=False) as server:
        expect("no rights to install", pre(*server), "rights", "fail", "create daemonsets", "cluster-admin", 3)
    with Served(broken={"/apis/networking.istio.io": ({}, 404)}) as server:
        expect("no Istio", pre(*server), "istio", "warn", "no networking.istio.io", "install Istio", 0)
    base, apps = "/api/v1/namespaces/ballast-system", "/apis/apps/v1"
    lease = "/apis/coordination.k8s.io/v1/namespaces/ballast-system/leases/ballast-leader"
    waiting = {"items": [{"metadata": {"name": "ballastd-x"}, "spec": {"nodeName": "node-7"}, "status": {
        "containerStatuses": [{"name": "ballastd", "ready": False,
                               "state": {"waiting": {"reason": "CrashLoopBackOff"}}},
                              {"name": "ballast-learner", "ready": False,
                               "state": {"waiting": {"reason": "ImagePullBackOff"}}}]}}]}
    def service(**spec):
        return {"items": [{"metadata": {"namespace": "shop", "name": "web", "labels": {"ballast.dev/mode": "active"}},
                           "spec": {"ports": [{"name": "http", "port": 80}], "clusterIP": "10.0.0.9", **spec}}]}
    slices = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices"
    entries = "/apis/networking.istio.io/v1/serviceentries"
    old = {"spec": {"holderIdentity": "node-3", "renewTime": "2026-01-01T00:00:00.000000Z", "leaseDurationSeconds": 15}}
    for name, broken, check, status, what, fix in [
            ("an agent that crashes", {f"{base}/pods": waiting}, "nodes node-7", "fail", "CrashLoopBackOff",
             "logs ballastd-x -c ballastd"),
            ("a learner that has no image", {f"{base}/pods": waiting}, "learner node-7", "fail", "ImagePullBackOff",
             "-c ballast-learner"),
            ("no agent at all", {f"{base}/pods": {"items": []}}, "nodes", "fail", "no agent runs", "install"),
            ("an account that may not see pods", {f"{base}/pods": ({"message": "forbidden"}, 403)}, "nodes", "skipped",
             "403", ""),
            ("no global network", {f"{apps}/namespaces/ballast-system/deployments/ballast-global":
             {"status": {"readyReplicas": 0}}}, "global", "fail", "no replica", "logs"),
            ("a leader that died", {lease: old}, "leader", "fail", "node-3 .*not renewed", "has to live"),
            ("nobody ever led", {lease: ({}, 404)}, "leader", "warn", "no Lease", "mode active"),
            ("istiod down", {f"{apps}/deployments": {"items": [{"status": {}}]}}, "istio", "fail", "no replica",
             "istiod"),
            ("ambient", {f"{apps}/daemonsets": {"items": [{}]}}, "ambient", "warn", "ztunnel", "sidecars"),
            ("a headless Service", {"/api/v1/services": service(clusterIP="None")}, "service shop/web", "fail",
             "Headless", "clusterIP"),
            ("a Service of a node", {"/api/v1/services": service(internalTrafficPolicy="Local")}, "service shop/web",
             "fail", "NodeLocal", "leave the node"),
            ("no ready endpoint", {slices: {"items": []}}, "service shop/web", "fail", "NoReadyEndpoint", "selector"),
            ("not weighed yet", {entries: {"items": []}}, "service shop/web", "warn", "has not written", "describe"),
            ("released by hand", {entries: {"items": []}, lease: {
                "metadata": {"annotations": {"ballast.dev/released": "shop/web"}}, "spec": old["spec"]}},
             "service shop/web", "warn", "released by hand", "annotate lease"),
            ("no Service has the label", {"/api/v1/services": {"items": []}}, "service", "warn", "no Service carries",
             "label service")]:
        with Served(broken=broken) as server:
            expect(name, [CTL, "--bpffs", WORK / "none", "check", "-o", "json", *server], check, status, what, fix)
    with Served() as server:
        expect("a Service that is weighed", [CTL, "--bpffs", WORK / "none", "check", "-o", "json", *server],
               "service shop/web", "ok", "weighed through ServiceEntry", "")
    expect("no ballast-global there", [CTL, "check", "-o", "json", "--operations", "127.0.0.1:1"], "global", "fail",
           "127.0.0.1:1", "ballast-global")


def node():
    folder = WORK / "bpf"
    ours = [CTL, "--bpffs", folder, "check", "-o", "json"]
    expect("ballastd never ran", ours, "pins", "fail", "no folder", "start ballastd", 1)
    agent = subprocess.Popen([DAEMON, "--bpffs", folder], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(600):
            if subprocess.run([CTL, "--bpffs", folder, "status", "--alive"], capture_output=True).returncode == 0:
                break
            if agent.poll() is not None:
                print(f"skipped: no agent here: {agent.stderr.read()[-300:]}")
                return
            time.sleep(0.1)
        expect("an agent that lives", ours, "agent", "ok", "lives", "")
        expect("an agent with its maps elsewhere", [CTL, "--bpffs", WORK / "none", "check", "-o", "json"], "pins", "fail",
               "no folder", f"--bpffs {folder}", 1)
        agent.send_signal(signal.SIGKILL)
        agent.wait()
        while subprocess.run([CTL, "--bpffs", folder, "status", "--alive"], capture_output=True).returncode == 0:
            time.sleep(0.1)
        expect("an agent that was killed", ours, "agent", "fail", "dead", "start ballastd", 1)
        meta = subprocess.run(["bpftool", "-j", "map", "dump", "pinned", folder / "meta"], capture_output=True,
                              text=True, check=True)
        value = [byte[2:] for byte in json.loads(meta.stdout)[0]["value"]]
        value[4:8] = ["ff", "00", "00", "00"]  # wire_version, behind the magic
        subprocess.run(["bpftool", "map", "update", "pinned", folder / "meta", "key", "hex", "00", "00", "00", "00",
                        "value", "hex", *value], check=True)
        expect("maps of another version", ours, "pins", "fail", "wire version", "same version", 1)
    finally:
        agent.kill()
        agent.wait()
        subprocess.run([DAEMON, "--bpffs", folder, "--unload"], capture_output=True)
        subprocess.run(["umount", "-l", folder], capture_output=True)


def real_api_server():
    """The same against a real kube-apiserver and etcd, where the mesh's tests are asked for and built."""
    folder = SOURCE / "build/mesh"
    if not os.environ.get("BALLAST_MESH_LIVE") or not (folder / "kube-apiserver").exists():
        print("not asked of a real API server (BALLAST_MESH_LIVE, tools/mesh/build.sh)")
        return
    home = WORK / "cluster"
    home.mkdir()
    ports = [free_port() for _ in range(3)]
    tokens = {"admin": "system:masters", "nobody": "", "system:serviceaccount:ballast-system:ballast": "",
              "system:serviceaccount:ballast-system:ballast-global": ""}
    (home / "tokens.csv").write_text("".join(f'{name[-6:]},{name},{name},"{group}"\n' for name, group in tokens.items()))
    for name in tokens:
        (home / name[-6:]).write_text(name[-6:] + "\n")
    ours = certificate("api")
    subprocess.run(["openssl", "genrsa", "-out", home / "accounts.key", "2048"], check=True, capture_output=True)
    subprocess.run(["openssl", "rsa", "-in", home / "accounts.key", "-pubout", "-out", home / "accounts.pub"], check=True,
                   capture_output=True)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": open(home / "log", "w")}
    url = f"http://127.0.0.1:{ports[0]}"
    running = [
        subprocess.Popen(["etcd", "--unsafe-no-fsync", f"--data-dir={home}/etcd", f"--listen-client-urls={url}",
                          f"--advertise-client-urls={url}", f"--listen-peer-urls=http://127.0.0.1:{ports[1]}"], **quiet),
        subprocess.Popen([folder / "kube-apiserver", f"--etcd-servers={url}", "--bind-address=127.0.0.1",
                          f"--secure-port={ports[2]}", f"--cert-dir={home}/certs", f"--tls-cert-file={ours}",
                          f"--tls-private-key-file={WORK}/api.key", f"--token-auth-file={home}/tokens.csv",
                          "--authorization-mode=RBAC", "--service-cluster-ip-range=10.96.0.0/16",
                          "--disable-admission-plugins=ServiceAccount",
                          "--service-account-issuer=https://kubernetes.default.svc",
                          f"--service-account-key-file={home}/accounts.pub",
                          f"--service-account-signing-key-file={home}/accounts.key"], **quiet)]
    server = ["--server", f"https://127.0.0.1:{ports[2]}", "--ca-file", ours, "--token-file"]
    kubectl = [folder / "kubectl", "--server", server[1], "--certificate-authority", ours, "--token", "admin",
               "--cache-dir", home / "kubectl"]

    def apply(text):
        subprocess.run([*kubectl, "apply", "--server-side", "-f", "-"], input=text, text=True, check=True,
                       capture_output=True)

    def whole(name, check, status, what, fix, account="admin", code=None):
        expect("real: " + name, [CTL, "--bpffs", WORK / "none", "check", "-o", "json", *server, home / account[-6:]], check,
               status, what, fix, code)

    try:
        for _ in range(1200):
            if subprocess.run([*kubectl, "get", "--raw", "/readyz"], capture_output=True).returncode == 0:
                break
            assert all(one.poll() is None for one in running), (home / "log").read_text()[-2000:]
            time.sleep(0.1)
        expect("real: may install", pre(*server, home / "admin"), "rights", "ok", "may install", "")
        expect("real: no Istio", pre(*server, home / "admin"), "istio", "warn", "no networking", "install Istio")
        expect("real: may not install", pre(*server, home / "nobody"), "rights", "fail", "create clusterroles",
               "cluster-admin", 3)
        (home / "wrong").write_text("no such token\n")
        expect("real: a token that it does not know", pre(*server, home / "wrong"), "api_server", "fail", "401",
               "make a new one", 3)
        apply((SOURCE / "deploy/daemonset/base/namespace.yaml").read_text())
        agent = "system:serviceaccount:ballast-system:ballast"
        whole("an agent without its rights", "rights", "fail", "list services.*patch serviceentries", "rbac.yaml", agent, 3)
        apply((SOURCE / "deploy/daemonset/base/rbac.yaml").read_text())
        apply((folder / "istio-crds.yaml").read_text())
        whole("an agent with its rights", "rights", "ok", "all that a node's agent needs", "", agent)
        whole("the writer with its rights", "rights", "ok", "all that the writer needs", "", agent + "-global")
        whole("nobody installed it", "nodes", "fail", "no agent runs", "install")
        whole("nobody leads", "leader", "warn", "no Lease", "mode active")
        service = ("apiVersion: v1\nkind: Service\nmetadata: {name: NAME, labels: {ballast.dev/mode: active}}\n"
                   "spec: {ports: [{name: http, port: 80}], SPEC}\n---\n")
        apply("".join(service.replace("NAME", name).replace("SPEC", spec) for name, spec in
                      (("headless", "clusterIP: None"), ("local", "internalTrafficPolicy: Local"), ("empty", "type: ClusterIP"))))
        whole("a headless Service", "service default/headless", "fail", "Headless", "clusterIP")
        whole("a Service of a node", "service default/local", "fail", "NodeLocal", "leave the node")
        whole("a Service without pods", "service default/empty", "fail", "NoReadyEndpoint", "selector")
        apply("apiVersion: coordination.k8s.io/v1\nkind: Lease\nmetadata: {name: ballast-leader, namespace: ballast-system}\n"
              "spec: {holderIdentity: node-3, renewTime: '2026-01-01T00:00:00.000000Z', leaseDurationSeconds: 15}\n")
        whole("a leader that died", "leader", "fail", "node-3 .*not renewed", "has to live")
    finally:
        for one in reversed(running):
            one.terminate()
            one.wait()


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def kinds():
    """Each kind has its heading, and each heading its kind."""
    text = (SOURCE / "tools/ctl/check.cpp").read_text()
    listed = set(re.findall(r'"(\w+)"', re.search(r"kKinds = \{(.*?)\};", text, re.S)[1]))
    headings = {anchor.removeprefix("check-") for anchor in ANCHORS if anchor.startswith("check-")}
    if listed != headings:
        FAILED.append(f"kinds of check and headings of the page differ: {listed ^ headings}")


try:
    kinds()
    host()
    cluster()
    real_api_server()
    node()
finally:
    shutil.rmtree(WORK, ignore_errors=True)
print(f"{DONE} set-ups named, {len(FAILED)} not")
if FAILED:
    sys.exit("FAIL:\n" + "\n".join(FAILED))
