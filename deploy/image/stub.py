#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""stub.py LIBRARY USERS_FOLDER OUT: a shared object in the place of LIBRARY with the symbols that the libraries below
USERS_FOLDER take from it, each of which ends the process.

LibTorch of Debian is linked against OpenCV, FFmpeg and GDAL, to read pictures, films and maps. Nothing of ours comes near
them; they, and what they load in turn, are a third of the image."""
import os
import pathlib
import re
import subprocess
import sys


def symbols(path, *options):
    said = subprocess.run(['nm', '-D', *options, path], capture_output=True, text=True, check=False).stdout
    for line in said.splitlines():
        kind, name = line.split()[-2:]
        yield kind, *(re.split('@+', name) + [''])[:2]


def main():
    library, users, out = sys.argv[1:]
    soname = os.path.basename(library)
    offered = {name: (kind, version) for kind, name, version in symbols(library, '--defined-only')}
    wanted = {}
    for path in sorted(pathlib.Path(users).rglob('*.so*')):
        if path.is_symlink() or not path.is_file():
            continue
        for _, name, _ in symbols(str(path), '--undefined-only'):
            if name in offered:
                wanted[name] = offered[name]
    source, versions = ['#include <stdlib.h>'], {}
    for number, (name, (kind, version)) in enumerate(sorted(wanted.items())):
        if kind in 'BDRV':
            source.append(f'char stub{number}[256] __asm__("{name}");')
        else:
            source.append(f'void stub{number}(void) __asm__("{name}"); void stub{number}(void) {{ abort(); }}')
        versions.setdefault(version or 'NONE', []).append(name)
    script = ''
    for version, names in sorted(versions.items()):
        if version != 'NONE':
            script += f'{version} {{ global: ' + ' '.join(f'"{n}";' for n in names) + ' };\n'
    command = ['gcc', '-shared', '-fPIC', '-O1', f'-Wl,-soname,{soname}', '-Wl,--build-id=none', '-x', 'c', '-', '-o', out]
    if script:
        pathlib.Path(out + '.map').write_text(script, encoding='utf-8')
        command.insert(1, f'-Wl,--version-script={out}.map')
    subprocess.run(command, input='\n'.join(source) + '\n', text=True, check=True)
    pathlib.Path(out + '.map').unlink(missing_ok=True)


main()
