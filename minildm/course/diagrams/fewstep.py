"""Few steps: all points of a trajectory have one end, and a jump is two jumps half as long."""

from minildm.course.diagrams.drawing import arrow, curve, dot, label, page
from minildm.course.figures import describe

BENT = 0.55         # how far a trajectory leaves its chord, in inches


def trajectory(left: float, width: float, base: float):
    """A bent way from the data on the left to the noise: a function of t, a point in inches."""
    def at(t: float) -> tuple[float, float]:
        # a parabola over the chord, its top moved towards the noise
        rise = 0.9 * t + BENT * 4 * t * (1 - t) * (0.5 + t)
        return left + width * t, base + rise

    return at


def one_end():
    """Consistency, two points and one end; beside it a shortcut, two halves and one jump."""
    figure, axes = page(2.9)
    _consistency(axes, trajectory(0.45, 2.9, 0.75))
    _shortcut(axes, trajectory(4.75, 2.9, 0.75))
    return describe(figure, """Two bent trajectories from noise, t = 1, on the right to data, t = 0,
        on the left. First: from a point x_t the teacher takes a short step along the trajectory to
        x_s; from x_t and from x_s one long arrow each leads to the same end, the data. The arrow
        from x_s is the average's and is the target, the one from x_t is the network's. Second: a
        jump from t to s as one straight arrow, and the same jump as two shorter arrows, which meet
        on the trajectory half way.""")


def _ground(axes, at, title: str):
    """Draw the trajectory with both of its ends, and a title above it."""
    points = [at(k / 60) for k in range(61)]
    curve(axes, *zip(*points, strict=True), width=1.2, dashed=True)
    dot(axes, *at(0), "data", 0.08)
    dot(axes, *at(1), "noise", 0.08)
    label(axes, at(0)[0], at(0)[1] - 0.25, "data, t = 0", "data")
    label(axes, at(1)[0] - 0.1, at(1)[1] - 0.3, "noise, t = 1", "noise")
    label(axes, at(0.5)[0], 2.7, title, size=11)


def _consistency(axes, at):
    _ground(axes, at, "consistency: one end")
    t, s = at(0.82), at(0.64)
    arrow(axes, t, s, kind="data", width=2)
    arrow(axes, s, (at(0)[0] + 0.06, at(0)[1] + 0.1), kind="loss")
    arrow(axes, t, (at(0)[0] + 0.1, at(0)[1]), kind="network")
    for point, name in ((t, "$x_t$"), (s, "$x_s$")):
        dot(axes, *point)
        label(axes, point[0], point[1] + 0.2, name)
    label(axes, at(0.22)[0] - 0.3, at(0.22)[1] + 0.55, "the average's end:\nthe target", "loss")
    label(axes, at(0.62)[0], at(0.5)[1] - 0.85, "the network's end", "network")
    label(axes, t[0] + 0.05, t[1] + 0.45, "the teacher's step", "data")


def _shortcut(axes, at):
    _ground(axes, at, "shortcut: two halves, one jump")
    t, middle, s = at(0.95), at(0.55), at(0.15)
    arrow(axes, t, middle, kind="loss")
    arrow(axes, middle, s, kind="loss")
    arrow(axes, t, s, kind="network")
    for point, name, lift in ((t, "$t$", 0.2), (middle, "half way", 0.2), (s, "$s$", 0.22)):
        dot(axes, *point)
        label(axes, point[0] - 0.05, point[1] + lift, name)
    label(axes, at(0.28)[0] - 0.35, at(0.3)[1] + 0.3, "the average's halves", "loss")
    label(axes, at(0.6)[0] + 0.1, at(0.5)[1] - 0.75, "the network's jump", "network")
