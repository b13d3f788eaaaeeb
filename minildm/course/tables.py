"""Numbers as a table of plain text, for a lesson's output."""


def print_table(rows: dict[str, dict], digits: int = 3):
    """Print named rows {column: number} under one line of column names."""
    columns = list(next(iter(rows.values())))
    widths = [max(len(name), 8) + 2 for name in columns]
    first = max(map(len, rows)) + 2
    print(" " * first + "".join(f"{name:>{w}}" for name, w in zip(columns, widths, strict=True)))
    for title, row in rows.items():
        cells = [f"{row[name]:>{w}.{digits}f}" for name, w in zip(columns, widths, strict=True)]
        print(f"{title:{first}}" + "".join(cells))
