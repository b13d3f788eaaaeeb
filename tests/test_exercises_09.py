"""Lesson 09's checks: right answers in any style pass; wrong ones are told what is wrong."""


from support.answers import right_and_wrong

from minildm.diffusion.denoiser import on_schedule
from minildm.diffusion.schedules import at_ratio

HELPERS = {"at_ratio": at_ratio, "on_schedule": on_schedule}

T = "    t = t.reshape(-1, *[1] * (data.ndim - 1))\n"


def paired(place="(1 - t) * data + t * noise", line="noise - data"):
    return T + f"    return torch.stack([{place}, {line}])"


def moved(x, t):
    """A denoiser of another schedule that asks its own for this x at this time."""
    return f"""
    def moved(x, t):
        at = at_ratio(own, other.sigma(t) / other.alpha(t))
        return denoise({x}, {t})
    return moved
    """


MOVED = moved("own.sigma(at) / other.sigma(t) * x", "at")

RIGHT = [
    ("flow_pair", paired()),
    ("flow_pair", """
        t = t.view(len(t), *([1] * len(data.shape[1:])))
        return torch.stack((torch.lerp(data, noise, t), noise - data), dim=0)
     """),
    ("flow_pair", """
        target = noise.double() - data.double()
        x_t = data + torch.einsum("b,b...->b...", t.double(), target)
        return torch.cat([x_t[None], target[None]]).float()
     """),
    ("flow_pair", """
        out = torch.empty(2, *data.shape)
        for b in range(len(data)):
            out[0, b] = (1 - t[b]) * data[b] + t[b] * noise[b]
            out[1, b] = noise[b] - data[b]
        return out
     """),
    ("from_theirs", "lambda x, t: x + t * network(x, 1 - t)"),
    ("from_theirs", """
        def denoise(x, t):
            velocity = -network(z=x, s=1 - t)
            return x - t * velocity
        return denoise
     """),
    ("from_theirs", """
        def denoise(x, t):
            s = 1 - torch.as_tensor(t).expand(len(x))
            way = (1 - s).reshape(-1, *[1] * (x.ndim - 1))
            return x + way * network(x, s)
        return denoise
     """),
    ("on_schedule", MOVED),
    ("on_schedule", """
        def moved(x, t):
            ratio = other.sigma(t) / other.alpha(t)
            at = at_ratio(own, ratio)
            factor = (own.alpha(at) + own.sigma(at)) / (other.alpha(t) + other.sigma(t))
            return denoise(factor * x, at)
        return moved
     """),
    ("on_schedule", """
        def moved(x, t):
            early, late = torch.zeros(()), torch.ones(())
            for _ in range(40):
                at = (early + late) / 2
                above = own.sigma(at) * other.alpha(t) > other.sigma(t) * own.alpha(at)
                early, late = (early, at) if above else (at, late)
            return denoise(x / other.sigma(t) * own.sigma(late), late)
        return moved
     """),
]

