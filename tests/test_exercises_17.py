"""Lesson 17's checks: right answers in any style pass; wrong ones are told what is wrong."""

import copy

from support.answers import right_and_wrong

from minildm.course.exercises import lesson_17, lesson_17_jumps
from minildm.diffusion import fewstep
from minildm.diffusion.schedules import expand

HELPERS = {"expand": expand, "copy": copy, "fewstep": fewstep,
           "consistency_target": lesson_17.consistency_target,
           "shortcut_target": lesson_17_jumps.shortcut_target}


def target(step="expand(s - t, x) * velocity(x, t)", jump="expand(s, x) * average(x_s, s)"):
    return f"""
    with torch.no_grad():
        x_s = x + {step}
        return x_s - {jump}
    """


def one_end(x="(1 - expand(t, data)) * data + expand(t, data) * noise", way="expand(t, x)",
            end="average", value="(end - wanted).square().mean()", asked="t"):
    return f"""
    x = {x}
    end = x - {way} * network(x, {asked})
    wanted = consistency_target(velocity, {end}, x, t, s)
    return {value}
    """


def drawn(end="x - t * network(x, t)", new="(1 - s) * end + s * torch.randn(x.shape, generator=generator)"):
    return f"""
    x = noise
    for t, s in zip(ts[:-1], ts[1:]):
        end = {end}
        x = {new}
    return x
    """


def halves(first="average(x, t, m)", there="x + expand(m - t, x) * first",
           second="average(there, m, s)", join="(first + second) / 2",
           chosen="expand(t - s, x) > shortest"):
    return f"""
    with torch.no_grad():
        m = (t + s) / 2
        first = {first}
        there = {there}
        second = {second}
        return torch.where({chosen}, {join}, velocity(x, t))
    """


def jump_loss(told="t, s", value="(network(x, {}) - wanted).square().mean()",
              x="(1 - expand(t, data)) * data + expand(t, data) * noise", by="average"):
    return f"""
    x = {x}
    wanted = shortcut_target(velocity, {by}, x, t, s, shortest)
    return {value.format(told)}
    """


def jumped(step="(s - t) * network(x, t, s)"):
    return f"""
    for t, s in zip(ts[:-1], ts[1:]):
        x = x + {step}
    return x
    """


def loop(copied="copy.deepcopy(network)", rate="lr * (1 - i / steps)", kind="Adam", before="",
         zero="optimizer.zero_grad()", after="slow.lerp_(fast, 1 - decay)", result="average, losses"):
    average = f"""with torch.no_grad():
            for slow, fast in zip(average.parameters(), network.parameters()):
                {after}"""
    return f"""
    average = {copied}
    optimizer, losses = torch.optim.{kind}(network.parameters(), lr=lr), []
    for i in range(steps):
        optimizer.param_groups[0]["lr"] = {rate}
        value = loss(network, average, draw())
        {zero}
        value.backward()
        {before and average}
        optimizer.step()
        {"" if before else average}
        losses.append(value.item())
    return {result}
    """


RIGHT = [
    ("consistency_target", target()),
    ("consistency_target", """
        t, s = t.reshape(-1, *[1] * (x.ndim - 1)), s.reshape(-1, *[1] * (x.ndim - 1))
        x_s = x - (t - s) * velocity(x, t.flatten())
        return (x_s - s * average(x_s, s.flatten())).detach()
     """),
    ("consistency_target", """
        with torch.no_grad():
            x0 = x - expand(t, x) * velocity(x, t)
            eps = (x - expand(1 - t, x) * x0) / expand(t, x)
            x_s = expand(1 - s, x) * x0 + expand(s, x) * eps
            return x_s - expand(s, x) * average(x_s, s)
     """),
    ("consistency_loss", one_end()),
    ("consistency_loss", """
        x = torch.lerp(data, noise, expand(t, data))
        with torch.no_grad():
            wanted = consistency_target(velocity, average, x, t, s)
        return torch.nn.functional.mse_loss(x - expand(t, x) * network(x, t), wanted)
     """),
    ("draw_consistency", drawn()),
    ("draw_consistency", """
        x = noise
        for k in range(len(ts) - 1):
            end = x - ts[k] * network(x, ts[k].expand(len(x)))
            if ts[k + 1] == 0:
                return end
            x = torch.lerp(end, torch.randn(x.shape, generator=generator), ts[k + 1])
     """),
    ("shortcut_target", halves()),
    ("shortcut_target", halves(chosen="expand(t - s, x) >= 1.5 * shortest")),
    ("shortcut_target", """
        half = (t - s) / 2
        one = average(x, t, t - half)
        two = average(x - expand(half, x) * one, t - half, s)
        long = (t - s > shortest).reshape(-1, *[1] * (x.ndim - 1)).float()
        return (long * 0.5 * (one + two) + (1 - long) * velocity(x, t)).detach()
     """),
    ("shortcut_loss", jump_loss()),
    ("shortcut_loss", """
        x = torch.lerp(data, noise, expand(t, data))
        wanted = shortcut_target(velocity, average, x, t, s, shortest)
        return torch.nn.functional.mse_loss(network(x, t, s), wanted)
     """),
    ("draw_jumps", jumped()),
    ("draw_jumps", jumped("network(x, t.expand(len(x)), s.expand(len(x))) * (s - t)")),
    ("fit_average", loop()),
    ("fit_average", loop(kind="AdamW")),
    ("fit_average", loop("copy.deepcopy(network).requires_grad_(False)",
                         after="slow.mul_(decay).add_(fast, alpha=1 - decay)")),
    ("fit_average", loop(after="slow.copy_(decay * slow + (1 - decay) * fast)",
                         result="(average, torch.tensor(losses))")),
]

