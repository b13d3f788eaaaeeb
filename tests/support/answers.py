"""How the tests of the checks put an answer to one: it passes, or it is told why not."""

from minildm import exercises
from minildm.course.exercises.harness import Failed


def passes(name: str, answer):
    """Fail the test unless check_NAME takes the answer."""
    getattr(exercises, f"check_{name}")(answer)


def told(name: str, answer) -> str:
    """What check_NAME says of a wrong answer. A check that takes it, or that crashes, fails the test."""
    try:
        getattr(exercises, f"check_{name}")(answer)
    except Failed as failed:
        message = str(failed)
        # the check stumbling over a result is no message for a student
        assert "of no use here" not in message, message
        return message
    raise AssertionError(f"check_{name} took a wrong answer")
