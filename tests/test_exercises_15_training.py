"""Lesson 15's checks of loss, step and race: right answers in other styles pass; wrong ones hear why."""

import copy
import textwrap

from support.answers import changed, right_and_wrong, written

from minildm.course import arms
from minildm.diffusion.denoiser import Denoiser, drop_context, logit_normal
from minildm.diffusion.schedules import add_noise, flow

HELPERS = {"copy": copy, "arms": arms, "Denoiser": Denoiser, "drop_context": drop_context, "flow": flow,
           "logit_normal": logit_normal, "add_noise": add_noise,
           "to_velocity": lambda x0, x, t, low=0.05: (x - x0) / t.clamp(min=low)[:, None, None, None]}
HELPERS["velocity_of"] = written("velocity_of", """
    answer = network(x, t, labels)
    return to_velocity(answer, x, t) if predicts == "x0" else answer
""", HELPERS)


LOSS = """
    t = logit_normal(len(data), generator)
    noise = torch.randn(data.shape, generator=generator)
    told = drop_context(labels, network.null_context, drop, generator)
    x = add_noise(flow, data, noise, t)
    said = velocity_of(network, predicts, x, t, told)
    return (said - to_velocity(data, x, t)).square().mean()
"""
STEP = """
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    with torch.no_grad():
        for mean, weight in zip(average.parameters(), network.parameters()):
            mean.lerp_(weight, 1 - decay)
    return loss.item()
"""
RACE = """
    average = copy.deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.AdamW(network.parameters(), lr, betas=(0.9, 0.95))
    losses = []
    for i in range(stops[-1]):
        optimizer.param_groups[0]["lr"] = lr * min(1, (i + 1) / 50)
        data, labels = batch(generator)
        now = loss(network, data, labels, generator)
        decay = min(0.98, (i + 1) / (i + 10))
        losses.append(step(network, average, optimizer, now, decay))
        if i + 1 in stops:
            yield i + 1, sum(losses) / len(losses), average
            losses = []
"""

RIGHT = [
    ("velocity_loss", LOSS),
    ("velocity_loss", """
        noise = torch.empty_like(data).normal_(generator=generator)
        t = logit_normal(data.shape[0], generator)
        lost = torch.rand(len(labels), generator=generator) < drop
        told = torch.where(lost, network.null_context, labels)
        at = t.view(-1, 1, 1, 1)
        x = (1 - at) * data + at * noise
        wanted = (x - data) / at.clamp(min=0.05)
        return F.mse_loss(velocity_of(network, predicts, x, t, told), wanted)
     """),
    ("velocity_loss", """
        told = drop_context(labels, network.null_context, drop, generator)
        t = logit_normal(len(data), generator)
        noise = torch.randn(data.shape, generator=generator)
        x = data + (noise - data) * t[:, None, None, None]
        answer = network(x, t, told)
        if predicts == "x0":
            error = (answer - data) / t.clamp(min=0.05)[:, None, None, None]
        else:
            error = answer - to_velocity(data, x, t)
        return (error**2).flatten(1).mean(1).mean()
     """),
    ("clipped_step", STEP),
    ("clipped_step", """
        for p in network.parameters():
            p.grad = None
        loss.backward()
        norm = torch.cat([p.grad.flatten() for p in network.parameters()]).norm()
        for p in network.parameters():
            p.grad *= min(1.0, 1.0 / (norm.item() + 1e-6))
        optimizer.step()
        for mean, weight in zip(average.parameters(), network.parameters()):
            mean.data = decay * mean.data + (1 - decay) * weight.data
        return loss.detach()
     """),
    ("race", RACE),
    ("race", """
        average = copy.deepcopy(network)
        for p in average.parameters():
            p.requires_grad = False
        optimizer = torch.optim.AdamW(network.parameters(), lr=lr, betas=[0.9, 0.95])
        rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: min(1, (i + 1) / 50))
        begin = 0
        for stop in stops:
            total = 0.0
            for i in range(begin, stop):
                now = loss(network, *batch(generator), generator)
                total += step(network, average, optimizer, now, min((i + 1) / (i + 10), 0.98))
                rate.step()
            yield stop, total / (stop - begin), average
            begin = stop
     """),
    ("race", RACE.replace("yield i + 1, sum(losses) / len(losses), average",
                          "laps.append((i + 1, sum(losses) / len(losses), copy.deepcopy(average)))")
     .replace("    losses = []\n    for", "    losses, laps = [], []\n    for") + "    return laps\n"),
]

