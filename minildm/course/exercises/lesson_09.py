"""The checks of lesson 09."""

import torch

from minildm.course.exercises.compare import close, compare, fail
from minildm.course.exercises.fakes import Network, follows_generator, randn, uniform
from minildm.course.exercises.harness import check
from minildm.diffusion import samplers

__all__ = ["check_euler_path", "check_flow_pair", "check_from_theirs",
           "check_shifted_logit_normal", "check_straightness"]


def flow_pair(data, noise, t):
    t = t[:, None, None, None]
    x_t = (1 - t) * data + t * noise
    return torch.stack([x_t, noise - data])


@check(reference=flow_pair)
def check_flow_pair(answer):
    for shape, times in ((3, 2, 5, 4), [0.1, 0.4, 0.8]), ((2, 3, 4, 7), [0.95, 0.3]):
        data, noise = randn(*shape), randn(*shape, seed=1)
        t = torch.tensor(times)
        answer.case((data, noise, t), flow_pair(data, noise, t), likely_pairs(data, noise, t),
                    where=f"shape {shape}")


def likely_pairs(data, noise, t):
    want = flow_pair(data, noise, t)
    x_t, target = want
    t = t[:, None, None, None]
    turned = (1 - t) * noise + t * data
    angle = t * torch.pi / 2
    arc = angle.cos() * data + angle.sin() * noise
    root = (1 - t**2).sqrt() * data + t * noise
    one_time = (1 - t[0]) * data + t[0] * noise

    def pair(place=x_t, line=target):
        return torch.stack([place, line])

    return {
        "the target points to the data: ours is noise - data": pair(line=-target),
        "data and noise changed places: t = 0 is data": pair(turned),
        "data and noise changed places": pair(turned, -target),
        "that is the arc of the cosine schedule: alpha is 1 - t": pair(arc),
        "alpha^2 + sigma^2 = 1 is an arc: on a line alpha is 1 - t": pair(root),
        "x_t is data + t noise: the data isn't scaled": pair(data + t * noise),
        "the noise isn't scaled": pair((1 - t) * data + noise),
        "x_t is data - t (noise - data): the way leads to the noise": pair(data - t * target),
        "x_t starts from the noise: at t = 0 it is the data": pair(noise + t * target),
        "x_t is the picture on the way at t: this is the data": pair(data),
        "the target is noise - data, not noise": pair(line=noise),
        "the target is noise - data, not data": pair(line=data),
        "the target is noise - data, not noise - x_t": pair(line=noise - x_t),
        "the target is the velocity on the way, not the place: noise - data": pair(line=x_t),
        "the target is noise - data, not t times that, which is x_t - data": pair(line=t * target),
        "the target is noise - data, not their sum": pair(line=noise + data),
        "that is the target of v-prediction: on a line it is noise - data":
            pair(line=(1 - t) * noise - t * data),
        "x_t comes first, then the target": want.flip(0),
        "x_t comes first, then the target: they stand side by side in one batch": torch.cat([x_t, target]),
        "x_t and target are the first axis: here they are the second": want.transpose(0, 1),
        "that is x_t alone: the target is wanted, too": x_t,
        "that is the target alone: x_t is wanted, too": target,
        "all pictures got the first one's time": pair(one_time),
    }


def euler_path(velocity, x, ts):
    for t, s in zip(ts[:-1], ts[1:], strict=True):
        x = x + (s - t) * velocity(x, t)
    return x


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
        network = Network()
        answer.case((network, x, ts), want, likely, where=f"times {times}")
        if len(network.calls) != steps:
            asked = f"velocity was asked {len(network.calls)} times"
            fail(f"{asked}: {len(ts)} times are {steps} steps, and each asks once")


def walk(velocity, x, ts, step):
    """The places of a journey whose step is step(x, t, s)."""
    places = [x]
    for t, s in zip(ts[:-1], ts[1:], strict=True):
        places.append(step(places[-1], t, s))
    return torch.stack(places)


