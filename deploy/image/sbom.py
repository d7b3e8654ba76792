#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""sbom.py NAME VERSION ROOT: a CycloneDX list of what is in an image, from the packages' own data below ROOT and the
digests of its programs. Without times and serial numbers: the same image has the same list."""
import hashlib
import json
import pathlib
import sys


def main():
    name, version, root = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    components = []
    for path in sorted((root / 'usr/bin').glob('ballast*')):
        components.append({'type': 'application', 'name': path.name, 'version': version,
                           'hashes': [{'alg': 'SHA-256', 'content': hashlib.sha256(path.read_bytes()).hexdigest()}],
                           'licenses': [{'license': {'id': 'Apache-2.0'}}]})
    for path in sorted((root / 'var/lib/dpkg/status.d').iterdir()):
        fields = dict(line.split(': ', 1) for line in path.read_text(encoding='utf-8').splitlines()
                      if ': ' in line and not line.startswith(' '))
        package, number, machine = fields['Package'], fields['Version'], fields['Architecture']
        source = fields.get('Source', package).split(' ')[0]
        components.append({'type': 'library', 'name': package, 'version': number,
                           'purl': f'pkg:deb/debian/{package}@{number}?arch={machine}&distro=bookworm',
                           'properties': [{'name': 'debian:source', 'value': source}]})
    for path in sorted((root / 'usr/share/doc/ballast').glob('stub-*')):
        components.append({'type': 'file', 'name': path.name.removeprefix('stub-'), 'version': version,
                           'description': 'a stub: its functions end the process'})
    print(json.dumps({'bomFormat': 'CycloneDX', 'specVersion': '1.5', 'version': 1,
                      'metadata': {'component': {'type': 'container', 'name': name, 'version': version}},
                      'components': components}, indent=1))


main()