WRONG = [
    ("flow_pair", "points to the data", paired(line="data - noise")),
    ("flow_pair", "data and noise changed", paired("(1 - t) * noise + t * data", "data - noise")),
    ("flow_pair", "t = 0 is data", paired("(1 - t) * noise + t * data")),
    ("flow_pair", "cosine",
     paired("(t * torch.pi / 2).cos() * data + (t * torch.pi / 2).sin() * noise")),
    ("flow_pair", "is an arc", paired("(1 - t**2).sqrt() * data + t * noise")),
    ("flow_pair", "data isn't scaled", paired("data + t * noise")),
    ("flow_pair", "noise isn't scaled", paired("(1 - t) * data + noise")),
    ("flow_pair", "leads to the noise", paired("data - t * (noise - data)")),
    ("flow_pair", "starts from the noise", paired("noise + t * (noise - data)")),
    ("flow_pair", "not noise$|not noise", paired(line="noise")),
    ("flow_pair", "not data$|not data", paired(line="data")),
    ("flow_pair", "noise - x_t", paired(line="noise - ((1 - t) * data + t * noise)")),
    ("flow_pair", "not t times that", paired(line="t * (noise - data)")),
    ("flow_pair", "their sum", paired(line="noise + data")),
    ("flow_pair", "v-prediction", paired(line="(1 - t) * noise - t * data")),
    ("flow_pair", "x_t comes first", T + """
    return torch.stack([noise - data, (1 - t) * data + t * noise])"""),
    ("flow_pair", "side by side|right order", T + """
    return torch.cat([(1 - t) * data + t * noise, noise - data])"""),
    ("flow_pair", "second", T + """
    return torch.stack([(1 - t) * data + t * noise, noise - data], 1)"""),
    ("flow_pair", "x_t alone", T + "    return (1 - t) * data + t * noise"),
    ("flow_pair", "tuple", T + "    return (1 - t) * data + t * noise, noise - data"),
    ("flow_pair", "first one's", "    t = t[:1]\n" + paired()),
    ("flow_pair", "raised", "torch.stack([(1 - t) * data + t * noise, noise - data])"),
    ("flow_pair", "raised", paired().replace("t.reshape(-1, *[1] * (data.ndim - 1))", "t[:, None]")),
    ("flow_pair", "raised|shape",
     paired().replace("t.reshape(-1, *[1] * (data.ndim - 1))", "t[None, :, None, None]")),
    ("flow_pair", "in place", "noise -= data\n" + "t = t.reshape(-1, *[1] * (data.ndim - 1))\n"
     "return torch.stack([data + t * noise, noise])"),
    ("flow_pair", "type", paired().replace("t.reshape", "t.double().reshape")),
    ("flow_pair", "return", paired() .replace("    return", "    pair =") + "\n    return"),
    ("from_theirs", "sign is wrong", "lambda x, t: x - t * network(x, 1 - t)"),
    ("from_theirs", "its own time", "lambda x, t: x + t * network(x, t)"),
    ("from_theirs", "and it points", "lambda x, t: x - t * network(x, t)"),
    ("from_theirs", "and the way", "lambda x, t: x + (1 - t) * network(x, t)"),
    ("from_theirs", "t long, not 1 - t", "lambda x, t: x + (1 - t) * network(x, 1 - t)"),
    ("from_theirs", "t long, not 1 \\(|t long, not 1$", "lambda x, t: x + network(x, 1 - t)"),
    ("from_theirs", "and theirs points", "lambda x, t: x - network(x, 1 - t)"),
    ("from_theirs", "says, not x0", "lambda x, t: network(x, 1 - t)"),
    ("from_theirs", "at another time", "network"),
    ("from_theirs", "our velocity", "lambda x, t: -network(x, 1 - t)"),
    ("from_theirs", "the noise, not", "lambda x, t: x - (1 - t) * network(x, 1 - t)"),
    ("from_theirs", "starts at x", "lambda x, t: t * network(x, 1 - t)"),
    ("from_theirs", "x isn't scaled", "lambda x, t: (1 - t) * x + t * network(x, 1 - t)"),
    ("from_theirs", "not 1 / t", "lambda x, t: x + network(x, 1 - t) / t"),
    ("from_theirs", "not -t", "lambda x, t: x + t * network(x, -t)"),
    ("from_theirs", "divided by 1", "lambda x, t: (x + t * network(x, 1 - t)) / (1 - t)"),
    ("from_theirs", "noisy points z first", "lambda x, t: x + t * network(1 - t, x)"),
    ("from_theirs", "return a function", "network(torch.zeros(4, 2), 0.5)"),
    ("from_theirs", "takes \\(x\\)", "lambda x: x + 0.5 * network(x, 0.5)"),
    ("from_theirs", "should be|wrong", "lambda x, t: x + 0.3 * network(x, 0.7)"),
    ("from_theirs", "in place", """
        def denoise(x, t):
            x += t * network(x, 1 - t)
            return x
        return denoise
     """),
    ("from_theirs", "type", "lambda x, t: (x + t * network(x, 1 - t)).double()"),
    ("from_theirs", "return", "def denoise(x, t):\n    x + t * network(x, 1 - t)\nreturn denoise"),
    ("on_schedule", "isn't scaled: where", moved("x", "at")),
    ("on_schedule", "at its own time", moved("own.sigma(at) / other.sigma(t) * x", "t")),
    ("on_schedule", "nothing has changed", moved("x", "t")),
    ("on_schedule", "upside down", moved("other.sigma(t) / own.sigma(at) * x", "at")),
    ("on_schedule", "own alpha is missing", moved("x / other.alpha(t)", "at")),
    ("on_schedule", "alpha times it", moved("own.alpha(at) * x", "at")),
    ("on_schedule", "one scale", MOVED.replace("return denoise(", "return own.sigma(at)**-1"
                                               " * other.sigma(t) * denoise(")),
    ("on_schedule", "not alpha / sigma",
     MOVED.replace("other.sigma(t) / other.alpha(t))", "other.alpha(t) / other.sigma(t))")),
    ("on_schedule", "right for the first inputs|NaN|inf",
     moved("own.alpha(at) / other.alpha(t) * x", "at")),
    ("on_schedule", "return a function", "denoise(torch.zeros(3, 2), torch.tensor(0.5))"),
    ("on_schedule", "own alpha is missing", """
        return lambda x, t: denoise((1 + 0 * t) * x / (1 - t).clamp(min=1e-6), at_ratio(
            own, t / (1 - t)))
     """),
    ("on_schedule", "in place", MOVED.replace("at = at", "x *= 1.5\n        at = at")),
    ("on_schedule", "package's", "on_schedule(denoise, own, other)"),
    ("on_schedule", "return", MOVED.replace("return moved", "moved")),
]


test_right_answers_pass, test_wrong_answers_are_told_what_is_wrong = right_and_wrong(RIGHT, WRONG, HELPERS)
