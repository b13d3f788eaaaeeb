"""What of a notebook an answer needs: the statements that define the names it uses, and no others.

So an answer is checked without executing its lesson: `import torch` and a constant come along, a
training does not, unless an answer uses what it trained.
"""

import ast
import builtins
import re
import symtable

MAGIC = re.compile(r"^\s*[%!].*$", re.M)    # lines for IPython, not for Python


def plain(source: str) -> str:
    """A cell's Python, without IPython's magics."""
    return MAGIC.sub("", source)


def tables_of(source: str) -> list[symtable.SymbolTable]:
    """The cell's own table of symbols and those inside it; none for a cell that is no Python."""
    try:
        waiting = [symtable.symtable(plain(source), "cell", "exec")]
    except (SyntaxError, ValueError):
        return []
    for table in waiting:
        waiting += table.get_children()
    return waiting


def defined_names(source: str) -> set[str]:
    """The names that a cell binds: functions, classes, imports, variables."""
    tables = tables_of(source)
    if not tables:
        return set()
    return {symbol.get_name() for symbol in tables[0].get_symbols()
            if symbol.is_assigned() or symbol.is_imported()}


def needed_names(source: str) -> set[str]:
    """The names that a cell takes from elsewhere in its notebook."""
    used = set()
    for depth, table in enumerate(tables_of(source)):
        for symbol in table.get_symbols():
            # inside a function a name is global, or its own
            outer = symbol.is_global() if depth else True
            if outer and symbol.is_referenced():
                used.add(symbol.get_name())
    return used - defined_names(source) - set(dir(builtins))


def statements(source: str) -> list[str]:
    """A cell's statements at its top level, each as it stands; none if it is no Python."""
    text = plain(source)
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError):
        return []
    lines = text.splitlines()
    found = []
    for node in body:
        # a decorator stands above the line of its function
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        found.append("\n".join(lines[first - 1:node.end_lineno]))
    return found


def filled_names(statement: str) -> set[str]:
    """The names whose items a statement assigns: a dictionary that is filled after it was made."""
    return {node.value.id for node in ast.walk(ast.parse(statement))
            if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store)
            and isinstance(node.value, ast.Name)}


def slice_for(names: set[str], cells: list[str]) -> list[str]:
    """The statements of the cells, in order, that define these names and what those need in turn.

    Of several statements that define a name, the last one counts, with what fills it.
    """
    parts = [statement for cell in cells for statement in statements(cell)]
    places: dict[str, list[int]] = {}
    for number, part in enumerate(parts):
        for name in defined_names(part):
            places[name] = [number]
        for name in filled_names(part) - defined_names(part):
            places.setdefault(name, []).append(number)
    waiting, chosen = set(names), set()
    while waiting:
        for number in places.get(waiting.pop(), []):
            if number not in chosen:
                chosen.add(number)
                waiting |= needed_names(parts[number])
    return [parts[number] for number in sorted(chosen)]
