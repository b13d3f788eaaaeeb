"""The checks of lesson 09."""

import torch

from minildm.course.exercises.compare import fail
from minildm.course.exercises.fakes import Network, randn
from minildm.course.exercises.harness import check
from minildm.course.exercises.lesson_09_times import check_shifted_logit_normal, check_straightness
from minildm.diffusion import samplers

__all__ = ["check_euler_path", "check_flow_pair", "check_from_theirs",
           "check_shifted_logit_normal", "check_straightness"]


def flow_pair(data, noise, t):
    t = t[:, None, None, None]
    x_t = (1 - t) * data + t * noise
    return torch.stack([x_t, noise - data])


@check(reference=flow_pair)
def check_flow_pair(answer):
    for shape, times in ((3, 2, 5, 4), [0.4, 0.0, 0.8]), ((2, 3, 4, 7), [1.0, 0.3]):
        data, noise = randn(*shape), randn(*shape, seed=1)
        # a time for each picture, none of them 0, 1/2 or 1, where mistakes agree
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
        "x_t comes first, then the target: they stand side by side in one batch":
            torch.cat([x_t, target]),
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
    """{cause: where a wrong walk ends}."""
    velocity = Network()
    forward = euler_path(velocity, x, ts)
    zero = torch.zeros(1)

    # the whole journey, for those who return it
    def step(y, t, s):
        return y + (s - t) * velocity(y, t)

    places = walk(x, ts, step)
    return {
        **wrong_steps(velocity, x, ts),
        "the last step is missing": euler_path(velocity, x, ts[:-1]),
        "the first step is missing": euler_path(velocity, x, ts[1:]),
        "one step more than the grid has, down to 0":
            euler_path(velocity, x, torch.cat([ts, zero])),
        "one jump from the first time to the last": euler_path(velocity, x, ts[[0, -1]]),
        "the times are walked from the last to the first": euler_path(velocity, x, ts.flip(0)),
        "the place after the last step alone is wanted, not the whole journey": places,
        "the place after the first step: the return stands inside the loop": places[1],
        "the way is wanted where it ends, not how far that is": forward - x,
        "nothing has moved": x,
    }


def wrong_steps(velocity, x, ts):
    """{cause: where a journey of such steps ends}; a step goes from y at t to the time s."""
    count = len(ts) - 1
    # the step of a grid with equal steps between the same ends
    equal = (ts[-1] - ts[0]) / count

    def end(change):
        return walk(x, ts, lambda y, t, s: y + change(y, t, s))[-1]

    def here(factor):
        return end(lambda y, t, s: factor(t, s) * velocity(y, t))

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
            end(lambda y, t, s: (s - t) * velocity(y, s)),
        "the velocity is asked where the journey began: ask where you stand":
            end(lambda y, t, s: (s - t) * velocity(x, t)),
        "the velocity is asked at the first time always: ask at the time where you stand":
            end(lambda y, t, s: (s - t) * velocity(y, ts[0])),
        "the velocity is asked at the last time always: ask at the time where you stand":
            end(lambda y, t, s: (s - t) * velocity(y, ts[-1])),
        "that is Heun's method: Euler asks once for a step": end(heun),
        "that is the midpoint method: Euler asks once for a step": end(midpoint),
        **wrong_lengths(velocity, x, ts, here, equal),
    }


def wrong_lengths(velocity, x, ts, here, equal):
    """{cause: where it ends}; here(factor) walks in steps of factor(t, s) times the velocity."""
    count = len(ts) - 1
    lost = walk(x, ts, lambda y, t, s: (s - t) * velocity(y, t))
    again = walk(x, ts, lambda y, t, s: x + (s - t) * velocity(y, t))
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
        "the place gets lost: a step is added to it": lost[-1],
        "each step begins at the start: go on from where the last one led": again[-1],
    }


def from_theirs(network):
    def denoise(x, t):
        return x + t * network(x, 1 - t)

    return denoise


@check(reference=from_theirs)
def check_from_theirs(answer):
    # points and pictures; at t = 1/2 both times agree
    for shape, time in ((4, 2), 0.3), ((3, 2, 5, 4), 0.85):
        x, t = randn(*shape), torch.tensor(time)
        inner = Network()

        # theirs is called as the stub says, network(z, s)
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
            "the network wants its own time, s = 1 - t, and it points to the data":
                x - t * at_our_time,
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