def likely_journeys(x, ts):
    velocity = Network()
    count = len(ts) - 1
    whole = ts[-1] - ts[0]
    places = walk(velocity, x, ts, lambda y, t, s: y + (s - t) * velocity(y, t))

    def end(step, ts=ts):
        return walk(velocity, x, ts, step)[-1]

    def forward(y, t, s):
        return y + (s - t) * velocity(y, t)

    def heun(y, t, s):
        first = velocity(y, t)
        second = velocity(y + (s - t) * first, s)
        return y + (s - t) * (first + second) / 2

    def midpoint(y, t, s):
        between = y + (s - t) / 2 * velocity(y, t)
        return y + (s - t) * velocity(between, (s + t) / 2)

    zero = torch.zeros(1)
    return {
        "the sign: a step goes by s - t, from the time t to the next one s":
            end(lambda y, t, s: y - (s - t) * velocity(y, t)),
        "the sign: s - t is negative where time falls": end(
            lambda y, t, s: y + (s - t).abs() * velocity(y, t)),
        "s - t is positive where time rises": end(lambda y, t, s: y - (s - t).abs() * velocity(y, t)),
        "the velocity is asked at the time you go to: ask where you stand":
            end(lambda y, t, s: y + (s - t) * velocity(y, s)),
        "the velocity is asked where the journey began: ask where you stand":
            end(lambda y, t, s: y + (s - t) * velocity(x, t)),
        "the velocity is asked at the first time always: ask at the time where you stand":
            end(lambda y, t, s: y + (s - t) * velocity(y, ts[0])),
        "the velocity is asked at the last time always: ask at the time where you stand":
            end(lambda y, t, s: y + (s - t) * velocity(y, ts[-1])),
        "the steps are not equal: each is the next time minus this one":
            end(lambda y, t, s: y + whole / count * velocity(y, t)),
        "the steps are not equal, and one too many was counted":
            end(lambda y, t, s: y + whole / (count + 1) * velocity(y, t)),
        "equal steps of 1 / K: the grid says where they go":
            end(lambda y, t, s: y - velocity(y, t) / count),
        "equal steps of 1 / K forward: the grid says where they go":
            end(lambda y, t, s: y + velocity(y, t) / count),
        "a step isn't scaled by its duration": end(lambda y, t, s: y + velocity(y, t)),
        "a step is scaled by its duration, not by the time": end(lambda y, t, s: y + t * velocity(y, t)),
        "a step is scaled by its duration, not by the next time":
            end(lambda y, t, s: y + s * velocity(y, t)),
        "the place gets lost: a step is added to it": end(lambda y, t, s: (s - t) * velocity(y, t)),
        "each step begins at the start: go on from where the last one led":
            end(lambda y, t, s: x + (s - t) * velocity(y, t)),
        "that is Heun's method: Euler asks once for a step": end(heun),
        "that is the midpoint method: Euler asks once for a step": end(midpoint),
        "the last step is missing": end(forward, ts[:-1]),
        "the first step is missing": end(forward, ts[1:]),
        "one step more than the grid has, down to 0": end(forward, torch.cat([ts, zero])),
        "one jump from the first time to the last": end(forward, ts[[0, -1]]),
        "the times are walked from the last to the first": end(forward, ts.flip(0)),
        "the place after the last step alone is wanted, not the whole journey": places,
        "the place after the first step: the return stands inside the loop": places[1],
        "nothing has moved": x,
    }


def from_theirs(network):
    def denoise(x, t):
        return x + t * network(x, 1 - t)

    return denoise


