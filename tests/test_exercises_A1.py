"""Appendix A1's checks: the solution passes; the wrong answers that students give are told what is wrong."""

import math

import pytest

from minildm import exercises


def diagnose(n, low=0.3, high=1.7, most=0.9, least=0.1, sure=0.98):
    if "data_std" in n and not low < n["data_std"] < high:
        return "scale"
    if n.get("unexplained", 0) > most:
        return "not learning"
    if n.get("kl", 1) < least:
        return "collapse"
    if n.get("real", 0) > sure and n.get("fake", 0) > sure:
        return "critic"
    return "healthy"


def test_solutions_pass():
    exercises.check_horizon(lambda decay: 1 / (1 - decay))
    exercises.check_in_range(lambda images: images.min() < 0 and images.abs().max() < 2)
    exercises.check_in_range(lambda images: bool(-2 < images.min() < 0 and images.max() < 2))
    exercises.check_diagnose(diagnose)


WRONG = [
    ("horizon", "one step short", lambda d: d / (1 - d)),
    ("horizon", "a step's share", lambda d: 1 - d),
    ("horizon", "about 1", lambda d: 1 / d),
    ("horizon", "half-life", lambda d: math.log(0.5) / math.log(d)),
    ("horizon", "should be", lambda d: 1000),
    ("horizon", "return", lambda d: None),
    ("in_range", "least value", lambda x: x.max() < 2),
    ("in_range", "a little more", lambda x: x.min() >= -1 and x.max() <= 1 and x.min() < 0),
    ("in_range", "should be True", lambda x: x.min() >= 0 and x.max() <= 1),
    ("in_range", "how far out", lambda x: x.min() < 0),
    ("in_range", "return", lambda x: None),
    ("diagnose", "target is easy", lambda n: diagnose(n, low=0)),
    ("diagnose", "not about 1", lambda n: diagnose(n, high=10)),
    ("diagnose", "unexplained", lambda n: diagnose(n, most=1)),
    ("diagnose", "of a target of 2", lambda n: "not learning" if n.get("loss") == 0.92 else diagnose(n)),
    ("diagnose", "say nothing", lambda n: diagnose(n, least=0)),
    ("diagnose", "has not begun", lambda n: "critic" if n.get("real") == 0 else diagnose(n)),
    ("diagnose", "not always", lambda n: diagnose(n, sure=0.5)),
    ("diagnose", "always right", lambda n: diagnose(n, sure=1)),
    ("diagnose", "return", lambda n: None),
]


@pytest.mark.parametrize("name, said, answer", WRONG)
def test_wrong_answers_are_told_the_cause(name, said, answer):
    with pytest.raises(AssertionError, match=said):
        getattr(exercises, f"check_{name}")(answer)
