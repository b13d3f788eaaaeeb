"""The checks of lesson 09 on paths: Euler's method, and how straight its journeys are."""

import torch

from minildm.course.exercises.compare import compare, fail
from minildm.course.exercises.fakes import Network, randn, warped
from minildm.course.exercises.harness import check
from minildm.diffusion import samplers
from minildm.diffusion.schedules import flow


def euler_path(velocity, x, ts):
    places = [x]
    for t, s in zip(ts[:-1], ts[1:], strict=True):
        places.append(places[-1] + (s - t) * velocity(places[-1], t))
    return torch.stack(places)


# shape of x, times: unequal steps, not down to 0; the second journey is from data to noise
JOURNEYS = [
    ((3, 2), [0.9, 0.7, 0.3, 0.1]),
    ((2, 3, 4, 5), [0.05, 0.15, 0.6, 0.7, 0.95]),
]


@check(reference=euler_path, forbidden=[samplers.euler, samplers.ddim, samplers.heun])
def check_euler_path(answer):
    for shape, times in JOURNEYS:
        x = randn(*shape)
        ts = torch.tensor(times)
        steps = len(ts) - 1
        want = euler_path(Network(), x, ts)
        likely = likely_journeys(x, ts)
        # a fresh network, for its calls are counted
        network = Network()
        answer.case((network, x, ts), want, likely, where=f"times {times}")
        if len(network.calls) != steps:
            asked = f"velocity was asked {len(network.calls)} times"
            fail(f"{asked}: {len(ts)} times are {steps} steps, and each asks once")


def walk(x, ts, step):
    """The places of a journey in which step(y, t, s) is the place after y."""
    places = [x]
    for t, s in zip(ts[:-1], ts[1:], strict=True):
        places.append(step(places[-1], t, s))
    return torch.stack(places)


def likely_journeys(x, ts):
    """{cause: a wrong journey}."""
    velocity = Network()
    places = euler_path(velocity, x, ts)
    zero = torch.zeros(1)
    return {
        **wrong_steps(velocity, x, ts),
        "that is the end of the journey alone: all places are wanted, the start first": places[-1],
        "the start is missing: x itself is the first place": places[1:],
        "the last step is missing": places[:-1],
        "the first step is missing": euler_path(velocity, x, ts[1:]),
        "one step more than the grid has, down to 0":
            euler_path(velocity, x, torch.cat([ts, zero])),
        "one jump from the first time to the last": euler_path(velocity, x, ts[[0, -1]]),
        "the times are walked from the last to the first": euler_path(velocity, x, ts.flip(0)),
        "the places are wanted in the order of the walk, the start first": places.flip(0),
        "the places are the first axis of the result": places.transpose(0, 1),
        "all places are the last one: += changes the tensor that was stored":
            places[-1:].expand_as(places),
        "the place after the first step: the return stands inside the loop": places[:2],
        "places are wanted, not how far each is from the start": places - x,
        "nothing has moved": x.expand_as(places),
    }


def wrong_steps(velocity, x, ts):
    """{cause: a journey of such steps}; a step goes from y at t to the time s."""
    def way(change):
        return walk(x, ts, lambda y, t, s: y + change(y, t, s))

    def here(factor):
        return way(lambda y, t, s: factor(t, s) * velocity(y, t))

    def heun(y, t, s):
        first = velocity(y, t)
        return (s - t) * (first + velocity(y + (s - t) * first, s)) / 2

    def midpoint(y, t, s):
        between = y + (s - t) / 2 * velocity(y, t)
        return (s - t) * velocity(between, (s + t) / 2)

    return {
        "the sign: a step goes by s - t, from the time t to the next one s":
            here(lambda t, s: t - s),
        "the sign: s - t is negative where time falls": here(lambda t, s: abs(s - t)),
        "s - t is positive where time rises": here(lambda t, s: -abs(s - t)),
        "the velocity is asked at the time you go to: ask where you stand":
            way(lambda y, t, s: (s - t) * velocity(y, s)),
        "the velocity is asked where the journey began: ask where you stand":
            way(lambda y, t, s: (s - t) * velocity(x, t)),
        "the velocity is asked at the first time always: ask at the time where you stand":
            way(lambda y, t, s: (s - t) * velocity(y, ts[0])),
        "the velocity is asked at the last time always: ask at the time where you stand":
            way(lambda y, t, s: (s - t) * velocity(y, ts[-1])),
        "that is Heun's method: Euler asks once for a step": way(heun),
        "that is the midpoint method: Euler asks once for a step": way(midpoint),
        **wrong_lengths(velocity, x, ts, here),
    }


