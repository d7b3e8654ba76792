#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""image_test.py ROOT: what lies beside an image, signatures (deploy/image/sign.sh) and the look at what is in it
(deploy/image/scan.py), on small files."""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(sys.argv.pop(1)).resolve()


def run(*command):
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)


class Image(unittest.TestCase):
    def setUp(self):
        self.made = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self.made.name)

    def tearDown(self):
        self.made.cleanup()

    def key(self, name):
        private, public = self.folder / f'{name}.pem', self.folder / f'{name}.pub'
        self.assertEqual(run('openssl', 'ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', private).returncode, 0)
        self.assertEqual(run('openssl', 'ec', '-in', private, '-pubout', '-out', public).returncode, 0)
        return private, public

    def test_a_signature_holds_for_its_key_and_its_bytes_alone(self):
        private, public = self.key('ours')
        _, other = self.key('other')
        archive = self.folder / 'ballast.tar'
        archive.write_bytes(b'an archive')
        sign = ROOT / 'deploy/image/sign.sh'
        self.assertEqual(run(sign, private, archive).returncode, 0)
        self.assertEqual(run(sign, '--check', public, archive).returncode, 0)
        self.assertEqual(run(sign, '--check', other, archive).returncode, 1)
        archive.write_bytes(b'another archive')
        self.assertEqual(run(sign, '--check', public, archive).returncode, 1)
        self.assertEqual(run(sign, self.folder / 'nowhere.pem', archive).returncode, 2)

    def test_a_version_that_was_mended_is_told_and_one_that_is_open_too(self):
        listed = self.folder / 'ballast.cdx.json'
        package = {'type': 'library', 'name': 'libx1', 'version': '1.2-3', 'purl': 'pkg:deb/debian/libx1@1.2-3?arch=amd64&distro=bookworm',
                   'properties': [{'name': 'debian:source', 'value': 'x'}]}
        listed.write_text(json.dumps({'components': [package, {'type': 'application', 'name': 'ballastd', 'version': '0.1.0'}]}))
        tracker = self.folder / 'tracker.json'
        scan = ROOT / 'deploy/image/scan.py'

        def told(releases):
            tracker.write_text(json.dumps({'x': {'CVE-1': {'releases': {'bookworm': releases}}}}))
            return run(scan, listed, tracker)

        alone = run(scan, listed)
        self.assertEqual((alone.returncode, alone.stdout.splitlines()[0]), (0, 'libx1 1.2-3'))
        self.assertIn('no data', alone.stdout)
        behind = told({'status': 'resolved', 'fixed_version': '1.2-4'})
        self.assertEqual(behind.returncode, 1)
        self.assertIn('CVE-1: mended in 1.2-4', behind.stdout)
        self.assertEqual(told({'status': 'resolved', 'fixed_version': '1.2-3'}).returncode, 0)
        self.assertEqual(told({'status': 'resolved', 'fixed_version': '0'}).returncode, 0)
        opened = told({'status': 'open', 'urgency': 'low'})
        self.assertEqual(opened.returncode, 0)
        self.assertIn('CVE-1: open in bookworm (low)', opened.stdout)


unittest.main()
