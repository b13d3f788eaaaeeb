"""What a benchmark measured and kept, for lessons that show it: `stored("guidance_scales")`."""

import json
from pathlib import Path

import minildm
from minildm import MinildmError

FOLDER = Path(minildm.__file__).parents[1] / "benchmarks" / "stored"


def stored(name: str) -> dict:
    """The stored results of a benchmark; MinildmError where the repository is not there."""
    path = FOLDER / f"{name}.json"
    if not path.is_file():
        raise MinildmError(f"there is no {path}", "stored",
                           f"run the lesson in the repository, or: python -m benchmarks {name}")
    return json.loads(path.read_text())
