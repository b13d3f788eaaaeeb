"""The package's docstrings are plain text with `code` and indented lines; Sphinx reads reStructuredText."""

import re

CODE = re.compile(r"`([^`]+)`")


def escape(line: str) -> str:
    """A line of prose in which only backticks mean something."""
    parts = CODE.split(line)                     # prose, code, prose, ...
    prose = [re.sub(r"([\\*_|])", r"\\\1", part).replace("`", r"\`") for part in parts[::2]]
    code = [f"``{part.strip()}``" for part in parts[1::2]] + [""]
    # reStructuredText wants a space, or this escaped one, around code
    return "".join(p + (c and rf"\ {c}\ ") for p, c in zip(prose, code, strict=True))


def indent_of(line: str) -> int:
    return len(line) - len(line.lstrip())


def blocks_of(lines: list[str]) -> list[list[str]]:
    """Lines in blocks: a paragraph, an item of a list with its further lines, or indented lines."""
    blocks, kind = [], None
    for line in lines:
        item = line.startswith("- ")
        new = "gap" if not line.strip() else "item" if item else "inset" if indent_of(line) else "prose"
        if kind == "item" and new == "inset":    # the item goes on
            new = "item"
        if new != kind or item:
            blocks.append([])
        blocks[-1].append(line)
        kind = new
    return [block for block in blocks if block[0].strip()]


def to_rst(app, what, name, obj, options, lines):
    """For Sphinx's event autodoc-process-docstring: replace the lines of a docstring in place."""
    rst = []
    for block in blocks_of(lines):
        inset = indent_of(block[0])
        if inset:
            rst += ["::", "", *block, ""]
        elif block[0].startswith("- "):
            rst += ["- " + escape(block[0][2:]), *("  " + escape(line.strip()) for line in block[1:]), ""]
        else:
            rst += [*map(escape, block), ""]
    lines[:] = rst
