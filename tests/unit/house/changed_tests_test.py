#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tools/dev/changed_tests.py on a small tree of three rooms and three tests: it names the tests that depend on a
changed file, by source, by header that was compiled in, by header of a room that may be seen where nothing was
compiled yet, and by the test's own folder; and no others."""
import pathlib
import subprocess
import sys
import tempfile

SOURCE = pathlib.Path(sys.argv[1])

CMAKE = """
cmake_minimum_required(VERSION 3.25)
project(rooms LANGUAGES CXX)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin/tests)
find_package(Threads REQUIRED)
include(%s/cmake/rooms.cmake)
ballast_room(core/base)
ballast_room(agent/fleet SOURCES agent/fleet/fleet.cpp SEES core/base)
ballast_room(agent/guard SOURCES agent/guard/guard.cpp SEES core/base)
ballast_binary(fleet_test SOURCES tests/fleet/fleet_test.cpp SEES agent/fleet core/base)
ballast_binary(guard_test SOURCES tests/guard/guard_test.cpp SEES agent/guard core/base)
""" % SOURCE

FILES = {
    "CMakeLists.txt": CMAKE,
    "core/base/base.h": "#pragma once\n",
    "core/base/unused.h": "#pragma once\n",
    "agent/fleet/fleet.h": "#pragma once\nint fleet();\n",
    "agent/fleet/fleet.cpp": '#include "agent/fleet/fleet.h"\n#include "core/base/base.h"\nint fleet() { return 0; }\n',
    "agent/guard/guard.h": "#pragma once\nint guard();\n",
    "agent/guard/guard.cpp": '#include "agent/guard/guard.h"\nint guard() { return 0; }\n',
    "tests/fleet/fleet_test.cpp": '#include "agent/fleet/fleet.h"\nint main() { return fleet(); }\n',
    "tests/fleet/golden.txt": "1\n",
    "tests/guard/guard_test.cpp": '#include "agent/guard/guard.h"\nint main() { return guard(); }\n',
}


def chosen(root, *changed):
    done = subprocess.run([SOURCE / "tools/dev/changed_tests.py", "build"], cwd=root, text=True, check=True,
                          input="\n".join(changed), stdout=subprocess.PIPE)
    return sorted(done.stdout.split())


def expect(what, got, wanted):
    if got != wanted:
        sys.exit(f"FAIL: {what}: got {got}, wanted {wanted}")
    print(f"ok: {what}: {got}")


def main():
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for name, text in FILES.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        subprocess.run(["cmake", "-S", root, "-B", root / "build", "-G", "Ninja"], check=True, capture_output=True)
        expect("never compiled, a header that both may see", chosen(root, "core/base/unused.h"),
               ["fleet_test", "guard_test"])
        expect("never compiled, a room that one sees", chosen(root, "agent/guard/guard.h"), ["guard_test"])
        subprocess.run(["cmake", "--build", root / "build"], check=True, capture_output=True)
        expect("a source", chosen(root, "agent/fleet/fleet.cpp"), ["fleet_test"])
        expect("a header", chosen(root, "agent/guard/guard.h"), ["guard_test"])
        expect("a header that one room includes", chosen(root, "core/base/base.h"), ["fleet_test"])
        expect("a header that nobody includes", chosen(root, "core/base/unused.h"), [])
        expect("a file in a test's folder", chosen(root, "tests/fleet/golden.txt"), ["fleet_test"])
        expect("a file elsewhere", chosen(root, "docs/page.md"), [])
        expect("nothing", chosen(root), [])


if __name__ == "__main__":
    main()
