#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""ui_test.py BIN_DIR: `ballastctl ui` beside a real ballastd: the page needs nothing from elsewhere, gets snapshots with
the service map, says why it cannot explain, is refused under another name, and is written as a report; in headless
Chromium, where that is at hand, the page that was written draws its map."""
import http.client
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

CTL, DAEMON = (pathlib.Path(sys.argv[1]) / name for name in ("ballastctl", "ballastd"))
if os.geteuid() != 0 or not DAEMON.exists():
    print("skipped: needs root and ballastd")
    sys.exit(77)


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


def check_page(page):
    assert "<svg" in page and "@DATA@" not in page
    assert not re.search(r'(?:src|href)\s*=\s*"?(?:https?:)?//', page), "it fetches from elsewhere"


with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    agent = subprocess.Popen([DAEMON, "--bpffs", folder / "bpf"], stderr=subprocess.PIPE, text=True)
    ui = None
    try:
        while subprocess.run([CTL, "--bpffs", folder / "bpf", "status", "--alive"], capture_output=True).returncode:
            if agent.poll() is not None:
                print(f"skipped: no agent here: {agent.stderr.read()[-300:]}")
                sys.exit(77)
            time.sleep(0.1)
        ui = subprocess.Popen([CTL, "--bpffs", folder / "bpf", "ui", "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE,
                              text=True)
        port = int(re.match(r"http://127\.0\.0\.1:(\d+)/", ui.stdout.readline())[1])

        def get(path, **headers):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

        status, page = get("/")
        assert status == 200
        check_page(page)
        assert data_of(page) is None
        for _ in range(100):
            snapshots = json.loads(get("/data?after=0")[1])
            if len(snapshots) >= 2 and any(c["to"].endswith(f":{port}") for c in snapshots[-1]["calls"]):
                break
            time.sleep(0.2)
        else:
            sys.exit(f"FAIL: our own calls are on no map: {snapshots}")
        assert [s["seq"] for s in snapshots] == list(range(1, len(snapshots) + 1))
        assert any(s["t"] % 1 for s in snapshots), "whole seconds: rates of arrows would be wrong by half"
        assert {"t", "status", "top", "calls"} <= snapshots[-1].keys() and "lives" in snapshots[-1]["status"]
        later = json.loads(get(f"/data?after={snapshots[-1]['seq']}")[1])
        assert all(s["seq"] > snapshots[-1]["seq"] for s in later)
        assert "nothing was decided for shop/web" in get("/explain?shop%2Fweb")[1]
        assert get("/data", Host=f"elsewhere.example:{port}")[0] == 403
        assert get("/nowhere")[0] == 404
        report = folder / "report.html"
        subprocess.run([CTL, "--bpffs", folder / "bpf", "ui", "--report", report, "--seconds", "3"], check=True)
        written = report.read_text()
        check_page(written)
        assert len(data_of(written)["snapshots"]) >= 2
        for arguments, code in ((["--listen", "0.0.0.0:0"], 2), (["--listen", f"127.0.0.1:{port}"], 1),
                                (["--report", folder / "none" / "x.html", "--seconds", "1"], 1)):
            done = subprocess.run([CTL, "--bpffs", folder / "bpf", "ui", *arguments], capture_output=True, text=True)
            assert done.returncode == code and done.stderr, (arguments, done)
        ui.terminate()
        assert ui.wait(10) == 0
        if shutil.which("chromium"):
            dom = subprocess.run(["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", f"file://{report}"],
                                 capture_output=True, text=True, timeout=60).stdout
            assert '<svg width="' in dom and "Requests a second" in dom, dom[-2000:]
        else:
            print("not looked at in a browser: no chromium")
    finally:
        for one in (ui, agent):
            if one:
                one.terminate()
                one.wait()
        subprocess.run([DAEMON, "--bpffs", folder / "bpf", "--unload"], capture_output=True)
        subprocess.run(["umount", "-l", folder / "bpf"], capture_output=True)
print("ok")
