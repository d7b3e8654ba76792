# SPDX-License-Identifier: Apache-2.0
"""What holds for every page: each check gives a list of complaints, each with its file and line.

`Tree` is the repository at a folder; the checks read it and nothing else, so that broken_test.py can show each of
them a tree that is wrong.
"""
import html
import pathlib
import re
import subprocess

README_BYTES = 8 * 1024
PICTURE_BYTES = 300 * 1024
PRODUCT = ("bpf", "core", "agent", "model", "tools")
SOURCE = (".c", ".h", ".cpp", ".proto")
COMMENTED = SOURCE + (".py", ".sh", ".yaml", ".txt", ".cmake")


class Tree:
    def __init__(self, root):
        self.root = pathlib.Path(root)
        listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=root,
                                capture_output=True, text=True, check=True).stdout.splitlines()
        self.files = sorted({name for name in listed if (self.root / name).is_file()})
        self.pages = [name for name in self.files if name.endswith(".md")]
        self.texts = {}

    def text(self, name):
        if name not in self.texts:
            self.texts[name] = (self.root / name).read_text(errors="replace")
        return self.texts[name]

    def folders(self):
        found = set()
        for name in self.files:
            found |= {str(parent) for parent in pathlib.PurePosixPath(name).parents if str(parent) != "."}
        return found


def prose(text):
    """(line number, line) without what stands in fenced blocks."""
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            yield number, line


def blocks(text):
    """(line number, language, text) of each fenced block, without its indent."""
    fence = None
    for number, line in enumerate(text.splitlines(), 1):
        mark = re.match(r"( *)```(\S*)", line)
        if mark and fence is None:
            fence = (number + 1, mark[2], len(mark[1]), [])
        elif mark:
            yield fence[0], fence[1], "\n".join(fence[3]) + "\n"
            fence = None
        elif fence is not None:
            fence[3].append(line[fence[2]:])


def table(text, heading):
    """(line number, cells) of the rows of the table whose first header cell is `heading`."""
    rows, inside = [], False
    for number, line in prose(text):
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")] if line.startswith("|") else []
        if not cells:
            inside = False
        elif cells[0] == heading:
            inside = True
        elif inside and not set(line) <= set("|-: "):
            rows.append((number, cells))
    return rows


def anchors(text):
    """The anchors of a page's headings, as GitHub makes them."""
    found, seen = set(), {}
    for _, line in prose(text):
        heading = re.match(r"#{1,6} +(.*?) *#*$", line)
        if not heading:
            continue
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1]).lower()
        anchor = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        count = seen.get(anchor, 0)
        seen[anchor] = count + 1
        found.add(anchor if count == 0 else f"{anchor}-{count}")
    return found


def links(tree):
    """Files and anchors that links of pages lead to."""
    wrong = []
    for page in tree.pages:
        for number, line in prose(tree.text(page)):
            line = re.sub(r"`[^`]*`", "", line)
            for target in re.findall(r"\]\(([^)\s]+)\)", line) + re.findall(r'(?:src|srcset|href)="([^"]+)"', line):
                if re.match(r"[a-z]+:", target):
                    continue
                path, _, anchor = html.unescape(target).partition("#")
                file = (pathlib.PurePosixPath(page).parent / path) if path else pathlib.PurePosixPath(page)
                name = str(pathlib.PurePosixPath(*_normal(file.parts)))
                if name not in tree.files and name not in tree.folders():
                    wrong.append(f"{page}:{number}: {target} leads to no file of the repository")
                elif anchor and name.endswith(".md") and anchor not in anchors(tree.text(name)):
                    wrong.append(f"{page}:{number}: {target}: {name} has no heading #{anchor}")
    return wrong


def _normal(parts):
    out = []
    for part in parts:
        if part == ".." and out:
            out.pop()
        elif part != ".":
            out.append(part)
    return out