WRONG = [
    *(("velocity_loss", said, changed(LOSS, *pairs)) for said, *pairs in [
        ("not the data's", "velocity_of(network, predicts, x, t, told)", "network(x, t, told)",
         "to_velocity(data, x, t)", "data"),
        ("turned into|velocity's", "velocity_of(network, predicts, x, t, told)", "network(x, t, told)"),
        ("not data - noise", "- to_velocity(", "+ to_velocity("),
        ("not at the noise", "to_velocity(data, x, t)", "noise"),
        ("not at the data", "to_velocity(data, x, t)", "data"),
        ("no label is dropped", "x, t, told)", "x, t, labels)"),
        ("changed places", "data, noise, t)", "noise, data, t)", "to_velocity(data, x, t)", "(noise - data)"),
        ("sees x", "said = velocity_of(network, predicts, x,", "said = velocity_of(network, predicts, data,",
         "to_velocity(data, x, t)", "(noise - data)"),
        ("logit-normal", "logit_normal(len(data), generator)",
         "(torch.rand(1, generator=generator) + torch.arange(len(data)) / len(data)) % 1"),
        ("not a sum", "square().mean()", "square().sum()"),
        ("root", "square().mean()", "square().mean().sqrt()"),
        ("absolute", "square().mean()", "abs().mean()"),
        ("square is missing", ".square()", ""),
        ("one number|for all", "square().mean()", "square().mean((1, 2, 3))"),
        ("global generator", "data.shape, generator=generator", "data.shape"),
        ("don't seed|another seed", "    t = logit", "    generator.manual_seed(3)\n    t = logit"),
        ("no gradient", "said = velocity_of(network, predicts, x, t, told)",
         "said = velocity_of(network, predicts, x, t, told).detach()"),
        ("graph", "square().mean()", "square().mean().item()"),
        ("", "drop, generator)", "0.1, generator)"),
        ("", "network.null_context", "10"),
        ("", "logit_normal(len(data), generator)", "logit_normal(1, generator).expand(len(data))"),
        ("asked once", "    said =", "    velocity_of(network, predicts, x, t, told)\n    said ="),
    ]),
    ("velocity_loss", "package's",
     "return arms.velocity_loss(network, predicts, data, labels, generator, drop)"),
    ("velocity_loss", "package's", "d = Denoiser(network, flow, predicts, times=logit_normal)\n"
     "return d.loss(data, labels, generator, drop=drop)['loss']"),
    *(("clipped_step", said, changed(STEP, *pairs)) for said, *pairs in [
        ("nothing is clipped", "    nn.utils.clip_grad_norm_(network.parameters(), 1.0)\n", ""),
        ("nothing is clipped",
         "    nn.utils.clip_grad_norm_(network.parameters(), 1.0)\n    optimizer.step()\n",
         "    optimizer.step()\n    nn.utils.clip_grad_norm_(network.parameters(), 1.0)\n"),
        ("nothing is clipped", "    loss.backward()\n    nn.utils.clip_grad_norm_(network.parameters(), 1.0)",
         "    nn.utils.clip_grad_norm_(network.parameters(), 1.0)\n    loss.backward()"),
        ("each number", "clip_grad_norm_", "clip_grad_value_"),
        ("each tensor's", "nn.utils.clip_grad_norm_(network.parameters(), 1.0)",
         "[nn.utils.clip_grad_norm_([p], 1.0) for p in network.parameters()]"),
        ("a tenth", "1.0)", "0.1)"),
        ("zero_grad", "    optimizer.zero_grad()\n", ""),
        ("stay as they were", "    optimizer.step()\n", ""),
        ("stay as they were", "    loss.backward()\n", "    optimizer.step()\n    loss.backward()\n",
         "1.0)\n    optimizer.step()\n", "1.0)\n"),
        ("average stays", "mean.lerp_(weight, 1 - decay)", "mean.lerp(weight, 1 - decay)"),
        ("moves that far", "1 - decay", "decay"),
        ("a copy", "mean.lerp_(weight, 1 - decay)", "mean.copy_(weight)"),
        ("not its average", "mean.lerp_(weight, 1 - decay)", "weight.lerp_(mean, 1 - decay)"),
        ("two steps", "    optimizer.step()\n", "    optimizer.step()\n    optimizer.step()\n"),
        ("graph", "loss.item()", "loss"),
        ("return the loss", "return loss.item()", "return"),
        ("is right|returned|off|factor", "loss.item()", "2 * loss.item()"),
    ]),
    *(("race", said, changed(RACE, *pairs)) for said, *pairs in [
        ("rises for 50", " * min(1, (i + 1) / 50)", ""),
        ("rate of 0", "min(1, (i + 1) / 50)", "min(1, i / 50)"),
        ("goes on to rise", "min(1, (i + 1) / 50)", "((i + 1) / 50)"),
        ("falls", "min(1, (i + 1) / 50)", "min(1, (i + 1) / 50) * (1 - i / stops[-1])"),
        ("learning rates|factor", "= lr * min", "= 3e-3 * min"),
        ("AdamW", "torch.optim.AdamW(", "torch.optim.Adam("),
        ("betas", ", betas=(0.9, 0.95)", ""),
        ("network's parameters", "network.parameters(), lr", "average.parameters(), lr"),
        ("a copy", "copy.deepcopy(network).requires_grad_(False)", "network"),
        ("no gradients", ".requires_grad_(False)", ""),
        ("same batch", "    for i in range(stops[-1]):", "    data, labels = batch(generator)\n"
         "    for i in range(stops[-1]):", "        data, labels = batch(generator)\n        now",
         "        now"),
        ("belong together", "data, labels = batch(generator)",
         "data, labels = batch(generator)[0], batch(generator)[1]"),
        ("not its average", "loss(network, data", "loss(average, data"),
        ("graph", "optimizer, now, decay", "optimizer, now.item(), decay"),
        ("once in each", "losses.append(step", "step(network, average, optimizer, now, decay)\n"
         "        losses.append(step"),
        ("once in each", "range(stops[-1])", "range(stops[-1] + 5)"),
        ("stays 0.98", "min(0.98, (i + 1) / (i + 10))", "0.98"),
        ("decay", "(i + 1) / (i + 10)", "i / (i + 9)"),
        ("beyond", "min(0.98, (i + 1) / (i + 10))", "(i + 1) / (i + 10)"),
        ("forgets its moments", "        optimizer.param_groups",
         "        optimizer = torch.optim.AdamW(network.parameters(), lr, betas=(0.9, 0.95))\n"
         "        optimizer.param_groups"),
        ("count steps from 1", "yield i + 1,", "yield i,"),
        ("laps come after|nothing", "if i + 1 in stops", "if i in stops"),
        ("laps come after|after every step", "if i + 1 in stops", "if i >= 0"),
        ("since the beginning|mean", "            losses = []\n", ""),
        ("last loss", "sum(losses) / len(losses)", "losses[-1]"),
        ("their sum", "sum(losses) / len(losses)", "sum(losses)"),
        ("its own steps", "sum(losses) / len(losses)", "sum(losses) / (i + 1)"),
        ("not the network", "len(losses), average", "len(losses), network"),
        ("yield .steps, mean loss, average.", "yield i + 1, sum(losses) / len(losses), average",
         "yield i + 1, average"),
    ]),
    ("race", "same weights", RACE.replace("yield i + 1, sum(losses) / len(losses), average",
     "laps.append((i + 1, sum(losses) / len(losses), average))")
     .replace("    losses = []\n    for", "    losses, laps = [], []\n    for") + "    return laps\n"),
    ("race", "package's", "return arms.race(network, loss, step, batch, stops, lr, generator)"),
    ("race", "yield", "return None"),
]



def student(name, body):
    """A race yields and has no return: `written` would take its body for an expression."""
    if name == "race":
        body = textwrap.dedent(body) + "\nif False:\n    return None"
    return written(name, body, HELPERS)


test_right_answers_pass, test_wrong_answers_are_told_what_is_wrong = right_and_wrong(
    RIGHT, WRONG, answer=student)
