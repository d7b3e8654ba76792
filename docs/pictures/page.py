#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""docs/pictures/page.py [BIN_DIR]: makes docs/pictures/{page,report}{,-phone}.png, as root, in headless Chromium, 1100 and 390 px
wide: the page of `ballastctl ui` on examples/shop after 40 seconds, and what `ballast-lab run --report-page` writes of the demo,
20 seconds an arm, whose figures are those of the machine it ran on. A picture of more than 300 KB is an error."""
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build/release/bin")


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


def look_both(page, name, folder):
    # A window below 500 px is not to be had; a frame of that width is.
    phone = folder / f"{name}-phone.html"
    phone.write_text(
        f'<!doctype html><body style="margin:0;background:#bbb"><iframe src="file://{page}" style="display:block;'
        'margin:0 auto;border:0;width:390px;height:1700px;background:#fff"></iframe>')
    look(page, f"{name}.png", "1100,1150", folder)
    look(phone, f"{name}-phone.png", "500,1700", folder)


with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    subprocess.run([ROOT / "examples/shop/run", "--bin", BIN, "--report", folder / "page.html"], check=True)
    look_both(folder / "page.html", "page", folder)
    subprocess.run([BIN / "ballast-lab", "run", "--scenario", "demo", "--policy", "least_request,ballast", "--warmup", "8",
                    "--duration", "20", "--no-live", "--report", folder / "report.json", "--report-page", folder / "report.html"],
                   check=True)
    look_both(folder / "report.html", "report", folder)
