#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""quickstart_test.py SOURCE_DIR BIN_DIR: runs the block "Measure this machine" of docs/quickstart.md, line by line, as
it stands there, in a folder where the programs are our build's with pins of their own."""
import os
import pathlib
import re
import stat
import subprocess
import sys
import tempfile
import time

import commands_test
import pages


def main():
    source, binaries = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    text = (source / "docs/quickstart.md").read_text()
    section = text[text.index("\n## Measure this machine\n"):]
    block = next(block for _, language, block in pages.blocks(section) if language == "sh")
    if os.geteuid() != 0 or not (binaries / "ballastd").exists() or not (binaries / "ballastctl").exists():
        print("skipped: needs root, and ballastd and ballastctl built")
        sys.exit(77)
    pins = f"/sys/fs/bpf/ballast_docs_{os.getpid()}"
    agent = None
    with tempfile.TemporaryDirectory() as folder:
        bin_folder = pathlib.Path(folder) / "build/release/bin"
        bin_folder.mkdir(parents=True)
        for name in ("ballastd", "ballastctl"):
            wrapper = bin_folder / name
            wrapper.write_text(f'#!/bin/sh\nexec {binaries}/{name} --bpffs {pins} "$@"\n')
            wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR)
        ran = 0
        try:
            for line in block.splitlines():
                if not line.strip() or line.startswith("tools/build.sh"):
                    continue
                if re.search(r"&\s*(#|$)", line):
                    [words] = commands_test.commands(line + "\n")
                    agent = subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
                    for _ in range(100):
                        if subprocess.run([bin_folder / "ballastctl", "status", "--alive"], capture_output=True).returncode == 0:
                            break
                        if agent.poll() is not None:
                            sys.exit(f"FAIL: {line}: ended with {agent.returncode}: {agent.stderr.read()}")
                        time.sleep(0.2)
                    else:
                        sys.exit(f"FAIL: {line}: not alive after 20 s")
                    ran += 1
                    continue
                if line.startswith("kill %1 && wait %1"):  # the job of the shell that a reader types into
                    agent.terminate()
                    if agent.wait(timeout=20) != 0:
                        sys.exit(f"FAIL: {line}: ballastd ended with {agent.returncode}")
                    ran += 1
                    continue
                # `top` is for a terminal; script(1) is one, and q leaves it.
                typed = ["script", "-qec", line.split("#")[0].strip(), "/dev/null"] if " top" in line else ["sh", "-c", line]
                done = subprocess.run(typed, cwd=folder, capture_output=True, text=True, timeout=30,
                                      input="q" if " top" in line else None, env={**os.environ, "TERM": "xterm"})
                if done.returncode != 0 or not (done.stdout.strip() or "--unload" in line):
                    sys.exit(f"FAIL: {line}: {done.returncode}: {done.stdout}{done.stderr}")
                print(f"ok: {line}")
                ran += 1
            if os.path.exists(pins) and os.listdir(pins):
                sys.exit(f"FAIL: {pins} still holds {os.listdir(pins)} at the end of the block")
        finally:
            if agent and agent.poll() is None:
                agent.kill()
            subprocess.run([binaries / "ballastd", "--bpffs", pins, "--unload"], capture_output=True)
    if ran < 6:
        sys.exit(f"FAIL: {ran} commands in the block")


if __name__ == "__main__":
    main()