def wrong_lengths(velocity, x, ts, here):
    """{cause: a wrong journey}; here(factor) walks in steps of factor(t, s) times the velocity."""
    count = len(ts) - 1
    # the step of a grid with equal steps between the same ends
    equal = (ts[-1] - ts[0]) / count
    return {
        "the steps are not equal: each is the next time minus this one":
            here(lambda t, s: equal),
        "the steps are not equal, and one too many was counted":
            here(lambda t, s: equal * count / (count + 1)),
        "equal steps of 1 / K: the grid says where they go": here(lambda t, s: -1 / count),
        "equal steps of 1 / K forward: the grid says where they go": here(lambda t, s: 1 / count),
        "a step isn't scaled by its duration": here(lambda t, s: 1),
        "a step is scaled by its duration, not by the time": here(lambda t, s: t),
        "a step is scaled by its duration, not by the next time": here(lambda t, s: s),
        "the place gets lost: a step is added to it":
            walk(x, ts, lambda y, t, s: (s - t) * velocity(y, t)),
        "each step begins at the start: go on from where the last one led":
            walk(x, ts, lambda y, t, s: x + (s - t) * velocity(y, t)),
    }


def straightness(path, ts):
    dt = ts.diff()                                          # (K,)
    chord = (path[-1] - path[0]) / dt.sum()                 # (N, D)
    velocity = path.diff(dim=0) / dt[:, None, None]         # (K, N, D)
    off = (velocity - chord).square().sum(2).mean(1)        # (K,)
    return (off * dt).sum() / dt.sum() / chord.square().sum(1).mean()


# times of journeys, their number, the dimensions of a point
TRAVELS = ([1.0, 0.7, 0.6, 0.2], 5, 2), ([0.9, 0.85, 0.5, 0.45, 0.3, 0.0], 4, 3)


@check(reference=straightness)
def check_straightness(answer):
    for times, count, width in TRAVELS:
        ts = torch.tensor(times)
        # journeys of unequal length, each the longer the later
        size = torch.linspace(0.5, 2, count)[:, None]
        path = randn(len(ts), count, width, seed=2) * size
        answer.case((path, ts), straightness(path, ts), likely_straightness(path, ts),
                    where=f"{count} journeys of {len(times) - 1} steps")
        line = randn(1, count, width) + ts[:, None, None] * randn(1, count, width, seed=1)
        got = answer(line, ts)
        compare(got, torch.tensor(0.0), where="a straight line at constant speed has S = 0")
        # the same line at another speed in each step: straight, and yet S is not 0
        way = (ts - ts[0]).square()[:, None, None]
        bent = line[0] + way * (line[-1] - line[0])
        compare(answer(bent, ts), straightness(bent, ts), {
            "a straight line whose speed changes isn't straight for S: velocities are compared":
                torch.tensor(0.0),
        }, where="a straight line whose speed changes")


def likely_straightness(path, ts):
    dt = ts.diff()
    share = dt / dt.sum()
    moved = path.diff(dim=0)
    velocity = moved / dt[:, None, None]
    whole = path[-1] - path[0]
    chord = whole / dt.sum()

    def way(velocity=velocity, chord=chord, weight=share):
        off = (velocity - chord).square().sum(2).mean(1)
        return (off * weight).sum() / chord.square().sum(1).mean()

    ones = torch.ones_like(dt)
    return {
        "each step counts alike: weigh it by its duration": way(weight=ones / len(dt)),
        "each step counts alike, and they are summed: weigh it by its duration": way(weight=ones),
        "the weights are the steps' shares of the time: they must sum to 1": way(weight=dt.abs()),
        "the sign: durations are negative here, divide by their sum": way(weight=dt),
        "weighed by its share of the time, and then a mean over steps": way() / len(dt),
        "the chord is divided by the time it takes: it is a velocity": way(chord=whole),
        "the velocity of a step is divided by its duration": way(velocity=moved),
        "the velocity of a step is divided by its own duration, not by the mean one":
            way(velocity=moved / dt.mean()),
        "steps and chord are velocities: divide both by their time": way(moved, whole),
        "the chord is from end to end, not the mean velocity of the steps":
            way(chord=velocity.mean(0)),
        "the chord has the sign of the steps: the last place minus the first": way(chord=-chord),
        **wrong_ratios(velocity, chord, share),
    }


