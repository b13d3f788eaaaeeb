"""How a check is run, what it remembers, and `yours`.

HOW TO WRITE A CHECK

    @check(reference=heun_step, forbidden=[samplers.heun])
    def check_heun_step(answer):
        for where, schedule in ("cosine", cosine), ("an odd schedule", warped):
            x, t = randn(3, 2, 5, 4), torch.tensor(0.63)
            want = heun_step(schedule, x, t)
            answer.case((schedule, x, t), want, {
                "the sign is wrong: t falls": ...,
            }, where=where)

- The name is the function's, without `check_`. `reference` is a right answer with the stub's
  parameters, names and all: `yours` returns it while the student's has not passed, messages take
  the names of inputs from it, and a student's function may take them by keyword. It is the
  package's function where one has that signature, else one that the lesson's file defines.
- `forbidden` lists functions of the package that do the job, beside the reference (methods as
  `Gaussian.kl`): an answer that refers to one is told to write its own. Leave out what the
  exercise may use.
- `answer.case(inputs, want, likely)` calls the answer on copies, raises `Wrong` in words if an
  input was changed, an exception was raised, or the result is not `want`, and returns the
  result. `want` and the likely mistakes are computed from your own tensors, so that no answer
  can spoil them. See `compare` for its arguments.
- Two cases at least, of odd and unequal sizes: never B = C = H = W, channels not 1, times that
  are no whole steps, other schedules, widths, classes and weights than the lesson's example.
  What the lesson always has the same (10 classes, 28 pixels, batch 64) differs here.
- `answer(*inputs)` is the call alone: judge its result with `compare`, `equal` (words, counts,
  lists of them) or `fail`. `answer.wrap(result)` is for a function or module that the answer
  returned: the same care for its calls.
- Tensors that require gradients are passed as they are, all others as copies.
  `compare_gradients` compares what reaches them with what should. `fakes` has networks that use
  and record all their arguments, random numbers by seed, an odd schedule, and
  `follows_generator`: one seed one result, another seed another.
- A check of an nn.Module takes the class: `block = answer.wrap(answer(8, 20))`, then
  `copy_weights(block.function, source)`.
- A likely mistake is a cause and the result that it leads to. Its sentence says what is wrong
  and why, not what to type. `diagnose` knows factors, signs, axes, shapes and wrong terms of a
  sum of the inputs already; a message of a later case begins "right for the first inputs".
- Wrong answers are the check's tests, rows of a table (`support.answers.written`): each must be
  red, and most must hear their cause.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch

from minildm import MinildmError
from minildm.course.exercises.answer import Answer, Raised, in_words, parameter_names
from minildm.course.exercises.compare import Wrong, describe, fail
from minildm.course.exercises.ownership import borrowed
from minildm.course.exercises.report import Failed, show_one_line_in_scripts, show_passed


@dataclass
class Exercise:
    """What is known of one exercise in this session."""

    body: Callable                  # judges an Answer
    reference: Callable | None      # the package's answer
    forbidden: list                 # what an answer must not refer to
    passed: Callable | None = None  # the student's last answer that passed
    failed: bool = False            # whether the last check was red


EXERCISES: dict[str, Exercise] = {}


def check(reference=None, forbidden=()):
    """Make `check_NAME(answer)` of a function that judges an Answer; register NAME for `yours`."""

    def register(body):
        name = body.__name__.removeprefix("check_")
        jobs = [job for job in (*forbidden, reference) if job is not None]
        exercise = EXERCISES[name] = Exercise(body, reference, jobs)

        @functools.wraps(body)
        def checked(answer):
            exercise.failed = True
            failed = judge(name, answer)
            if failed:
                show_one_line_in_scripts()
                raise failed
            exercise.passed = answer
            exercise.failed = False
            show_passed(name)

        return checked

    return register


def judge(name: str, function) -> Failed | None:
    """Run a check; return what is wrong, or None. The session's random state stays as it was."""
    exercise = EXERCISES[name]
    try:
        if not callable(function):
            fail(f"hand over the function itself, without calling it: this is {describe(function)}")
        if package := borrowed(function, name, exercise.forbidden):
            fail(f"that is the package's `{package}`: write yours")
        answer = Answer(function, parameter_names(exercise.reference))
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            exercise.body(answer)
    except Raised as raised:
        return Failed(name, str(raised), raised.error)
    except Wrong as wrong:
        return Failed(name, str(wrong))
    except Exception as error:
        # a result so odd that the check stumbles over it is the answer's fault, not a crash
        return Failed(name, f"what your function returned is of no use here: {in_words(error)}")
    return None


def yours(name: str):
    """The student's answer to an exercise, or, with a printed line that says so, the package's.

    It is the last answer that passed its check in this session: one that was redefined since, or
    that failed after another had passed, is not it. Raises MinildmError if there is no such
    exercise.
    """
    if name not in EXERCISES or EXERCISES[name].reference is None:
        known = ", ".join(sorted(EXERCISES))
        raise MinildmError(f"there is no exercise {name!r}", "yours", f"take one of {known}")
    exercise = EXERCISES[name]
    if exercise.passed is None:
        print(f"{name}: the package's, until yours has passed its check")
        return exercise.reference
    if exercise.failed:
        print(f"{name}: your answer that passed before, as the last one did not")
    return exercise.passed
