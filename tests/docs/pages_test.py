#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""pages_test.py SOURCE_DIR [CHECK...]: every check of pages.py on the tree."""
import sys

import pages


def main():
    tree = pages.Tree(sys.argv[1])
    wrong = [f"{name}: {said}" for name in sys.argv[2:] or pages.CHECKS for said in pages.CHECKS[name](tree)]
    print(*wrong, sep="\n")
    print(f"{len(tree.pages)} pages, {len(wrong)} complaints")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
