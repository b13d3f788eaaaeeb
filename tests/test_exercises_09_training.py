"""Lesson 09's checks of training: right answers in any style pass; wrong ones hear why."""


import torch
from support.answers import changed, passes, right_and_wrong, written

from minildm.training.loop import TrainConfig, fit

HELPERS = {"fit": fit, "TrainConfig": TrainConfig}

LOSS = """
    t = times(len(data), generator)
    noise = torch.randn(data.shape, generator=generator)
    way = t.reshape(-1, *[1] * (data.ndim - 1))
    x_t, target = (1 - way) * data + way * noise, noise - data
    return (network(x_t, t) - target).square().mean()
"""
LOOP = """
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    losses = []
    for i in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - i / steps)
        value = loss(network, draw())
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses
"""


RIGHT = [
    ("flow_loss", LOSS),
    ("flow_loss", """
        noise = torch.randn(data.shape, generator=generator)
        t = times(len(data), generator)
        target = noise - data
        x_t = data + target * t.view([-1] + [1] * (data.ndim - 1))
        return F.mse_loss(network(x_t, t), target)
     """),
    ("flow_loss", """
        t = times(n=data.shape[0], generator=generator)
        noise = torch.empty(data.shape).normal_(generator=generator)
        error = torch.stack([network(torch.lerp(d, e, s)[None], s[None])[0] - e + d
                             for d, e, s in zip(data, noise, t)])
        return (error**2).sum() / error.numel()
     """),
    ("fit_network", LOOP),
    ("fit_network", """
        optimizer = torch.optim.AdamW(network.parameters(), lr=lr)
        falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: 1 - i / steps)
        losses = torch.empty(steps)
        for i in range(steps):
            optimizer.zero_grad(set_to_none=False)
            value = loss(network, draw())
            value.backward()
            optimizer.step()
            falling.step()
            losses[i] = value.detach()
        return losses
     """),
    ("fit_network", """
        weights = list(network.parameters())
        optimizer, losses = torch.optim.Adam(weights, lr, fused=True), []
        while len(losses) < steps:
            optimizer.param_groups[0]["lr"] = lr - lr * len(losses) / steps
            network.zero_grad()
            value = loss(network, draw())
            value.backward()
            optimizer.step()
            losses.append(value.detach())
        return losses
     """),
]

