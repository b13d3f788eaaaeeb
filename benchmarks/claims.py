"""A measured claim beside its bar, and the table of them in RESULTS.md."""

import json
import operator
import re
import time
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from minildm.demo import hardware
from minildm.training.loop import gains_from_bf16

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build"      # where benchmarks keep their runs
BARS = tomllib.loads((Path(__file__).parent / "bars.toml").read_text())
COMPARE = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, "=": operator.eq}
HEAD = ("| what | measured | bar | holds | seconds | day | hardware |\n"
        "| --- | --- | --- | --- | --- | --- | --- |\n")


@dataclass(frozen=True)
class Claim:
    """One row of the table. `name` begins with the benchmark's own name and a colon."""

    name: str
    value: float | int | str
    bar: str
    holds: bool
    seconds: float
    day: str
    hardware: str

    def json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)

    def line(self) -> str:
        verdict = "yes" if self.holds else "**no**"
        cells = [self.name, self.value, self.bar, verdict, self.seconds, self.day, self.hardware]
        return "| " + " | ".join(str(cell).replace("|", "/") for cell in cells) + " |"


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_bf16() -> bool:
    """Whether this machine multiplies in bf16, which training uses where it can."""
    return gains_from_bf16(device())


def machine() -> str:
    """The hardware in a few words, processors with and without bf16 told apart."""
    return f"{hardware()}, {'with' if has_bf16() else 'without'} bf16"


def bar_of(benchmark: str, claim: str, hardware: str | None = None) -> str:
    """The bar of a claim on this machine, or on another."""
    bar = BARS[benchmark][claim]
    if not isinstance(bar, dict):
        return bar
    if "plain" in bar:
        return bar["bf16" if has_bf16() else "plain"]
    # by card; one that is not named is held against the first that is
    named = [own for card, own in bar.items() if card in (hardware or machine())]
    return named[0] if named else next(iter(bar.values()))


def reaches(value: float, bar: str) -> bool:
    """Whether a number reaches a bar: a comparison or a range."""
    if " to " in bar:
        low, high = map(float, bar.split(" to "))
        return low <= value <= high
    sign, limit = bar.split()
    return COMPARE[sign](value, float(limit))


def claims_of(benchmark: str, hardware: str | None = None, day: str | None = None):
    """The function that puts this benchmark's measured values beside their bars.

    `hardware` and `day` are those of a measurement on another machine; by default this one, today.
    """
    def claim(name: str, value, seconds: float, *, detail="", shown=None, holds=None) -> Claim:
        """A measured value beside the bar of this name.

        `detail` is put behind the name: a size, or a condition. `shown` stands in the table in the
        value's place. `holds` is the verdict where the bar is a word and not a number.
        """
        bar = bar_of(benchmark, name, hardware)
        verdict = reaches(value, bar) if holds is None else holds
        if shown is None:
            shown = round(value, 3) if isinstance(value, float) else value
        full_name = f"{benchmark}: {name}" + (f", {detail}" if detail else "")
        on = day or time.strftime("%Y-%m-%d")
        where = hardware or machine()
        return Claim(full_name, shown, bar, bool(verdict), round(seconds, 1), on, where)

    return claim


def write_table(page: Path, claims: list[Claim], order: list[str]):
    """Put claims into the page's table, between its two marks; a row of the same name is replaced.

    `order` names the benchmarks as the table's groups; a row of none of them is left out.
    """
    text = page.read_text()
    before, table, after = re.split(
        r"(?<=<!-- results -->\n)(.*?)(?=<!-- /results -->)", text, flags=re.S)
    lines = {line.split(" | ")[0].strip("| "): line for line in table.splitlines()[2:]}
    lines |= {row.name: row.line() for row in claims}
    rows = [name for benchmark in order for name in lines if name.startswith(benchmark + ":")]
    page.write_text(before + HEAD + "".join(lines[name] + "\n" for name in rows) + after)
