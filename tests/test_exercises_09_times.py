"""Lesson 09's check of training times: right answers in any style pass; wrong ones hear why."""


import numpy as np
from support.answers import right_and_wrong

HELPERS = {"np": np}


def normal(of="m + s * z", squash="torch.sigmoid({})"):
    return f"z = torch.randn(n, generator=generator)\nreturn {squash.format(of)}"


RIGHT = [
    ("shifted_logit_normal", normal()),
    ("shifted_logit_normal", normal(squash="1 / (1 + torch.exp(-({})))")),
    ("shifted_logit_normal", "torch.normal(m, s, (n,), generator=generator).sigmoid()"),
    ("shifted_logit_normal", "torch.empty(n).normal_(m, s, generator=generator).sigmoid()"),
    ("shifted_logit_normal", """
        u = torch.rand(n, dtype=torch.float64, generator=generator)
        return torch.sigmoid(m + s * torch.special.ndtri(u)).float()
     """),
    ("shifted_logit_normal", """
        z = [torch.randn(1, generator=generator).item() for _ in range(n)]
        return torch.sigmoid(m + s * torch.tensor(z))
     """),
    ("shifted_logit_normal", """
        z = torch.randn(n, generator=generator, dtype=torch.double)
        return (m + s * z).sigmoid().to(torch.float32)
     """),
]

WRONG = [
    ("shifted_logit_normal", "m and s changed", normal("s + m * z")),
    ("shifted_logit_normal", "m moves the normal", normal("s * z", "m + torch.sigmoid({})")),
    ("shifted_logit_normal", "m and s move", normal("z", "m + s * torch.sigmoid({})")),
    ("shifted_logit_normal", "its sigmoid is wanted", normal(squash="{}")),
    ("shifted_logit_normal", "not the mean", normal("s * (m + z)")),
    ("shifted_logit_normal", "doesn't divide", normal("m + z / s")),
    ("shifted_logit_normal", "they go in", normal("(z - m) / s")),
    ("shifted_logit_normal", "not subtracted", normal("s * z - m")),
    ("shifted_logit_normal", "mean m is missing", normal("s * z")),
    ("shifted_logit_normal", "deviation s is missing", normal("m + z")),
    ("shifted_logit_normal", "clipped", normal(squash="({}).clamp(0, 1)")),
    ("shifted_logit_normal", "not the variance", normal("m + s**0.5 * z")),
    ("shifted_logit_normal", "not squared", normal("m + s**2 * z")),
    ("shifted_logit_normal", "its logarithm", normal("m + math.exp(s) * z")),
    ("shifted_logit_normal", "uniform ones", normal().replace("randn", "rand")),
    ("shifted_logit_normal", "uniform times", "torch.rand(n, generator=generator)"),
    ("shifted_logit_normal", "tanh", normal(squash="torch.tanh({})")),
    ("shifted_logit_normal", "softmax", normal(squash="({}).softmax(0)")),
    ("shifted_logit_normal", "not exp", normal(squash="torch.exp({})")),
    ("shifted_logit_normal", "sign of the sigmoid", normal("-(m + s * z)")),
    ("shifted_logit_normal", "global generator", "torch.sigmoid(m + s * torch.randn(n))"),
    ("shifted_logit_normal", "one seed, two",
     "torch.sigmoid(m + s * torch.tensor(np.random.standard_normal(n)).float())"),
    ("shifted_logit_normal", "another seed", "generator.manual_seed(0)\n" + normal()),
    ("shifted_logit_normal", "all times are one",
     "torch.sigmoid(m + s * torch.randn(1, generator=generator)).expand(n)"),
    ("shifted_logit_normal", "shape",
     "torch.sigmoid(m + s * torch.randn(1, generator=generator))"),
    ("shifted_logit_normal", "axis of length 1|shape",
     "torch.sigmoid(m + s * torch.randn(n, 1, generator=generator))"),
    ("shifted_logit_normal", "mean|between",
     "torch.sigmoid(0.5 + 2 * torch.randn(n, generator=generator)) + 1e-3"),
    ("shifted_logit_normal", "have mean 0.48",
     "torch.sigmoid(0.5 + 2 * torch.randn(n, generator=generator))"),
    ("shifted_logit_normal", "have mean|between", """
        u = torch.rand(n, generator=generator)
        return torch.sigmoid(m + s * (u / (1 - u)).log())
     """),
    ("shifted_logit_normal", "between 0 and 1",
     "m + s * torch.randn(n, generator=generator, dtype=torch.double).float()"),
    ("shifted_logit_normal", "type", normal() + ".double()"),
    ("shifted_logit_normal", "list", normal() + ".tolist()"),
    ("shifted_logit_normal", "return", normal().replace("return", "t =") + "\nreturn"),
]


test_right_answers_pass, test_wrong_answers_are_told_what_is_wrong = right_and_wrong(RIGHT, WRONG, HELPERS)
