#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""scan.py LIST.cdx.json [TRACKER.json]: the packages of an image with their versions, one a line, from its list. With the
data of Debian's security tracker (https://security-tracker.debian.org/tracker/data/json, had beforehand), what is known
of them there: exit code 1 where a version that the release has already mended is not in the image. What Debian has
mended nowhere is told as open."""
import json
import subprocess
import sys


def older(version, than):
    return subprocess.run(['dpkg', '--compare-versions', version, 'lt', than], check=False).returncode == 0


def main():
    with open(sys.argv[1], encoding='utf-8') as file:
        components = [c for c in json.load(file)['components'] if c.get('purl', '').startswith('pkg:deb/')]
    tracker = {}
    if len(sys.argv) > 2:
        with open(sys.argv[2], encoding='utf-8') as file:
            tracker = json.load(file)
    behind = opened = 0
    for component in components:
        name, version = component['name'], component['version']
        release = component['purl'].rsplit('distro=', 1)[1]
        print(name, version)
        source = next((p['value'] for p in component.get('properties', []) if p['name'] == 'debian:source'), name)
        for issue, told in sorted(tracker.get(source, {}).items()):
            here = told.get('releases', {}).get(release, {})
            mended = here.get('fixed_version', '')
            if here.get('status') == 'open':
                opened += 1
                print(f'  {issue}: open in {release} ({here.get("urgency", "not told")})')
            elif mended not in ('', '0') and older(version, mended):
                behind += 1
                print(f'  {issue}: mended in {mended}, which this image has not')
    told = f'{behind} mended elsewhere, {opened} open' if tracker else 'no data of the security tracker was given'
    print(f'{len(components)} packages; {told}')
    sys.exit(1 if behind else 0)


if len(sys.argv) not in (2, 3):
    sys.exit('usage: scan.py LIST.cdx.json [TRACKER.json]')
main()
