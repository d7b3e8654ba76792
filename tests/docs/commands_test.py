#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""commands_test.py SOURCE_DIR BIN_DIR: commands and files in the pages' blocks, held against the programs.

- of our programs and scripts, every flag is in the help of that program (or of that verb), every verb is known, and
  scenarios and policies that are named are there;
- `kubectl ... -k FOLDER` names a folder with a kustomization;
- a YAML block that is a configuration of ballastd passes --check-config, one of static pods passes as its identity,
  one of Envoy's clusters passes Envoy's own validation; any other one parses.

What cannot be tried here for want of a program is named, and the test is skipped where nothing else was wrong.
"""
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

import pages

try:
    import yaml
except ImportError:
    print("skipped: no python3-yaml (tools/deps.sh)")
    sys.exit(77)

PROGRAMS = ("ballastd", "ballastctl", "ballast-lab", "ballast-bench", "ballast-global", "ballast-learner")


class Commands:
    def __init__(self, source, binaries):
        self.source, self.binaries = pathlib.Path(source), pathlib.Path(binaries)
        self.tree = pages.Tree(source)
        self.helps, self.wrong, self.missing, self.tried = {}, [], set(), 0

    def run(self, *argv, check=False):
        return subprocess.run([str(a) for a in argv], cwd=self.source, capture_output=True, text=True, timeout=60)

    def help_of(self, *argv):
        if argv not in self.helps:
            done = self.run(*argv, "--help-all")
            self.helps[argv] = done.stdout + done.stderr if done.returncode == 0 else ""
        return self.helps[argv]

    def complain(self, where, said):
        self.wrong.append(f"{where}: {said}")

    def flags(self, where, words, text, name):
        for word in words:
            flag = re.match(r"(--?[a-zA-Z][\w-]*)", word)
            if flag and not re.search(rf"(?<![\w-]){re.escape(flag[1])}(?![\w-])", text):
                self.complain(where, f"{name} has no {flag[1]}")

    def command(self, where, words):
        name = words[0].removeprefix("build/release/bin/")
        if name in PROGRAMS:
            self.program(where, name, words[1:])
        elif re.match(r"(tools|tests|deploy)/", words[0]):
            self.script(where, words[0], words[1:])
        elif words[0].startswith("build/release/bin/"):
            if not (self.binaries / name).exists():
                self.missing.add(name)
        elif words[0] == "kubectl":
            if "--" in words:
                self.command(where, words[words.index("--") + 1:])
            for i, word in enumerate(words[:-1]):
                if word == "-k" and not (self.source / words[i + 1] / "kustomization.yaml").exists():
                    self.complain(where, f"{words[i + 1]} has no kustomization.yaml")
        else:
            return
        self.tried += 1

    def script(self, where, path, words):
        file = self.source / path
        if not file.exists():
            self.complain(where, f"there is no {path}")
            return
        if not os.access(file, os.X_OK):
            self.complain(where, f"{path} cannot be executed")
        # Not asked for its help: not every script has one. Its own text has the flags that it takes.
        self.flags(where, words, file.read_text(), path)

    def program(self, where, name, words):
        binary = self.binaries / name
        if not binary.exists():
            self.missing.add(name)
            return
        text = self.help_of(binary)
        if not text:
            self.complain(where, f"{name} --help failed")
        bare = [w for w in words if not w.startswith("-")]
        if name in ("ballast-lab", "ballast-bench") and bare:
            if not re.search(rf"^\s*{re.escape(bare[0])}\b", text, re.M):
                self.complain(where, f"{name} has no {bare[0]}")
                return
            text += self.help_of(binary, bare[0])
        if name == "ballastctl" and bare and bare[0].isalpha() and bare[0].islower():
            if not re.search(rf"^\s*{bare[0]}\b", text, re.M):
                self.complain(where, f"ballastctl has no verb {bare[0]}")
        self.flags(where, words, text, name)
        if name == "ballast-lab" and bare[:1] == ["run"]:
            self.named(where, words, "--scenario", self.run(binary, "scenarios").stdout)
            self.named(where, words, "--policy", text)
        if name == "ballast-bench" and bare[:1] in (["sim"], ["matrix"]):
            self.named(where, words, "--scenario", self.run(binary, "scenarios").stdout)
            self.named(where, words, "--policy", self.run(binary, "policies").stdout)

    def named(self, where, words, flag, known):
        for i, word in enumerate(words[:-1]):
            if word != flag:
                continue
            for each in words[i + 1].split(","):
                plain = each.split("[")[0].split(":")[0] if "/" not in each else each.split("[")[0]  # a variant
                if plain.isupper() or "/" in plain:  # NAME, a file
                    if "/" in plain and not (self.source / plain.split(":")[0]).exists():
                        self.complain(where, f"there is no {plain}")
                elif not re.search(rf"(?<![\w-]){re.escape(plain)}(?![\w-])", known):
                    self.complain(where, f"{flag} {plain} is not known")

    def yaml_block(self, where, text):
        try:
            value = list(yaml.safe_load_all(text))
        except yaml.YAMLError as error:
            self.complain(where, f"no YAML: {error}")
            return
        self.tried += 1
        first = value[0] if value and isinstance(value[0], dict) else {}
        ballastd = self.binaries / "ballastd"
        envoy = self.source / "build/venv/bin/envoy-binary"
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "block.yaml"
            file.write_text(text)
            if "clusters" in first:
                if not envoy.exists():
                    self.missing.add("Envoy")
                    return
                file.write_text("node: {id: docs, cluster: docs}\nstatic_resources:\n" +
                                "".join(f"  {line}\n" for line in text.splitlines()))
                done = self.run(envoy, "--mode", "validate", "-c", file, "--log-level", "error")
            elif first.keys() == {"pods"}:
                done = self.check(ballastd, "--identity", f"static:{file}", "--check-config")
            elif "apiVersion" not in first and first.keys() & self.keys():
                done = self.check(ballastd, "--config", file, "--check-config")
            else:
                return
            if done and done.returncode != 0:
                self.complain(where, (done.stderr or done.stdout).strip().splitlines()[-1])

    def check(self, ballastd, *argv):
        if not ballastd.exists():
            self.missing.add("ballastd")
            return None
        return self.run(ballastd, *argv)

    def keys(self):
        """The top keys of the configuration, from ballastd itself."""
        ballastd = self.binaries / "ballastd"
        if not ballastd.exists():
            self.missing.add("ballastd")
            return set()
        if "keys" not in self.helps:
            self.helps["keys"] = set(yaml.safe_load(self.run(ballastd, "--check-config").stdout) or {})
        return self.helps["keys"]

    def all(self):
        for page in self.tree.pages:
            if page == "CHANGELOG.md":  # what was
                continue
            text = self.tree.text(page)
            for line, language, block in pages.blocks(text):
                where = f"{page}:{line}"
                if language in ("sh", "bash", "shell", "console"):
                    for words in commands(block):
                        self.command(where, words)
                elif language in ("yaml", "yml"):
                    self.yaml_block(where, block)
            for number, line in pages.prose(text):
                for span in re.findall(r"`([^`]+)`", line):
                    name = span.split(" ")[0]
                    if " " in span and (name.removeprefix("build/release/bin/") in PROGRAMS or
                                        re.match(r"(tools|tests|deploy)/[\w/]+(\.sh|/run)$", name)):
                        for words in commands(span + "\n"):
                            self.command(f"{page}:{number}", words)


def commands(block):
    """The words of each command; comments, variables and what follows a pipe's end left out."""
    for line in block.replace("\\\n", " ").splitlines():
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            words = []  # an apostrophe in prose of a span
        current = []
        for word in words + [";"]:
            if word in (";", "&&", "||", "|", "&", "..."):
                while current and re.match(r"\w+=", current[0]):
                    current = current[1:]
                if current and current[0] in ("nice", "sudo", "env", "exec"):
                    current = current[1:]
                if current:
                    yield current
                current = []
            else:
                current.append(word)


def main():
    test = Commands(sys.argv[1], sys.argv[2])
    test.all()
    print(*test.wrong, sep="\n")
    print(f"{test.tried} commands and blocks tried, {len(test.wrong)} complaints")
    if test.wrong:
        return 1
    if test.missing:
        print(f"skipped: not built: {', '.join(sorted(test.missing))}")
        return 77
    return 0


if __name__ == "__main__":
    sys.exit(main())
