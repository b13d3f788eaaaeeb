"""A lesson's tables: numbers as plain text, and the claims at its end."""


def print_table(rows: dict[str, dict], digits: int = 3):
    """Print named rows {column: number} under one line of column names."""
    columns = list(next(iter(rows.values())))
    widths = [max(len(name), 8) + 2 for name in columns]
    first = max(map(len, rows)) + 2
    print(" " * first + "".join(f"{name:>{w}}" for name, w in zip(columns, widths, strict=True)))
    for title, row in rows.items():
        cells = [f"{row[name]:>{w}.{digits}f}" for name, w in zip(columns, widths, strict=True)]
        print(f"{title:{first}}" + "".join(cells))


def claims_table(rows: list[tuple]) -> str:
    """Rows (claim, measured, n and interval, verdict) as the last table of a lesson."""
    head = ["| claim | measured | n, seeds, interval | verdict |", "| --- | --- | --- | --- |"]
    return "\n".join(head + ["| " + " | ".join(row) + " |" for row in rows])


def show_claims(rows: list[tuple]):
    """Show the table of claims in a notebook."""
    from IPython.display import Markdown, display

    display(Markdown(claims_table(rows)))