def wrong_ratios(velocity, chord, share):
    """{cause: a wrong S of right velocities (K, N, D) and chords (N, D)}."""
    count, width = chord.shape
    each = (velocity - chord).square().sum(2)               # (K, N)
    length = chord.square().sum(1)                          # (N,)

    def mean(values):
        return (values.mean(1) * share).sum()

    want = mean(each) / length.mean()
    from_mean = (velocity - chord.mean(0)).square().sum(2)
    squares = velocity.square().sum(2)
    return {
        "not divided by the chord's square": mean(each),
        "divided by the velocity's square: by the chord's": mean(each) / squares.mean(),
        "the chord is each journey's own, not their mean": mean(from_mean) / length.mean(),
        "the chord is not subtracted": mean(squares) / length.mean(),
        "a sum over the journeys, not their mean": count * want,
        "a sum over the journeys below, their mean above": want / count,
        "squares are summed over the axes of a point, above as below": want / width,
        "squares are summed over the axes of a point, below as above": want * width,
        "squares are wanted, not distances": mean(each.sqrt()) / length.sqrt().mean(),
        "the root is too much: S is a ratio of squares": want.sqrt(),
        "each journey was divided by its own chord: mean by mean": mean(each / length),
    }


def arc_over_chord(path):
    arcs = path.diff(dim=0).norm(dim=2).sum(0)              # (N,)
    chords = (path[-1] - path[0]).norm(dim=1)               # (N,)
    return arcs.sum() / chords.sum()


@check(reference=arc_over_chord)
def check_arc_over_chord(answer):
    for steps, count, width in (4, 5, 2), (6, 3, 3):
        size = torch.linspace(0.5, 3, count)[:, None]
        path = randn(steps, count, width, seed=3) * size
        answer.case((path,), arc_over_chord(path), likely_arcs(path),
                    where=f"{count} journeys of {steps - 1} steps")
    # straight, at any speed
    way = torch.tensor([0.0, 0.1, 0.7, 1.0])[:, None, None]
    line = randn(1, 5, 2) + way * randn(1, 5, 2, seed=1)
    compare(answer(line), torch.tensor(1.0), where="straight lines have arc / chord = 1")


def likely_arcs(path):
    moved = path.diff(dim=0)
    lengths = moved.norm(dim=2)                             # (K, N)
    arcs, chords = lengths.sum(0), (path[-1] - path[0]).norm(dim=1)
    want = arcs.sum() / chords.sum()
    return {
        "each journey was divided by its own chord: here the sums are, so that short journeys "
        "count little": (arcs / chords).mean(),
        "each journey was divided by its own chord, and then they were summed":
            (arcs / chords).sum(),
        "one ratio for each journey: one number is wanted, sum over sum": arcs / chords,
        "upside down: the arc is the longer one": 1 / want,
        "an arc is the sum of its steps' lengths, not their mean": want / len(moved),
        "squares: lengths are wanted": moved.square().sum() / chords.square().sum(),
        "the root is missing in the steps' lengths": moved.square().sum() / chords.sum(),
        "that is the arc alone": arcs.sum(),
        "that is the mean arc alone": arcs.mean(),
        "lengths are Euclid's, not sums of absolute values":
            moved.abs().sum() / (path[-1] - path[0]).abs().sum(),
        "the steps were added before their length was taken: that is the chord":
            torch.tensor(1.0),
        "the length is over the axes of a point, not over the journeys":
            moved.norm(dim=1).sum() / (path[-1] - path[0]).norm(dim=0).sum(),
        "the last step is missing": lengths[:-1].sum() / chords.sum(),
        "the first step is missing": lengths[1:].sum() / chords.sum(),
        "what the arc is longer by: divide, don't subtract": arcs.sum() - chords.sum(),
        "1 is straight: don't subtract it": want - 1,
    }


def at_unit_size(path, schedule, ts):
    return path / torch.hypot(schedule.alpha(ts), schedule.sigma(ts))[:, None, None]


@check(reference=at_unit_size)
def check_at_unit_size(answer):
    # as many times as points in the second, and as axes: who divides the wrong axis is seen
    cases = ((flow, [0.9, 0.7, 0.2, 0.05], (4, 5, 2)), (warped, [0.9, 0.6, 0.1], (3, 3, 3)))
    for schedule, times, shape in cases:
        ts, path = torch.tensor(times), randn(*shape, seed=4)
        alpha, sigma = (level(ts)[:, None, None] for level in schedule)
        size = torch.hypot(alpha, sigma)
        likely = {
            "multiplied: a crowd that shrank must grow": path * size,
            "the root is missing: variances are alpha^2 + sigma^2": path / size**2,
            "variances add, standard deviations don't": path / (alpha + sigma),
            "divided by alpha: x / alpha grows without end near the noise": path / alpha,
            "divided by sigma alone": path / sigma,
            "all places were divided by the first time's size": path / size[:1],
            "all places were divided by the last time's size": path / size[-1:],
            "the size is the schedule's: this is measured on the crowd":
                path / path.std((1, 2), keepdim=True),
        }
        if shape[0] == shape[2]:
            likely["each axis of a point got a time of its own"] = path / size.flatten()
        answer.case((path, schedule, ts), at_unit_size(path, schedule, ts), likely,
                    where=f"path {shape}")
