"""Lesson 09's checks of paths: right answers in any style pass; wrong ones hear why."""

from itertools import pairwise

from support.answers import right_and_wrong, told, written

from minildm.diffusion.samplers import euler

HELPERS = {"pairwise": pairwise, "euler": euler}


def walked(step="(s - t) * velocity(x, t)", times="ts"):
    """Euler's walk with this step along these times."""
    return f"""
        start, path = x, [x]
        for t, s in zip({times}[:-1], {times}[1:]):
            x = x + {step}
            path.append(x)
        return torch.stack(path)
    """


S = """
    dt = ts.diff()
    chord = (path[-1] - path[0]) / dt.sum()
    velocity = path.diff(dim=0) / dt[:, None, None]
    off = (velocity - chord).square().sum(2).mean(1)
    length = chord.square().sum(1).mean()
    return (off * dt).sum() / dt.sum() / length
"""
# the end of S, for what replaces it
RESULT = "(off * dt).sum() / dt.sum() / length"

ARC = "path.diff(dim=0).norm(dim=2).sum() / (path[-1] - path[0]).norm(dim=1).sum()"

UNIT = "path / (schedule.alpha(ts)**2 + schedule.sigma(ts)**2).sqrt()[:, None, None]"

RIGHT = [
    ("euler_path", walked()),
    ("euler_path", """
        places = torch.empty(len(ts), *x.shape)
        places[0] = x
        for i in range(len(ts) - 1):
            places[i + 1] = places[i] - (ts[i] - ts[i + 1]) * velocity(x=places[i], t=ts[i])
        return places
     """),
    ("euler_path", """
        x = x.clone()
        path = [x.clone()]
        for t, s in pairwise(ts.tolist()):
            x += (s - t) * velocity(x, t)
            path.append(x.clone())
        return torch.stack(path)
     """),
    ("euler_path", """
        t, path = ts[0], x[None]
        for dt in ts.diff():
            x = torch.add(x, velocity(x, t.expand(len(x))) * dt)
            path = torch.cat([path, x[None]])
            t = t + dt
        return path
     """),
    ("at_unit_size", UNIT),
    ("at_unit_size", """
        size = (schedule.alpha(ts)**2 + schedule.sigma(ts)**2)**0.5
        return torch.stack([places / s for places, s in zip(path, size)])
     """),
    ("at_unit_size", "torch.einsum('knd,k->knd', path, "
     "(schedule.alpha(ts).square() + schedule.sigma(ts).square()).rsqrt())"),
    ("arc_over_chord", ARC),
    ("arc_over_chord", """
        total = 0
        for a, b in pairwise(path):
            total = total + ((b - a)**2).sum(-1).sqrt().sum()
        return total / torch.linalg.vector_norm(path[0] - path[-1], dim=-1).sum()
     """),
    ("arc_over_chord", """
        arcs = (path[1:].double() - path[:-1].double()).pow(2).sum(-1).sqrt().sum(0)
        return (arcs.mean() / (path[-1] - path[0]).norm(dim=-1).mean()).float().item()
     """),
    ("straightness", S),
    ("straightness", """
        total, chord = ts[-1] - ts[0], (path[-1] - path[0]) / (ts[-1] - ts[0])
        above = 0
        for i in range(len(ts) - 1):
            dt = ts[i + 1] - ts[i]
            v = (path[i + 1] - path[i]) / dt
            above = above + dt / total * (v - chord).norm(dim=-1).pow(2).mean()
        return above / (chord**2).sum(-1).mean()
     """),
    ("straightness", """
        p, t = path.double(), ts.double()
        share = (t[1:] - t[:-1]) / (t[-1] - t[0])
        chord = (p[-1] - p[0]) / (t[-1] - t[0])
        v = (p[1:] - p[:-1]) / (t[1:] - t[:-1]).view(-1, 1, 1)
        return (torch.einsum("k,knd->", share, (v - chord)**2) / (chord**2).sum()).float()
     """),
    ("straightness", """
        dt = (ts[:-1] - ts[1:]).abs()
        chord = (path[0] - path[-1]) / dt.sum()
        v = (path[:-1] - path[1:]) / dt[:, None, None]
        off = ((v - chord).pow(2) * (dt / dt.sum())[:, None, None]).mean((1, 2))
        return off.sum() / chord.pow(2).mean()
     """),
]

