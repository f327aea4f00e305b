"""Splits a test file into pieces that a board's heap can hold.

A piece is the source of the file in which everything is blank but some of its tests and what these need: imports,
constants, functions and classes at module level. Line numbers stay, so a traceback on the board names the right line.
"""

import ast

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class Piece:
    """Some tests of one file.

    module: the name of the test file without .py; tests: names of functions; source: text; imports: the names of
    the modules that it imports, a set.
    """

    def __init__(self, module, tests, source, imports):
        self.module = module
        self.tests = tests
        self.source = source
        self.imports = imports


def bound_names(statement):
    """Returns the names that a statement at module level defines, a set."""
    if isinstance(statement, DEFINITIONS):
        return {statement.name}
    names = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    for node in ast.walk(statement):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, DEFINITIONS):
            names.add(node.name)
    return names


def used_names(statement):
    """Returns all names in a statement, a set."""
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}


def imported_modules(statements):
    """Returns the names of the modules that statements import, a set."""
    found = set()
    for statement in statements:
        for node in ast.walk(statement):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(node.module)
    return found


def is_test(statement):
    """Whether a statement is a test function."""
    return isinstance(statement, ast.FunctionDef) and statement.name.startswith("test_")


def line_span(statement):
    """Returns the numbers of the first and the last line of a statement, decorators included."""
    decorators = getattr(statement, "decorator_list", [])
    return min([statement.lineno] + [node.lineno for node in decorators]), statement.end_lineno


class TestFile:
    """A test file taken apart: `module`, and the names of its `tests` in order.

    path: a pathlib.Path.
    """

    __test__ = False  # for pytest

    def __init__(self, path):
        self.module = path.stem
        source = path.read_text()
        self.lines = source.splitlines()
        self.statements = ast.parse(source).body
        self.tests = [statement.name for statement in self.statements if is_test(statement)]
        self._binds = [bound_names(statement) for statement in self.statements]
        self._uses = [used_names(statement) for statement in self.statements]

    def _needed(self, tests):
        """Returns the indices of the statements that `tests` need, a set."""
        binders = {}
        for index, names in enumerate(self._binds):
            for name in names:
                binders.setdefault(name, set()).add(index)
        # What defines nothing is there for what it does: it belongs to every piece, but for docstrings.
        open_indices = {
            index
            for index, statement in enumerate(self.statements)
            if not self._binds[index] and not (isinstance(statement, ast.Expr) and not self._uses[index])
        }
        for name in tests:
            open_indices |= binders[name]
        needed = set()
        while open_indices:
            index = open_indices.pop()
            needed.add(index)
            for name in self._uses[index]:
                open_indices |= binders.get(name, set()) - needed
        return needed

    def _source(self, indices):
        """Returns the source with all blank but these statements."""
        lines = [""] * len(self.lines)
        for index in indices:
            first, last = line_span(self.statements[index])
            lines[first - 1 : last] = self.lines[first - 1 : last]
        return "\n".join(lines).rstrip("\n") + "\n"

    def _size(self, indices):
        """Returns the bytes of source in these statements."""
        spans = [line_span(self.statements[index]) for index in indices]
        return sum(len(line) for first, last in spans for line in self.lines[first - 1 : last])

    def piece(self, tests):
        """Returns the Piece with `tests`, a list of names."""
        indices = self._needed(tests)
        imports = imported_modules([self.statements[index] for index in indices])
        return Piece(self.module, tests, self._source(indices), imports)

    def pieces(self, wanted, most_len):
        """Returns Pieces with the tests `wanted`, of `most_len` bytes of source each, or of one test that is longer."""
        found = []
        gathered = []
        for name in [name for name in self.tests if name in wanted]:
            if gathered and self._size(self._needed(gathered + [name])) > most_len:
                found.append(self.piece(gathered))
                gathered = []
            gathered.append(name)
        return found + ([self.piece(gathered)] if gathered else [])