WRONG = [
    ("consistency_target", "leads to the noise", target("expand(t - s, x) * velocity(x, t)")),
    ("consistency_target", "one jump further", target(jump="0 * x")),
    ("consistency_target", "average is told", target(jump="expand(s, x) * average(x_s, t)")),
    ("consistency_target", "s long, not t", target(jump="expand(t, x) * average(x_s, s)")),
    ("consistency_target", "and is s long", target(jump="expand(t, x) * average(x_s, t)")),
    ("consistency_target", "where the step has led", "with torch.no_grad():\n"
     "    return x - expand(s, x) * average(x, s)"),
    ("consistency_target", "No step|no step", "with torch.no_grad():\n"
     "    return x - expand(t, x) * average(x, t)"),
    ("consistency_target", "asked at x", target(jump="expand(s, x) * average(x, s)")),
    ("consistency_target", "is the teacher's", target("expand(s - t, x) * average(x, t)")),
    ("consistency_target", "is the average's", target(jump="expand(s, x) * velocity(x_s, s)")),
    ("consistency_target", "changed places", target("expand(s - t, x) * average(x, t)",
                                                    "expand(s, x) * velocity(x_s, s)")),
    ("consistency_target", "x - t u", target(jump="(-expand(s, x)) * average(x_s, s)")),
    ("consistency_target", "gradients", "x_s = x + expand(s - t, x) * velocity(x, t)\n"
     "return x_s - expand(s, x) * average(x_s, s)"),
    ("consistency_target", "first one", target()
     .replace("with", "t, s = 0 * t + t[0], 0 * s + s[0]\n    with")),
    ("consistency_target", "raised|times of shape", target("(s - t) * velocity(x, t)")),
    ("consistency_target", "in place", "x += expand(s - t, x) * velocity(x, t)\n"
     "return (x - expand(s, x) * average(x, s)).detach()"),
    ("consistency_loss", "sum", one_end(value="(end - wanted).square().sum()")),
    ("consistency_loss", "numbers of a row",
     one_end(value="(end - wanted).square().sum() / len(x)")),
    ("consistency_loss", "half", one_end(value="(end - wanted).square().mean() / 2")),
    ("consistency_loss", "root", one_end(value="(end - wanted).square().mean().sqrt()")),
    ("consistency_loss", "absolute", one_end(value="(end - wanted).abs().mean()")),
    ("consistency_loss", "factor t", one_end(way="1")),
    ("consistency_loss", "sign", one_end(way="-expand(t, x)")),
    ("consistency_loss", "with the data|not with", one_end(value="(end - data).square().mean()")),
    ("consistency_loss", "changed places",
     one_end(x="(1 - expand(t, data)) * noise + expand(t, data) * data")),
    ("consistency_loss", "not s", one_end(asked="s")),
    ("consistency_loss", "the network itself", one_end(end="network")),
    ("consistency_loss", "moves the average", """
        x = (1 - expand(t, data)) * data + expand(t, data) * noise
        x_s = x + expand(s - t, x) * velocity(x, t)
        wanted = x_s - expand(s, x) * average(x_s, s)
        return (x - expand(t, x) * network(x, t) - wanted).square().mean()
     """),
    ("consistency_loss", "gradient", one_end(value="(end - wanted).square().mean().detach()")),
    ("draw_consistency", "drawn anew", drawn(new="(1 - s) * end + s * noise")),
    ("draw_consistency", "Euler", drawn("x", "x + (s - t) * network(x, t)")),
    ("draw_consistency", "scaled by 1 - s",
     drawn(new="end + s * torch.randn(x.shape, generator=generator)")),
    ("draw_consistency", "not t - s", drawn("x - (t - s) * network(x, t)")),
    ("draw_consistency", "not 1", drawn("x - network(x, t)")),
    ("draw_consistency", "not at s", drawn("x - t * network(x, s)")),
    ("draw_consistency", "to the noise", drawn("x + t * network(x, t)")),
    ("draw_consistency", "from the first noise", "noise - ts[0] * network(noise, ts[0])"),
    ("draw_consistency", "one seed|generator",
     drawn(new="(1 - s) * end + s * torch.randn(x.shape)")),
    ("shortcut_target", "added", halves(join="first + second")),
    ("shortcut_target", "second half alone", halves(join="second")),
    ("shortcut_target", "first half alone", halves(join="first")),
    ("shortcut_target", "ends in the middle", halves("average(x, t, s)")),
    ("shortcut_target", "not at x", halves(there="x")),
    ("shortcut_target", "not at t", halves(second="average(there, t, s)")),
    ("shortcut_target", "ends at s", halves(second="average(there, m, m)")),
    ("shortcut_target", "to the noise", halves(there="x + expand(t - m, x) * first")),
    ("shortcut_target", "half as long", halves(there="x + expand(s - t, x) * first")),
    ("shortcut_target", "long and short", halves(chosen="expand(t - s, x) <= shortest")),
    ("shortcut_target", "the teacher's, too", halves(chosen="expand(t - s, x) >= shortest")),
    ("shortcut_target", "all rows are halves", halves(chosen="expand(t - s, x) > 0")),
    ("shortcut_target", "for all rows", "velocity(x, t)"),
    ("shortcut_target", "halve it", halves(join="average(x, t, s)")),
    ("shortcut_target", "gradients", "m = (t + s) / 2\nfirst = average(x, t, m)\n"
     "second = average(x + expand(m - t, x) * first, m, s)\n"
     "return torch.where(expand(t - s, x) > shortest, (first + second) / 2, velocity(x, t))"),
    ("shortcut_loss", "sum", jump_loss(value="(network(x, {}) - wanted).square().sum()")),
    ("shortcut_loss", "half", jump_loss(value="(network(x, {}) - wanted).square().mean() / 2")),
    ("shortcut_loss", "displacements", jump_loss(
        value="(expand(t - s, x) * (network(x, {}) - wanted)).square().mean()")),
    ("shortcut_loss", "noise - data",
     jump_loss(value="(network(x, {}) - (noise - data)).square().mean()")),
    ("shortcut_loss", "t twice", jump_loss("t, t")),
    ("shortcut_loss", "t, then s", jump_loss("s, t")),
    ("shortcut_loss", "changed places",
     jump_loss(x="(1 - expand(t, data)) * noise + expand(t, data) * data")),
    ("shortcut_loss", "own", jump_loss(by="network")),
    ("draw_jumps", "to the noise", jumped("(t - s) * network(x, t, s)")),
    ("draw_jumps", "told 0", jumped("(s - t) * network(x, t, 0 * s)")),
    ("draw_jumps", "told t", jumped("(s - t) * network(x, t, t)")),
    ("draw_jumps", "then s", jumped("(s - t) * network(x, s, t)")),
    ("draw_jumps", "not -t", jumped("-t * network(x, t, s)")),
    ("draw_jumps", "a way", jumped("-network(x, t, s)")),
    ("draw_jumps", "in place", jumped().replace("x = x +", "x +=")),
    ("fit_average", "stays what it was", loop(after="pass")),
    ("fit_average", "not before", loop(before="yes")),
    ("fit_average", "shares changed places", loop(after="slow.lerp_(fast, decay)")),
    ("fit_average", "is a copy", loop("network")),
    ("fit_average", "not the network", loop(result="network, losses")),
    ("fit_average", "of the last step", loop(after="slow.copy_(fast)")),
    ("fit_average", "zero_grad", loop(zero="pass")),
    ("fit_average", "trained network's|losses|average's",
     loop().replace("lr=lr)", "lr=lr, betas=(0.9, 0.99))")),
    ("fit_average", "training mode", loop(zero="optimizer.zero_grad(); network.eval()")),
    ("fit_average", "fall linearly", loop(rate="lr")),
    ("fit_average", "one step late", loop(rate="lr * (1 - (i + 1) / steps)")),
    ("fit_average", "not 0", loop(rate="lr * (1 - i / (steps - 1))")),
    ("fit_average", "plain gradient", loop(kind="SGD")),
    ("fit_average", "a pair", loop(result="average")),
    ("fit_average", "first comes the average", loop(result="losses, average")),
    ("fit_average", "graphs", loop().replace("value.item()", "value")),
]

test_right_answers_pass, test_wrong_answers_are_told = right_and_wrong(RIGHT, WRONG, HELPERS)
