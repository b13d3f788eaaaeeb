"""RESULTS.md is written from measured claims: bars are data, machines are told apart."""

import importlib

import pytest

from benchmarks import claims
from benchmarks.__main__ import BENCHMARKS, main
from benchmarks.claims import BARS, Claim, bar_of, claims_of, reaches, write_table


@pytest.mark.parametrize("value, bar, holds", [
    (0.995, ">= 0.995", True), (0.994, ">= 0.995", False), (2, "<= 1.8", False),
    (50, "= 50", True), (49, "< 50", True), (50, "< 50", False), (float("nan"), ">= 0", False),
    (0.75, "0.75 to 1.25", True), (1.3, "0.75 to 1.25", False)])
def test_a_value_is_held_against_its_bar(value, bar, holds):
    assert reaches(value, bar) is holds


def test_processors_with_and_without_bf16_are_told_apart(monkeypatch):
    for fast, bar, word in (True, "<= 2", "with bf16"), (False, "<= 4", "without bf16"):
        monkeypatch.setattr(claims, "has_bf16", lambda fast=fast: fast)
        assert bar_of("demo", "minutes of training") == bar and claims.machine().endswith(word)
    assert not claims_of("demo")("minutes of training", 4.1, 246).holds


def test_a_claim_without_a_bar_is_refused():
    with pytest.raises(KeyError):
        claims_of("demo")("beauty", 1.0, 0)


def test_every_benchmark_has_its_bars_and_its_place_in_the_table():
    assert set(BARS) == set(BENCHMARKS)
    for name in BENCHMARKS:
        for bar in BARS[name].values():
            for each in bar.values() if isinstance(bar, dict) else [bar]:
                numeric = each.split()[0] in claims.COMPARE or " to " in each
                assert numeric or each in ("rises", "falls", "yes", "at most 0.1 lower")
                assert not numeric or reaches(1.0, each) in (True, False)
        if name not in ("metrics", "parity", "published_speed"):        # they want the parity extra
            assert callable(importlib.import_module(f"benchmarks.{name}").measure)


def test_a_row_replaces_the_one_of_its_name_and_the_table_keeps_its_order(tmp_path):
    page = tmp_path / "RESULTS.md"
    page.write_text("before\n<!-- results -->\n<!-- /results -->\nafter\n")
    late = Claim("b: x", 1, ">= 0", True, 2.0, "2026-01-01", "a laptop")
    early = Claim("a: y", 3, "<= 2", False, 1.0, "2026-01-01", "a laptop")
    write_table(page, [late], ["a", "b"])
    write_table(page, [early], ["a", "b"])
    write_table(page, [Claim("b: x", 5, ">= 0", True, 2.0, "2026-01-02", "a laptop")], ["a", "b"])
    lines = page.read_text().splitlines()
    assert lines[0] == "before" and lines[-1] == "after"
    rows = [line for line in lines if line.startswith("| ") and "---" not in line][1:]
    assert rows == ["| a: y | 3 | <= 2 | **no** | 1.0 | 2026-01-01 | a laptop |",
                    "| b: x | 5 | >= 0 | yes | 2.0 | 2026-01-02 | a laptop |"]


def test_an_unknown_name_is_told_what_there_is(capsys):
    assert main(["tea"]) == 2
    assert "no tea; there are demo, vae" in capsys.readouterr().err
