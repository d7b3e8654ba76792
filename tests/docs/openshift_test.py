#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""openshift_test.py ROOT: the constraints of components/openshift let in what is installed, with a certificate of the
user's too, and what uninstalls (tests/cluster/scc.py)."""
import pathlib
import subprocess
import sys
import unittest

import yaml

ROOT = pathlib.Path(sys.argv.pop(1)).resolve()
DEPLOY = ROOT / 'deploy/daemonset'


def manifests():
    for path in ('base/daemonset.yaml', 'base/global.yaml', 'components/openshift/scc.yaml', 'uninstall/unload.yaml', 'uninstall/job.yaml'):
        for each in yaml.safe_load_all((DEPLOY / path).read_text()):
            each['metadata'].setdefault('namespace', 'ballast-system')
            yield each


def told(objects):
    return subprocess.run([ROOT / 'tests/cluster/scc.py'], input=yaml.safe_dump_all(objects), capture_output=True, text=True, check=False)


class OpenShift(unittest.TestCase):
    def test_all_pods_are_let_in(self):
        said = told(manifests())
        self.assertEqual((said.returncode, said.stdout), (0, '4 kinds of pods\n'))

    def test_so_are_they_with_a_certificate_of_the_users(self):
        objects = list(manifests())
        pods = [o['spec']['template']['spec'] for o in objects if o['kind'] in ('DaemonSet', 'Deployment')]
        for pod in pods:
            pod['volumes'].append({'name': 'certificate', 'secret': {'secretName': 'mine'}})
        self.assertEqual(told(objects).returncode, 0)

    def test_what_asks_for_more_is_not(self):
        objects = list(manifests())
        agent = next(o for o in objects if o['kind'] == 'DaemonSet')['spec']['template']['spec']
        agent['hostPID'] = True
        agent['containers'][0]['securityContext']['privileged'] = True
        said = told(objects)
        self.assertEqual(said.returncode, 1)
        self.assertIn('hostPID', said.stdout)
        self.assertIn('ballastd: privileged', said.stdout)


unittest.main()