WRONG = [
    ("flow_loss", "a sum", changed(LOSS, (".mean()", ".sum()"))),
    ("flow_loss", "numbers of a picture", changed(LOSS, (".mean()", ".sum() / len(data)"))),
    ("flow_loss", "half", changed(LOSS, (".mean()", ".mean() / 2"))),
    ("flow_loss", "root", changed(LOSS, (".mean()", ".mean().sqrt()"))),
    ("flow_loss", "absolute", changed(LOSS, (".square()", ".abs()"))),
    ("flow_loss", "without the square", changed(LOSS, (".square()", ""))),
    ("flow_loss", "points to the data", changed(LOSS, ("noise - data\n", "data - noise\n"))),
    ("flow_loss", "not the noise", changed(LOSS, (", noise - data\n", ", noise\n"))),
    ("flow_loss", "not the data", changed(LOSS, (", noise - data\n", ", data\n"))),
    ("flow_loss", "shown the data", changed(LOSS, ("network(x_t", "network(data"))),
    ("flow_loss", "shown the noise", changed(LOSS, ("network(x_t", "network(noise"))),
    ("flow_loss", "told 1 - t", changed(LOSS, ("x_t, t)", "x_t, 1 - t)"))),
    ("flow_loss", "changed places",
     changed(LOSS, ("(1 - way) * data + way * noise", "way * data + (1 - way) * noise"))),
    ("flow_loss", "one time", changed(LOSS, ("times(len(data), generator)",
                                             "times(len(data), generator)[:1].expand(len(data))"))),
    ("flow_loss", "times are uniform", changed(LOSS, ("times(len(data), generator)",
                                                      "torch.rand(len(data), generator=generator)"))),
    ("flow_loss", "noise was drawn first", changed(
        LOSS, ("t = times(len(data), generator)\n    noise = torch.randn(data.shape, generator="
               "generator)", "noise = torch.randn(data.shape, generator=generator)\n"
               "    t = times(len(data), generator)"), (".mean()", ".sum()"))),
    ("flow_loss", "global", changed(LOSS, (", generator=generator)\n    way", ")\n    way"))),
    ("flow_loss", "no gradient", changed(LOSS, ("network(x_t, t)", "network(x_t, t).detach()"))),
    ("flow_loss", "another seed", changed(LOSS, ("\n    t =", "\n    generator.manual_seed(0)\n"
                                                 "    t ="))),
    ("flow_loss", "raised|shape|times", changed(LOSS, ("x_t, t)", "x_t, way)"))),
    ("flow_loss", "raised|wrong|should", changed(LOSS, ("way = t.reshape(-1, *[1] * (data.ndim - 1))",
                                                        "way = t[:, None]"))),
    ("flow_loss", "in place", changed(LOSS, ("x_t, target = (1 - way) * data",
                                             "data *= 2\n    x_t, target = (1 - way) * data"))),
    ("flow_loss", "wrong|should|shape|one number", changed(LOSS, (".mean()", ".mean(-1)"))),
    ("flow_loss", "return", changed(LOSS, ("return (", "found = ("), (".mean()", ".mean()\n    return"
                                                                      ))),
    ("fit_network", "add up", changed(LOOP, ("        optimizer.zero_grad()\n", ""))),
    ("fit_network", "stay as they were", changed(LOOP, ("        optimizer.step()\n", ""))),
    ("fit_network", "training mode", changed(
        LOOP, ("    losses = []", "    losses = []\n    network.eval()"))),
    ("fit_network", "stay as they were", changed(LOOP, ("        value.backward()\n", ""))),
    ("fit_network", "stay as they were", changed(
        LOOP, ("        value.backward()\n        optimizer.step()",
               "        optimizer.step()\n        value.backward()"))),
    ("fit_network", "stay as they were|deleted", changed(
        LOOP, ("        optimizer.zero_grad()\n        value.backward()",
               "        value.backward()\n        optimizer.zero_grad()"))),
    ("fit_network", "stays lr", changed(LOOP, ("lr * (1 - i / steps)", "lr"))),
    ("fit_network", "rises", changed(LOOP, ("lr * (1 - i / steps)", "lr * i / steps"))),
    ("fit_network", "rises", changed(LOOP, ("(1 - i / steps)", "(i + 1) / steps"))),
    ("fit_network", "one step late", changed(LOOP, ("1 - i / steps", "1 - (i + 1) / steps"))),
    ("fit_network", "not 0", changed(LOOP, ("1 - i / steps", "1 - i / (steps - 1)"))),
    ("fit_network", "1 / i", changed(LOOP, ("(1 - i / steps)", "(1 / (i + 1))"))),
    ("fit_network", "parabola", changed(LOOP, ("lr * (1", "group[\"lr\"] * (1"))),
    ("fit_network", "gradient descent", changed(LOOP, ("Adam(", "SGD("))),
    ("fit_network", "called 1 times", changed(LOOP, ("loss(network, draw())", "loss(network, batch)"),
                                         ("losses = []", "losses, batch = [], draw()"))),
    ("fit_network", "graphs", changed(LOOP, ("value.item()", "value"))),
    ("fit_network", "a list of", changed(LOOP, ("return losses", "return losses[-1]"))),
    ("fit_network", "a list of", changed(LOOP, ("range(steps)", "range(steps + 1)"))),
    ("fit_network", "this is None", changed(LOOP, ("return losses", "return"))),
    ("fit_network", "losses that are returned", changed(LOOP, ("value.item()", "value.item() / 2"))),
    ("fit_network", "called 12 times",
     changed(LOOP, ("loss(network, draw())", "loss(network, (draw(), draw())[0])"))),
    ("fit_network", "raised", changed(LOOP, ("loss(network, draw())", "loss(draw())"))),
    ("fit_network", "package's", """
        config = TrainConfig(steps, 7, lr)
        return fit(network, loss, (draw(),), config)["loss"]
     """),
]


test_right_answers_pass, test_wrong_answers_are_told_what_is_wrong = right_and_wrong(RIGHT, WRONG, HELPERS)


def test_a_loop_that_draws_from_no_generator_leaves_the_global_one_alone():
    before = torch.get_rng_state()
    passes("fit_network", written("fit_network", LOOP, HELPERS))
    assert torch.equal(before, torch.get_rng_state())
