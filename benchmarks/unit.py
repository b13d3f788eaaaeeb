"""The quick tests, as `make unit` runs them."""

from benchmarks.claims import claims_of
from benchmarks.commands import PYTEST, timed

claim = claims_of("unit")


def measure():
    seconds = timed([*PYTEST, "tests", "-m", "not slow"])
    yield claim("seconds of the unit tests", round(seconds), seconds)
