"""The layout of the package, computed from its source: rooms, floors, cycles, upward imports."""

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ltu_jax"
ENTRIES = {"__init__", "__main__"}
ROOMS = {"data", "models", "training", "unlearners", "audit", "report", "runs", "cli"}
FOLDERS = sorted({path.parent for path in PACKAGE.rglob("*.py")})
MOST_FLOORS = 8
MOST_ROOT_MODULES = 6
MOST_LINES = 400


@cache
def modules():
    """Return the path of every module by its dotted name."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(PACKAGE.rglob("*.py"))
    }


@cache
def imports(name):
    """Return the modules of the package that a module imports, at any depth of its code."""
    found = set()
    for node in ast.walk(ast.parse(modules()[name].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                found.add(submodule if submodule in modules() else node.module)
    return found & modules().keys() - {name}


def room(name):
    return name.split(".")[1] if "." in name else "__init__"


def room_graph():
    """Return which rooms and root modules each of them imports."""
    graph = {}
    for name in modules():
        graph.setdefault(room(name), set()).update(map(room, imports(name)))
    return {name: targets - {name} for name, targets in graph.items()}


def floors():
    """Return the floor of every room: one above the highest that it imports.

    A `graphlib.CycleError` names rooms that import each other.
    """
    graph, found = room_graph(), {}
    for name in TopologicalSorter(graph).static_order():
        found[name] = 1 + max((found[target] for target in graph[name]), default=0)
    return found


def test_rooms_stand_on_at_most_eight_floors_without_a_cycle():
    by_floor = {}
    for name, floor in floors().items():
        if name not in ENTRIES:
            by_floor.setdefault(floor, []).append(name)
    print(
        *(f"{floor}: {', '.join(sorted(by_floor[floor]))}" for floor in sorted(by_floor)), sep="\n"
    )
    assert max(by_floor) <= MOST_FLOORS


def test_the_map_in_contributing_is_the_layout():
    """Every room is on the line of CONTRIBUTING.md that its imports allow: none imports upward."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    lines = [line.split() for line in text.splitlines() if line.strip()[:1].isdigit()]
    declared = {
        name.strip(",/"): int(words[0])
        for words in lines
        if words[0].isdigit()
        for name in words[1:]
        if name.strip(",/") in room_graph()
    }
    assert declared.keys() == room_graph().keys() - ENTRIES
    upward = [
        f"{name} -> {target}"
        for name, targets in room_graph().items()
        for target in targets
        if name in declared and declared.get(target, 0) >= declared[name]
    ]
    assert upward == []


def test_no_modules_import_each_other():
    TopologicalSorter({name: imports(name) for name in modules()}).prepare()


def test_the_root_holds_few_modules_and_the_rooms_are_the_eight():
    assert {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()} == ROOMS
    assert len({path.stem for path in PACKAGE.glob("*.py")} - ENTRIES) <= MOST_ROOT_MODULES


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.relative_to(ROOT).as_posix())
def test_every_folder_says_its_sentence_and_lists_its_public_names(folder):
    tree = ast.parse((folder / "__init__.py").read_text())
    assert ast.get_docstring(tree)
    assert any(
        isinstance(node, ast.Assign) and node.targets[0].id == "__all__"
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    )


@pytest.mark.parametrize("name", sorted(modules()))
def test_a_file_reads_in_one_sitting(name):
    assert len(modules()[name].read_text().splitlines()) <= MOST_LINES
