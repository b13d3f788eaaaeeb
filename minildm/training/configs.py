"""Configurations as JSON: how two of them differ, and how a dataclass comes back from one."""

import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import get_args

from minildm import MinildmError


def differences(a: dict, b: dict) -> list[str]:
    """Name every field in which two configurations differ, as `model.width: 64 != 96`."""
    a, b = dict(_flat(_as_json(a))), dict(_flat(_as_json(b)))
    found = []
    for key in {**a, **b}:
        if key not in a or key not in b or a[key] != b[key]:
            found.append(f"{key}: {a.get(key, 'absent')!r} != {b.get(key, 'absent')!r}")
    return found


def _as_json(config: dict) -> dict:
    # of the two, one has been through JSON, where a tuple is a list
    return json.loads(json.dumps(config))


def _flat(config: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def from_dict(kind: type, values: dict):
    """Build a dataclass from the JSON of its asdict: nested ones too, lists as tuples.

    A field that may be one of several dataclasses becomes the one that has all the names.
    """
    known = {}
    for field in fields(kind):
        if field.name in values:
            known[field.name] = _value(kind, field.type, values[field.name])
    return kind(**known)


def _value(owner: type, kinds, given):
    if isinstance(given, list):
        return tuple(given)
    if not isinstance(given, dict):
        return given
    for kind in get_args(kinds) or [kinds]:
        if is_dataclass(kind) and given.keys() <= {field.name for field in fields(kind)}:
            return from_dict(kind, given)
    raise MinildmError(f"no configuration has these numbers: {', '.join(given)}", owner.__name__,
                       "it was saved by another version: train it again")
