"""Classes that a student might write, from source: what a check of a module is put to."""

from support.answers import IMPORTED


def class_of(source: str, name: str, helpers: dict, *changes: tuple[str, str]):
    """The class `name` of source after changes, pairs (old, new), each of which must occur."""
    for old, new in changes:
        assert old in source, old
        source = source.replace(old, new)
    scope = {"__name__": "__main__", **IMPORTED, **helpers}
    exec(source, scope)
    return scope[name]
