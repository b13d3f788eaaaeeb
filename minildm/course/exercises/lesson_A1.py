"""The checks of appendix A1."""

from minildm.course.exercises.legacy import fail, passed, randn


def check_horizon(f):
    for decay in (0.9, 0.99, 0.9999):
        got, likely = f(decay), {
            "decay / (1 - decay): that is one step short, the sum of the shares is 1 / (1 - decay)":
                decay / (1 - decay),
            "1 - decay is a step's share; how many such shares make a whole?": 1 - decay,
            "1 / decay is about 1 for any slow average": 1 / decay}
        if got is None:
            fail("horizon", "your function returned None: is the `return` missing?")
        for cause, wrong in likely.items():
            if abs(got - wrong) < 1e-6 * wrong:
                fail("horizon", cause)
        if abs(got * (1 - decay) - 0.693) < 0.05:
            fail("horizon", "that is the half-life; the horizon is 1.44 times it")
        if abs(got * (1 - decay) - 1) > 1e-6:
            fail("horizon", f"for a decay of {decay} it is {got:.6g}, should be {1 / (1 - decay):.6g}")
    passed("horizon")


def check_in_range(f):
    signed = randn(4, 1, 8, 8).clamp(-1, 1)
    cases = [("pictures in [-1, 1]", signed, True), ("a decoder's copies, which overshoot a little",
             1.08 * signed, True), ("pictures in [0, 1]", signed / 2 + 0.5, False),
             ("pictures in [0, 255]", signed * 127.5 + 127.5, False),
             ("latents with values to 12", 12 * signed, False)]
    for what, images, right in cases:
        got = f(images)
        if got is None:
            fail("in_range", "your function returned None: is the `return` missing?")
        if bool(got) != right:
            low, high = images.min().item(), images.max().item()
            hint = ("allow a little more" if right else "how far out is too far?" if low < 0 else
                    "look at the least value too: is any below 0?")
            fail("in_range", f"{what} ({low:.2f} to {high:.2f}): {bool(got)}, should be {right}; {hint}")
    passed("in_range")


PATIENTS = [    # the last numbers of a run, what it has, and the mistake of who says otherwise
    ({"data_std": 0.18, "unexplained": 0.13, "loss": 0.13}, "scale",
     "its loss is low because its target is easy: look at data_std first"),
    ({"data_std": 5.5, "unexplained": 0.05, "loss": 1.6}, "scale", "data_std is not about 1"),
    ({"data_std": 1.0, "unexplained": 0.98, "loss": 1.96}, "not learning",
     "it leaves nearly all unexplained"),
    ({"data_std": 1.0, "unexplained": 0.46, "loss": 0.92}, "healthy",
     "a loss of 0.92 of a target of 2 is good"),
    ({"l1": 0.15, "kl": 0.0004}, "collapse", "its latents say nothing: kl is about 0"),
    ({"l1": 0.02, "kl": 2.4}, "healthy", "kl is a few nats, l1 is small"),
    ({"l1": 0.02, "kl": 2.4, "real": 0.0, "fake": 0.0}, "healthy", "shares of 0: the critic has not begun"),
    ({"l1": 0.03, "kl": 2.4, "real": 0.8, "fake": 0.7}, "healthy", "its critic is right, but not always"),
    ({"l1": 0.20, "kl": 2.1, "real": 1.0, "fake": 0.999}, "critic", "its critic is always right"),
]


def check_diagnose(f):
    for numbers, right, why in PATIENTS:
        got = f(dict(numbers))
        if got is None:
            fail("diagnose", "your function returned None: is the `return` missing?")
        if got != right:
            fail("diagnose", f"{numbers}: you say {got!r}, it is {right!r}: {why}")
    passed("diagnose")