def paths(tree):
    """Paths in code spans that begin with a folder of the house are there."""
    wrong = []
    top = {name.split("/")[0] for name in tree.files if "/" in name}
    for page in tree.pages:
        if page == "CHANGELOG.md":  # what was
            continue
        for number, line in prose(tree.text(page)):
            for span in re.findall(r"`([^`]+)`", line):
                path = re.match(r"([\w.-]+(?:/[\w.-]+)+)/?(?=$|[ :,;*])", span)
                if not path or path[1].split("/")[0] not in top or path[1].startswith("build/"):
                    continue
                if path[1] not in tree.files and path[1] not in tree.folders():
                    wrong.append(f"{page}:{number}: there is no {path[1]}")
    return wrong


def outside(tree):
    """No page and no comment speaks of a document outside the repository, or of a work place."""
    wrong = []
    said = re.compile(r"design section|design\.md|\bissue \d|\.\./shared|(?<![\w/])/work/|\bfindings? \d|the brief\b")
    spoken = [f for f in tree.files if f.endswith(COMMENTED) and not f.startswith("tests/docs/")]
    for file in [*tree.pages, *spoken]:
        for number, line in enumerate(tree.text(file).splitlines(), 1):
            for found in said.findall(line):
                wrong.append(f"{file}:{number}: speaks of what is not in the repository: {found}")
    return wrong


def sizes(tree):
    wrong = []
    readme = (tree.root / "README.md").stat().st_size
    if readme > README_BYTES:
        wrong.append(f"README.md: {readme} bytes, at most {README_BYTES}")
    for name in tree.files:
        if name.startswith("docs/pictures/") and (tree.root / name).stat().st_size > PICTURE_BYTES:
            wrong.append(f"{name}: more than {PICTURE_BYTES} bytes")
    return wrong


def reachable(tree):
    """Every page of docs/ can be reached from README.md."""
    seen, queue = set(), ["README.md"]
    while queue:
        page = queue.pop()
        if page in seen or page not in tree.pages:
            continue
        seen.add(page)
        for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", tree.text(page)):
            if not re.match(r"[a-z]+:", target):
                queue.append(str(pathlib.PurePosixPath(*_normal((pathlib.PurePosixPath(page).parent / target).parts))))
    return [f"{page}: no way leads to it from README.md"
            for page in tree.pages if page.startswith("docs/") and page not in seen]


def rooms(tree):
    """The map of docs/architecture.md against cmake/rooms.cmake and the folders of the tree."""
    page = "docs/architecture.md"
    order = re.search(r"set\(BALLAST_ROOM_ORDER([^)]*)\)", tree.text("cmake/rooms.cmake"))[1].split()
    order = [room for room in order if not room.startswith("#")]
    named = [cells[0].strip("`") for _, cells in table(tree.text(page), "room")]
    wrong = []
    if named != order:
        for room in order:
            if room not in named:
                wrong.append(f"{page}: the map lacks the room {room}")
        for room in named:
            if room not in order:
                wrong.append(f"{page}: the map has {room}, which is no room of cmake/rooms.cmake")
        if not wrong:
            wrong.append(f"{page}: the rooms do not stand in the order of cmake/rooms.cmake: {order}")
    beside = [name for _, cells in table(tree.text(page), "folder") for name in re.findall(r"`([^`]+)`", cells[0])]
    folders = tree.folders()
    for name in named + beside:
        if name not in folders:
            wrong.append(f"{page}: there is no folder {name}")
    # Every folder has a row, or lies below one that has.
    rows = set(named) | set(beside)
    for folder in sorted(folders):
        ancestors = [folder] + [str(parent) for parent in pathlib.PurePosixPath(folder).parents]
        holds_rows = any(row.startswith(folder + "/") for row in rows)
        if not holds_rows and not folder.startswith(".") and not any(a in rows for a in ancestors):
            wrong.append(f"{page}: no row of the map has the folder {folder}")
    return wrong


