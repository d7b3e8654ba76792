#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""jmeter_test.py reads|live BIN: what tools/jmeter makes of plans and results, and a short plan through the real lab."""
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROOM = ROOT / "tools/jmeter"
BIN = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else ROOT / "build/release/bin").resolve()
HEAD = "timeStamp,elapsed,label,responseCode,success\n"
ROW = "1700000000000,12,browse,200,true\n"


def module(name):
    loader = importlib.machinery.SourceFileLoader(name, str(ROOM / name))
    made = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(made)
    return made


class Reads(unittest.TestCase):
    def setUp(self):
        self.client = module("client")
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.jtl = self.folder / "r.jtl"

    def wrong(self, text, told=None):
        self.jtl.write_text(text)
        with self.assertRaises(self.client.Wrong) as caught:
            self.client.read_jtl(self.jtl, told)
        self.assertIn(str(self.jtl), str(caught.exception))
        return str(caught.exception)

    def test_a_whole_result(self):
        self.jtl.write_text(HEAD + ROW + ROW.replace("true", "false"))
        self.assertEqual(self.client.read_jtl(self.jtl, 2), [(1700000000000, 12, True), (1700000000000, 12, False)])

    def test_a_result_that_ends_in_the_middle_is_named(self):
        self.assertIn("middle of a line", self.wrong(HEAD + ROW + ROW[:20]))
        self.assertIn("1 samples of 2", self.wrong(HEAD + ROW, 2))
        self.assertIn("row 2", self.wrong(HEAD + "1700000000000,12\n"))
        self.assertIn("no head", self.wrong(ROW))
        self.assertIn("ends in the middle", self.wrong(""))
        said = subprocess.run([ROOM / "client", "--check-result", self.jtl], capture_output=True, text=True, check=False)
        self.assertEqual(said.returncode, 1)
        self.assertIn(str(self.jtl), said.stderr)

    def test_a_plan_that_cannot_be_read_is_named_and_nothing_is_handed_on(self):
        plan = self.folder / "plan.jmx"
        for text in ("<jmeterTestPlan><hash", "<other/>", "<jmeterTestPlan/>", (ROOM / "plan.jmx").read_text()[:3000]):
            plan.write_text(text)
            env = dict(os.environ, BALLAST_LAB_RESULT=str(self.folder / "out.txt"))
            said = subprocess.run([ROOM / "client", "--plan", plan], capture_output=True, text=True, env=env, check=False)
            self.assertEqual(said.returncode, 2, said.stderr)
            self.assertIn(f"the plan {plan} cannot be read", said.stderr)
            self.assertFalse((self.folder / "out.txt").exists())

    def test_every_property_of_the_plan_is_given(self):
        env = {"BALLAST_LAB_TARGET": "127.0.0.1:80", "BALLAST_LAB_SECONDS": "100", "BALLAST_LAB_RATE": "280",
               "BALLAST_LAB_MEAN_US": "2000"}
        asked = set(re.findall(r"\$\{__P\((\w+)\)\}", (ROOM / "plan.jmx").read_text()))
        for traffic in self.client.TRAFFICS:
            self.assertEqual(asked, set(self.client.properties(traffic, env)) & asked)
        given = self.client.properties("normal", env)
        shares = {"browse": 0.6, "search": 0.3, "order": 0.1}
        mean = sum(share * (given[f"{kind}_least_us"] + given[f"{kind}_most_us"]) / 2 for kind, share in shares.items())
        self.assertEqual(mean, 2000)

    def test_counts_that_differ_make_no_figure(self):
        run = module("run")
        pods = [{"requests_total": 600, "kernel": {"requests_total": 600}},
                {"requests_total": 400, "kernel": {"requests_total": 397}}]
        report = {"arms": [{"policy": "p", "results": [{"round": 1, "sent_total": 1000, "pods": pods}]}]}
        self.assertEqual(run.apart(report), ["p, round 1: JMeter counted 1000, the kernel 997"])
        pods[1]["kernel"]["requests_total"] = 399
        self.assertEqual(run.apart(report), [])


def live():
    if os.geteuid() != 0:
        print("skipped: the lab needs root")
        return 77
    fetched = subprocess.run([ROOM / "fetch.sh"], capture_output=True, text=True, check=False)
    if fetched.returncode == 3:
        print("skipped: " + fetched.stderr.strip().splitlines()[-1])
        return 77
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([ROOM / "run", "--bin", BIN, "--out", folder, "--traffic", "spike", "--client", "jmeter",
                               "--policy", "least_request,ballast_shipped", "--seconds", "10", "--warmup", "2", "--pairs",
                               "1", "--no-page"], check=False)
        if done.returncode != 0:
            return 1
        for arm in json.loads((pathlib.Path(folder) / "jmeter-spike.json").read_text())["arms"]:
            run = arm["results"][0]
            assert run["sent_total"] > 100 and run["failed"] == 0, run
            assert sum(run["answered_by_s"]) == run["requests"], run
    return 0


if sys.argv[1] == "live":
    sys.exit(live())
unittest.main(argv=sys.argv[:1])