WRONG = [
    ("euler_path", "the sign", walked("(t - s) * velocity(x, t)")),
    ("euler_path", "positive where time rises|sign", walked("-abs(s - t) * velocity(x, t)")),
    ("euler_path", "sign|negative", walked("abs(s - t) * velocity(x, t)")),
    ("euler_path", "time you go to", walked("(s - t) * velocity(x, s)")),
    ("euler_path", "where the journey began", walked("(s - t) * velocity(start, t)")),
    ("euler_path", "first time always", walked("(s - t) * velocity(x, ts[0])")),
    ("euler_path", "last time always", walked("(s - t) * velocity(x, ts[-1])")),
    ("euler_path", "not equal", walked("(ts[-1] - ts[0]) / (len(ts) - 1) * velocity(x, t)")),
    ("euler_path", "one too many", walked("(ts[-1] - ts[0]) / len(ts) * velocity(x, t)")),
    ("euler_path", "equal steps of 1", walked("-velocity(x, t) / (len(ts) - 1)")),
    ("euler_path", "isn't scaled", walked("velocity(x, t)")),
    ("euler_path", "not by the time", walked("t * velocity(x, t)")),
    ("euler_path", "gets lost", walked("(s - t) * velocity(x, t) - x")),
    ("euler_path", "last step is missing", walked(times="ts[:-1]")),
    ("euler_path", "first step is missing", walked(times="ts[1:]")),
    ("euler_path", "down to 0", walked(times="torch.cat([ts, torch.zeros(1)])")),
    ("euler_path", "from the last to the first", walked(times="ts.flip(0)")),
    ("euler_path", "Heun", walked(
        "(s - t) / 2 * (velocity(x, t) + velocity(x + (s - t) * velocity(x, t), s))")),
    ("euler_path", "midpoint", walked(
        "(s - t) * velocity(x + (s - t) / 2 * velocity(x, t), (s + t) / 2)")),
    ("euler_path", "inside the loop", walked().replace("        return t", "            return t")),
    ("euler_path", "end of the journey alone", walked().replace("torch.stack(path)", "x")),
    ("euler_path", "start is missing", walked().replace("path = x, [x]", "path = x, []")),
    ("euler_path", "order of the walk", walked().replace("stack(path)", "stack(path).flip(0)")),
    ("euler_path", "first axis", walked().replace("stack(path)", "stack(path, 1)")),
    ("euler_path", "how far each", walked().replace("stack(path)", "stack(path) - start")),
    ("euler_path", "all places are the last", walked().replace("x, [x]", "x, []").replace(
        "for t", "x = x.clone()\n        path.append(x)\n        for t").replace(
        "x = x + ", "x += ")),
    ("euler_path", "list", walked().replace("torch.stack(path)", "path")),
    ("euler_path", "in place", walked().replace("x = x +", "x +=")),
    ("euler_path", "asked 4 times",
     walked().replace("return torch.stack(path)",
                      "return torch.stack(path) + 0 * velocity(x, ts[-1])")),
    ("euler_path", "begins at the start", walked("(s - t) * velocity(x, t)").replace(
        "x = x + ", "x = start + ")),
    ("euler_path", "nothing has moved", "x.expand(len(ts), *x.shape)"),
    ("euler_path", "unchanged", "x"),
    ("euler_path", "raised IndexError",
     "for i in range(len(ts)):\n    x = x + (ts[i + 1] - ts[i]) * velocity(x, ts[i])\nreturn x"),
    ("euler_path", "times of shape", walked("(s - t) * velocity(x, ts)")),
    ("euler_path", "return", walked().replace("return torch.stack(path)", "return")),
    ("at_unit_size", "multiplied", UNIT.replace("path /", "path *")),
    ("at_unit_size", "root is missing", UNIT.replace(".sqrt()", "")),
    ("at_unit_size", "variances add", UNIT.replace("**2", "").replace(".sqrt()", "")),
    ("at_unit_size", "first time's", UNIT.replace("[:, None", "[:1, None")),
    ("at_unit_size", "last time's", UNIT.replace("[:, None", "[-1:, None")),
    ("at_unit_size", "measured on the crowd", "path / path.std((1, 2), keepdim=True)"),
    ("at_unit_size", "raised|wrong|shape", UNIT.replace("[:, None, None]", "")),
    ("at_unit_size", "right for the first inputs", "path / ((1 - ts)**2 + ts**2).sqrt()[:, None, None]"),
    ("at_unit_size", "in place", "path /= torch.hypot(schedule.alpha(ts), schedule.sigma(ts))"
     "[:, None, None]\nreturn path"),
    ("at_unit_size", "type", UNIT.replace("path /", "path.double() /")),
    ("at_unit_size", "return", f"found = {UNIT}\nreturn"),
    ("arc_over_chord", "own chord: here",
     "(path.diff(dim=0).norm(dim=2).sum(0) / (path[-1] - path[0]).norm(dim=1)).mean()"),
    ("arc_over_chord", "one ratio for each",
     "path.diff(dim=0).norm(dim=2).sum(0) / (path[-1] - path[0]).norm(dim=1)"),
    ("arc_over_chord", "upside down", f"1 / ({ARC})"),
    ("arc_over_chord", "not their mean", f"{ARC} / (len(path) - 1)"),
    ("arc_over_chord", "squares", "path.diff(dim=0).square().sum() / "
     "(path[-1] - path[0]).square().sum()"),
    ("arc_over_chord", "root is missing", "path.diff(dim=0).square().sum() / "
     "(path[-1] - path[0]).norm(dim=1).sum()"),
    ("arc_over_chord", "arc alone", "path.diff(dim=0).norm(dim=2).sum()"),
    ("arc_over_chord", "absolute values", "path.diff(dim=0).abs().sum() / "
     "(path[-1] - path[0]).abs().sum()"),
    ("arc_over_chord", "before their length", "path.diff(dim=0).sum(0).norm(dim=1).sum() / "
     "(path[-1] - path[0]).norm(dim=1).sum()"),
    ("arc_over_chord", "over the axes", "path.diff(dim=0).norm(dim=1).sum() / "
     "(path[-1] - path[0]).norm(dim=0).sum()"),
    ("arc_over_chord", "last step", ARC.replace("path.diff", "path[:-1].diff")),
    ("arc_over_chord", "first step", ARC.replace("path.diff", "path[1:].diff")),
    ("arc_over_chord", "divide, don't", ARC.replace(" / ", " - ")),
    ("arc_over_chord", "1 is straight", f"{ARC} - 1"),
    ("arc_over_chord", "arc / chord = 1|should|wrong", f"max(1.5, {ARC})"),
    ("arc_over_chord", "return", f"found = {ARC}\nreturn"),
    ("straightness", "counts alike", S.replace(RESULT, "off.mean() / length")),
    ("straightness", "counts alike, and", S.replace(RESULT, "off.sum() / length")),
    ("straightness", "must sum to 1", S.replace(RESULT, "(off * dt.abs()).sum() / length")),
    ("straightness", "negative here", S.replace(RESULT, "(off * dt).sum() / length")),
    ("straightness", "not divided by the chord", S.replace(" / length", "")),
    ("straightness", "it is a velocity", S.replace("path[0]) / dt.sum()", "path[0])")),
    ("straightness", "divided by its duration", S.replace(" / dt[:, None, None]", "")),
    ("straightness", "a sum over", S.replace("mean(1)", "sum(1)", 1)),
    ("straightness", "journeys below", S.replace("sum(1).mean()", "sum()")),
    ("straightness", "above as below", S.replace("sum(2).mean(1)", "mean((1, 2))")),
    ("straightness", "below as above", S.replace("sum(1).mean()", "mean()")),
    ("straightness", "not distances", S.replace("square().sum(2)", "norm(dim=2)").replace(
        "square().sum(1)", "norm(dim=1)")),
    ("straightness", "root is too much", S.replace(RESULT, f"({RESULT}).sqrt()")),
    ("straightness", "mean by mean", S.replace(".mean(1)", "").replace(".mean()", "").replace(
        RESULT, "((off / length).mean(1) * dt).sum() / dt.sum()")),
    ("straightness", "not subtracted", S.replace("velocity - chord", "velocity")),
    ("straightness", "sign of the steps", S.replace("path[-1] - path[0]", "path[0] - path[-1]")),
    ("straightness", "not the mean velocity",
     S.replace("(path[-1] - path[0]) / dt.sum()",
               "(path.diff(dim=0) / dt[:, None, None]).mean(0)")),
    ("straightness", "not their mean", S.replace("velocity - chord", "velocity - chord.mean(0)")),
    ("straightness", "1 minus", S.replace("return ", "return 1 - ")),
    ("straightness", "by the velocity's square",
     S.replace("length = chord", "length = velocity").replace("sum(1).mean()", "sum(2).mean()")),
    ("straightness", "its own duration",
     S.replace("/ dt[:, None, None]", "* (len(dt) / dt.sum())")),
    ("straightness", "raised", S.replace("dt[:, None, None]", "dt")),
    ("straightness", "shape", S.replace("square().sum(2).mean(1)", "square().mean(1)").replace(
        "off * dt", "off * dt[:, None]").replace(".sum() / dt", ".sum(0) / dt")),
    ("straightness", "return", S.replace("return ", "found = ") + "    return"),
    ("straightness", "straight line at constant speed|should be|wrong",
     S.replace("velocity = path.diff(dim=0) / dt[:, None, None]",
               "velocity = F.normalize(path.diff(dim=0), dim=2)")),
]


test_right_answers_pass, test_wrong_answers_are_told_what_is_wrong = right_and_wrong(RIGHT, WRONG, HELPERS)


def test_the_packages_sampler_is_nobodys_euler():
    body = """
        path = [x]
        for step in euler(lambda x, t: x - t * velocity(x, t), None, x, ts):
            path.append(step.x)
        return torch.stack(path)
    """
    assert "write yours" in told("euler_path", written("euler_path", body, HELPERS))
