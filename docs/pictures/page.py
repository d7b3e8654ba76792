#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""docs/pictures/page.py [BIN_DIR]: makes docs/pictures/page.png and page-phone.png, as root: a shop of five Services in
cgroups (gateway -> web -> cart and search, cart -> db; unequal pods of web) with real traffic, ballastd beside them,
`ballastctl ui --report` after half a minute, and that page looked at in headless Chromium, 1100 and 390 px wide. Weights are
as decided: nothing is told to a proxy. A picture of more than 300 KB is an error."""
import http.client
import http.server
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build/release/bin")
# pod -> (address, milliseconds of waiting a request, whom it calls)
PODS = {"gateway-0": (10, 0, ["web"]), "web-0": (20, 4, ["cart", "search"]), "web-1": (21, 4, ["cart", "search"]),
        "web-2": (22, 16, ["cart", "search"]), "cart-0": (30, 6, ["db"]), "cart-1": (31, 6, ["db"]),
        "search-0": (40, 3, []), "db-0": (50, 5, [])}
PORT = 8080

def serve(pod):
    address, wait_ms, callees = PODS[pod]
    turn = [0]

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_GET(self):
            time.sleep(wait_ms / 1000)
            turn[0] += 1
            for callee in callees:
                pods = [name for name in PODS if name.rsplit("-", 1)[0] == callee]
                urllib.request.urlopen(f"http://127.2.0.{PODS[pods[turn[0] % len(pods)]][0]}:{PORT}/").read()

            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

    server = http.server.ThreadingHTTPServer((f"127.2.0.{address}", PORT), Handler)
    server.handle_error = lambda *_: None  # who called has ended
    server.serve_forever()

def look(page, name, size, folder):
    picture = folder / name
    subprocess.run(["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                    "--allow-file-access-from-files", f"--window-size={size}", f"--screenshot={picture}", f"file://{page}"],
                   check=True, capture_output=True, timeout=120)
    data = picture.read_bytes()
    if len(data) > 300 * 1024:
        sys.exit(f"page: {name} has {len(data)} bytes, at most {300 * 1024}")
    (ROOT / "docs/pictures" / name).write_bytes(data)
    print(f"docs/pictures/{name}: {len(data)} bytes")

def cgroup_root():
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        if line.split(" - ")[1].startswith("cgroup2 "):
            return pathlib.Path(line.split()[4])
    sys.exit("page: no cgroup v2 here")

def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    base = cgroup_root() / f"ballast-page-{os.getpid()}"
    started = []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        try:
            rows = []
            for pod, (address, _, _) in PODS.items():
                (base / pod).mkdir(parents=True)
                rows.append(f"  - {{cgroup: /{base.name}/{pod}, pod: {pod}, namespace: shop, service: {pod.rsplit('-', 1)[0]}, "
                            f"address: 127.2.0.{address}, port: {PORT}}}\n")
                started.append(subprocess.Popen([sys.executable, __file__, "--pod", pod],
                                                preexec_fn=lambda p=pod: (base / p / "cgroup.procs").write_text(str(os.getpid()))))
            (folder / "pods.yaml").write_text("pods:\n" + "".join(rows))
            bpffs = ["--bpffs", str(folder / "bpf")]
            started.append(subprocess.Popen([BIN / "ballastd", *bpffs, "--identity", f"static:{folder}/pods.yaml", "--mode",
                                             "active"], stderr=subprocess.DEVNULL))

            def load():
                while True:
                    try:
                        urllib.request.urlopen(f"http://127.2.0.10:{PORT}/", timeout=10).read()
                    except (OSError, http.client.HTTPException):
                        pass
                    time.sleep(0.05)

            while subprocess.run([BIN / "ballastctl", *bpffs, "status", "--alive"], capture_output=True).returncode:
                time.sleep(0.2)
            for _ in range(3):
                threading.Thread(target=load, daemon=True).start()
            page = folder / "page.html"
            subprocess.run([BIN / "ballastctl", *bpffs, "ui", "--report", page, "--seconds", "40"], check=True)
            # A window below 500 px is not to be had; a frame of that width is.
            (folder / "phone.html").write_text(
                f'<!doctype html><body style="margin:0;background:#bbb"><iframe src="file://{page}" style="display:block;'
                'margin:0 auto;border:0;width:390px;height:1700px;background:#fff"></iframe>')
            look(page, "page.png", "1100,1150", folder)
            look(folder / "phone.html", "page-phone.png", "500,1700", folder)
        finally:
            for one in reversed(started):
                one.terminate()
                one.wait()
            subprocess.run([BIN / "ballastd", "--bpffs", folder / "bpf", "--unload"], capture_output=True)
            subprocess.run(["umount", "-l", folder / "bpf"], capture_output=True)
            for path in [*base.iterdir(), base] if base.exists() else []:
                if path.is_dir():
                    path.rmdir()

if sys.argv[1:2] == ["--pod"]:
    serve(sys.argv[2])
else:
    main()