@check(reference=from_theirs)
def check_from_theirs(answer):
    for shape, time in ((4, 2), 0.3), ((3, 2, 5, 4), 0.85):
        x, t = randn(*shape), torch.tensor(time)
        inner = Network()

        def network(z, s, inner=inner):
            if not isinstance(z, torch.Tensor) or z.ndim < 2:
                fail("their network takes the noisy points z first, then the time s")
            return inner(z, s)

        theirs, at_our_time = network(x, 1 - t), network(x, t)
        made = answer(network)
        denoise = answer.wrap(made, "a function of (x, t), not its value", ["x", "t"])
        denoise.case((x, t), x + t * theirs, {
            "the sign is wrong: theirs points to the data": x - t * theirs,
            "the network wants its own time, s = 1 - t": x + t * at_our_time,
            "the network wants its own time, s = 1 - t, and it points to the data": x - t * at_our_time,
            "the network wants its own time, s = 1 - t, and the way to the data is t long":
                x + (1 - t) * at_our_time,
            "the way to the data is t long, not 1 - t": x + (1 - t) * theirs,
            "the way to the data is t long, not 1": x + theirs,
            "the way to the data is t long, and theirs points to it": x - theirs,
            "the network wants its own time, s = 1 - t, not -t": x + t * network(x, -t),
            "the network wants its own time, s = 1 - t, not t - 1": x + t * network(x, t - 1),
            "that is what the network says, not x0": theirs,
            "that is what the network says at another time, not x0": at_our_time,
            "that is our velocity, noise - data, not x0": -theirs,
            "that is the noise, not the data": x - (1 - t) * theirs,
            "that is the way to the data: it starts at x": t * theirs,
            "x isn't scaled: data = x - t (noise - data)": (1 - t) * x + t * theirs,
            "x isn't scaled by t": t * x + t * theirs,
            "the way is t long, not 1 / t": x + theirs / t,
            "x - t v is x0 already: nothing is divided by 1 - t": (x + t * theirs) / (1 - t),
            "x_t has alpha 1 - t on the line, but theirs is no noise": (x - t * theirs) / (1 - t),
        }, where=f"shape {shape}, t = {time}")


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
        bent = line[0] + (ts - ts[0])[:, None, None].square() * (line[-1] - line[0])
        compare(answer(bent, ts), straightness(bent, ts), {
            "a straight line whose speed changes isn't straight for S: velocities are compared":
                torch.tensor(0.0),
        }, where="a straight line whose speed changes")


def likely_straightness(path, ts):
    dt = ts.diff()
    time = dt[:, None, None]
    share = dt / dt.sum()
    moved = path.diff(dim=0)
    velocity = moved / time
    whole = path[-1] - path[0]
    chord = whole / dt.sum()
    count, width = whole.shape
    each = (velocity - chord).square().sum(2)               # (K, N)
    length = chord.square().sum(1)                          # (N,)
    want = (each.mean(1) * share).sum() / length.mean()

    def way(velocity=velocity, chord=chord, weight=share):
        off = (velocity - chord).square().sum(2).mean(1)
        return (off * weight).sum() / chord.square().sum(1).mean()

    alike = torch.full_like(dt, 1 / len(dt))
    middle = velocity.mean(0)
    root = (each.sqrt().mean(1) * share).sum()
    from_mean = (velocity - chord.mean(0)).square().sum(2).mean(1)
    strange = (from_mean * share).sum() / length.mean()
    return {
        "each step counts alike: weigh it by its duration": way(weight=alike),
        "each step counts alike, and they are summed: weigh it by its duration": way(
            weight=torch.ones_like(dt)),
        "the weights are the steps' shares of the time: they must sum to 1": way(weight=dt.abs()),
        "the sign: durations are negative here, divide by their sum": way(weight=dt),
        "weighed by its share of the time, and then a mean over steps": way() / len(dt),
        "not divided by the chord's square": want * length.mean(),
        "divided by the velocity's square: by the chord's": want * length.mean()
            / velocity.square().sum(2).mean(),
        "the chord is divided by the time it takes: it is a velocity": way(chord=whole),
        "in the divisor the chord is a velocity as well, divided by its time":
            want * length.mean() / whole.square().sum(1).mean(),
        "the velocity of a step is divided by its duration": way(velocity=moved),
        "the velocity of a step is divided by its own duration, not by the mean one":
            way(velocity=moved / dt.mean()),
        "steps and chord are velocities: divide both by their time": way(moved, whole),
        "the chord is from end to end, not the mean velocity of the steps": way(chord=middle),
        "the chord has the sign of the steps: the last place minus the first": way(chord=-chord),
        "the chord is not subtracted": (velocity.square().sum(2).mean(1) * share).sum() / length.mean(),
        "the chord is each journey's own, not their mean": strange,
        "a sum over the journeys, not their mean": count * want,
        "a sum over the journeys below, their mean above": want / count,
        "squares are summed over the axes of a point, above as below": want / width,
        "squares are summed over the axes of a point, below as above": want * width,
        "squares are wanted, not distances": root / length.sqrt().mean(),
        "the root is too much: S is a ratio of squares": want.sqrt(),
        "each journey was divided by its own chord: mean by mean": (
            (each / length).mean(1) * share).sum(),
    }


