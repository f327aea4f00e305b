"""Prints what each part of a module costs: python tools/size.py --functions [MODULE [FILE]]

The module is compiled once for each of its functions, classes, methods and tables with that one taken out, and
imported on 32-bit MicroPython (WebAssembly). What the heap is smaller by is its cost: code, names that nothing else
uses, constants. Costs do not add up: a name used in two places is saved only when both are gone. Where the import
needs the part, only its body is taken out, and the line says so.
"""

import ast
import copy
import os
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from size_heap import KEEPS_SCRIPT, ROOT, MeasureError, compile_to, why_no_32_bits

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def label(node):
    """Returns the name of a statement: of a function, class, or the first target of an assignment; else None."""
    if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
        return node.name
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    return None


def kind(node):
    """Returns what a statement is, in a word."""
    if isinstance(node, ast.ClassDef):
        return "class"
    return "function" if isinstance(node, FUNCTIONS) else "name"


def is_private_const(node):
    """True for `_NAME = const(...)`, which costs nothing on MicroPython and without which nothing compiles."""
    value = getattr(node, "value", None)
    is_const = isinstance(value, ast.Call) and getattr(value.func, "id", "") == "const"
    return is_const and label(node).startswith("_")


def parts(tree):
    """Yields (path, kind) of what can be taken out, path as in ("Message", "copy"); a property counts once."""
    found = {}
    for node in tree.body:
        if label(node) and not is_private_const(node):
            found[label(node),] = kind(node)
        if isinstance(node, ast.ClassDef):
            for inner in node.body:
                if label(inner):
                    found[node.name, label(inner)] = "method" if kind(inner) == "function" else kind(inner)
    return found.items()


def without(tree, path, is_body_only):
    """Returns a copy of the tree without the part at `path`, or with an empty body for it."""
    tree = copy.deepcopy(tree)
    owner = tree
    for name in path[:-1]:
        owner = next(node for node in owner.body if isinstance(node, ast.ClassDef) and node.name == name)
    if is_body_only:
        for node in owner.body:
            if label(node) == path[-1] and hasattr(node, "body"):
                node.body = [ast.Pass()]
    else:
        owner.body = [node for node in owner.body if label(node) != path[-1]] or [ast.Pass()]
    return tree


def compile_tree(tree, folder, name):
    """Compiles a tree to `folder`/`name`.mpy; returns its bytes, or None when it does not compile."""
    folder.mkdir()
    with tempfile.TemporaryDirectory() as sources:
        source = Path(sources) / f"{name}.py"
        source.write_text(ast.unparse(tree))
        try:
            return compile_to(folder, source).stat().st_size
        except MeasureError:
            return None


def heaps(folders, script):
    """Returns the heap that the import keeps with each of the folders, None where it fails."""
    kept = []
    for start in range(0, len(folders), 40):  # a process keeps all its interpreters
        command = ["node", ROOT / "tools/wasm_run.mjs", script, *folders[start : start + 40]]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
        kept += [None if line.startswith("raised") else int(line) for line in done.stdout.splitlines()]
    return kept


def costs(tree, name, chosen, is_body_only, folder):
    """Returns {path: (heap bytes, .mpy bytes)} for the chosen paths, None for each that cannot be taken out.

    The first entry, None, is the whole module.
    """
    trees = [tree] + [without(tree, path, is_body_only) for path in chosen]
    folders = [folder / str(number) for number in range(len(trees))]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        sizes = list(pool.map(compile_tree, trees, folders, [name] * len(trees)))
    script = folder / "keeps.py"
    script.write_text(KEEPS_SCRIPT.format(name=name))
    compiled = [number for number, size in enumerate(sizes) if size is not None]
    kept = dict(zip(compiled, heaps([folders[number] for number in compiled], script)))
    measured = [(kept[n], sizes[n]) if kept.get(n) is not None else None for n in range(len(trees))]
    return dict(zip([None, *chosen], measured))


def measure(source, name):
    """Returns (heap bytes, .mpy bytes) of the whole, and rows (heap cost, .mpy cost, kind, path, is_body_only)."""
    tree = ast.parse(source)
    kinds = dict(parts(tree))
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder) / "first", Path(folder) / "second"
        first.mkdir(), second.mkdir()
        found = costs(tree, name, list(kinds), False, first)
        whole = found.pop(None)
        needed = [path for path in found if found[path] is None and kinds[path] != "name"]
        bodies = costs(tree, name, needed, True, second)
    rows = []
    for path in kinds:
        got = found[path] or bodies.get(path)
        if got:
            rows.append((whole[0] - got[0], whole[1] - got[1], kinds[path], ".".join(path), found[path] is None))
    return whole, sorted(rows, key=lambda row: (-row[0], -row[1]))


def source_of(name, path):
    """Returns the source; raises MeasureError with what to change when there is none that can be read."""
    path = Path(path or ROOT / f"lib/{name}.py")
    try:
        source = path.read_text()
        ast.parse(source)
    except OSError as error:
        raise MeasureError(f"{path}: {error.strerror}; --functions takes the name of a file in lib/, as in coap")
    except SyntaxError as error:
        raise MeasureError(f"{path}: line {error.lineno} is not Python")
    return source


def run(name="coap", path=None):
    """Prints the costs of lib/`name`.py, or of the file at `path` as module `name`, dearest first."""
    missing = why_no_32_bits()
    if missing:
        raise MeasureError(missing)
    whole, rows = measure(source_of(name, path), name)
    print(f"{name}.py keeps {whole[0]} bytes of heap on 32 bits, imported from {whole[1]} bytes of .mpy")
    print("%8s %8s  %-9s %s" % ("heap", ".mpy", "what", "name"))
    for heap_bytes, mpy_bytes, what, part, is_body_only in rows:
        note = "  (its body alone)" if is_body_only else ""
        print("%8d %8d  %-9s %s%s" % (heap_bytes, mpy_bytes, what, part, note))