def touches(tree):
    """The table of what a change touches: product files that name the example, counted."""
    page = "docs/architecture.md"
    rows = table(tree.text(page), "a new")
    wrong = [] if rows else [f"{page}: no table of what a change touches"]
    for number, cells in rows:
        if len(cells) != 4:
            wrong.append(f"{page}:{number}: not four cells")
            continue
        names = re.findall(r"`([^`]+)`", cells[2])
        said = set(re.findall(r"`([^`]+)`", cells[3]))
        found = set()
        for name in tree.files:
            if name.startswith(tuple(folder + "/" for folder in PRODUCT)) and name.endswith(SOURCE):
                code = re.sub(r"//[^\n]*|/\*.*?\*/", "", tree.text(name), flags=re.S)
                if any(re.search(rf"(?<![\w]){re.escape(each)}(?![\w])", code) for each in names):
                    found.add(name)
        for name in sorted(found - said):
            wrong.append(f"{page}:{number}: {names} is known to {name} too, which the table does not say")
        for name in sorted(said - found):
            wrong.append(f"{page}:{number}: {name} does not know {names}")
        allowed = re.search(r"(\d+)$|(\d+) files?$", cells[1])
        most = int(allowed[1] or allowed[2]) if allowed else 0
        own = "its" in cells[1]
        stem = {pathlib.PurePosixPath(name).with_suffix("").name for name in said}
        # A header and its source are one file of its own.
        others = len({str(pathlib.PurePosixPath(n).with_suffix("")) for n in said}) - (1 if own else 0)
        if others > most or not stem:
            wrong.append(f"{page}:{number}: a new {cells[0]} may touch {cells[1]}, and touches {sorted(said)}")
    return wrong


def troubles(tree):
    """docs/troubleshooting.md: Events and reasons of loss are those of the code, messages are in it."""
    page = "docs/troubleshooting.md"
    wrong = []
    code = "".join(tree.text(name) for name in tree.files
                   if name.startswith(("agent/", "core/", "tools/")) and name.endswith(SOURCE + (".sh",)))
    # Strings that the compiler joins are one message, and what is put in while it runs is a hole.
    joined = re.sub(r'"\s*\n?\s*"', "", code)
    events = set()
    for name in tree.files:
        if name.startswith("agent/actuate/istio/") and name.endswith(".cpp"):
            events |= set(re.findall(r'(?:Refusal\{|(?:say|post)\([^;]*?(?:true|false), )\s*"([A-Z]\w+)"', tree.text(name)))
    said = {cells[0].strip("`"): number for number, cells in table(tree.text(page), "reason") if cells[0][1:2].isupper()}
    wrong += [f"{page}: the Event {event} is not explained" for event in sorted(events - said.keys())]
    wrong += [f"{page}:{said[event]}: no code says the Event {event}" for event in sorted(said.keys() - events)]
    losses = set(re.findall(r'case BALLAST_LOSS_\w+:\s*return "(\w+)"', code))
    told = {cells[0].strip("`"): number for number, cells in table(tree.text(page), "reason") if cells[0][1:2].islower()}
    wrong += [f"{page}: the loss {loss} is not explained" for loss in sorted(losses - told.keys())]
    wrong += [f"{page}:{told[loss]}: no code says the loss {loss}" for loss in sorted(told.keys() - losses)]
    for heading in ("message has", "message"):
        for number, cells in table(tree.text(page), heading):
            for message in re.findall(r"`([^`]+)`", cells[0]):
                parts = [part for part in re.split(r"\.\.\.|FILE:LINE: KEY: ?", message) if part.strip()]
                wrong += [f"{page}:{number}: no code says \"{part}\"" for part in parts
                          if part.strip() not in joined and part.strip() not in code]
    return wrong


def hints(tree):
    """Flags that messages of the programs name are there (docs/cli.md, which is made from the programs, has all)."""
    known = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", tree.text("docs/cli.md")))
    wrong = []
    for name in tree.files:
        # Programs of the house alone; where others' are started or measured the flags are theirs.
        if not name.startswith(("agent/", "core/", "model/", "tools/ctl/")) or not name.endswith(SOURCE):
            continue
        for number, line in enumerate(tree.text(name).splitlines(), 1):
            for said in re.findall(r'"((?:[^"\\]|\\.)*)"', re.sub(r"^\s*//.*", "", line)):
                wrong += [f"{name}:{number}: no program has {flag}"
                          for flag in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", said)
                          if flag not in known and not name.startswith("core/cli/")]
    return wrong


CHECKS = {check.__name__: check
          for check in (links, paths, outside, sizes, reachable, rooms, touches, troubles, hints)}