def shifted_logit_normal(n, m, s, generator):
    return torch.sigmoid(m + s * torch.randn(n, generator=generator))


@check(reference=shifted_logit_normal)
def check_shifted_logit_normal(answer):
    for n, m, s in (20_001, 0.5, 2.0), (15_000, -0.8, 0.6):
        got = follows_generator(answer, lambda seeded, n=n, m=m, s=s: (n, m, s, seeded))
        want = shifted_logit_normal(n, m, s, torch.Generator().manual_seed(0))
        likely = likely_times(n, m, s)
        if is_tensor_like(got, want) and not any(close(got, wrong) for wrong in likely.values()):
            # there are many ways to a normal number: another one is judged by its distribution
            judge_distribution(got, m, s)
        else:
            compare(got, want, likely, where=f"m = {m}, s = {s}")


def is_tensor_like(got, want) -> bool:
    if not isinstance(got, torch.Tensor):
        return False
    return got.shape == want.shape and got.dtype == want.dtype


def judge_distribution(times, m, s):
    """Raise Wrong unless times are the sigmoid of a normal with mean m and deviation s."""
    if not ((times > 0) & (times < 1)).all():
        fail("times lie between 0 and 1, some of these do not")
    logits = times.double().logit()
    mean, std = logits.mean().item(), logits.std().item()
    found = torch.special.ndtr((logits - m) / s).sort().values
    wanted = (torch.arange(len(found)) + 0.5) / len(found)
    # Kolmogorov and Smirnov: a right answer is further off in one of 4000
    if (found - wanted).abs().max() > 2.1 / len(found)**0.5:
        fail(f"the numbers under the sigmoid have mean {mean:.2f} and standard deviation {std:.2f}: "
             f"those of a normal with {m} and {s} are wanted")


def likely_times(n, m, s):
    z, flat = randn(n), uniform(n)
    normal = m + s * z
    return {
        "m and s changed places": torch.sigmoid(s + m * z),
        "m moves the normal, not the time": m + torch.sigmoid(s * z),
        "m and s move the normal, not the time": m + s * torch.sigmoid(z),
        "the normal itself: its sigmoid is wanted": normal,
        "s multiplies the normal alone, not the mean": torch.sigmoid(s * (m + z)),
        "s multiplies, it doesn't divide": torch.sigmoid(m + z / s),
        "that takes a mean and a spread out: they go in": torch.sigmoid((z - m) / s),
        "m is added, not subtracted": torch.sigmoid(z * s - m),
        "the mean m is missing": torch.sigmoid(s * z),
        "the standard deviation s is missing": torch.sigmoid(m + z),
        "m and s are missing": torch.sigmoid(z),
        "clipped to 0 and 1: the sigmoid is wanted": normal.clamp(0, 1),
        "s is the standard deviation, not the variance": torch.sigmoid(m + abs(s)**0.5 * z),
        "s is the standard deviation already, not squared": torch.sigmoid(m + s**2 * z),
        "s is the standard deviation, not its logarithm": torch.sigmoid(m + torch.tensor(s).exp() * z),
        "these are not normal numbers, but uniform ones": torch.sigmoid(m + s * flat),
        "these are uniform times": flat,
        "the sign of the sigmoid's argument is wrong: data is at 0": torch.sigmoid(-normal),
        "tanh goes from -1 to 1, times go from 0 to 1": torch.tanh(normal),
        "that is the softmax, whose times sum to 1: the sigmoid of each": normal.softmax(0),
        "that is the normal's distribution function: the sigmoid is wanted": torch.special.ndtr(normal),
        "that is log-normal: the sigmoid is wanted, not exp": normal.exp(),
        "all times are one: a normal number for each": torch.sigmoid(m + s * randn(1)).expand(n),
    }
