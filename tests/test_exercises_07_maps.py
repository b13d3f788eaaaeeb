"""Lesson 07's checks of maps: right answers in any style pass; wrong ones are told why."""


from support.answers import right_and_wrong, told

from minildm.data.scenes import centre_of_mass
from minildm.nn.attention_maps import mean_attention_map

MEAN = """
    weights = torch.stack([w for calls in recorded.values() for w in calls]).mean(0)
    side = round(weights.shape[1]**0.5)
"""
SUMS = """
    i, total = torch.arange(mass.shape[-1]), mass.sum((1, 2))
    x, y = (mass.sum(1) * i).sum(1), (mass.sum(2) * i).sum(1)
"""

RIGHT = [
    ("word_map", MEAN + "    return weights[..., token].unflatten(1, (side, side))"),
    ("word_map", """
        total, count = 0, 0
        for name, calls in recorded.items():
            for weights in calls:
                total, count = total + weights[:, :, token].double(), count + 1
        side = math.isqrt(total.shape[1])
        return (total / count).float().view(len(total), side, side)
     """),
    ("word_map", """
        layers = [sum(calls) / len(calls) for calls in recorded.values()]
        picked = (sum(layers) / len(layers)).select(2, token)
        side = int(picked.shape[-1]**0.5)
        return picked.reshape(-1, side, side)
     """),
    ("centre", SUMS + "    return torch.stack([x / total, y / total], 1)"),
    ("centre", """
        i = torch.arange(8.0)
        total = mass.sum((1, 2))
        x, y = (mass * i).sum((1, 2)) / total, (mass * i[:, None]).sum((1, 2)) / total
        return torch.cat([x[:, None], y[:, None]], dim=1)
     """),
    ("centre", """
        share = mass.double() / mass.double().sum((1, 2), keepdim=True)
        y, x = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
        places = torch.stack([x, y], -1).double()
        return torch.einsum("byx,yxd->bd", share, places).float()
     """),
    ("centre", """
        centres = []
        for one in mass:
            x = sum(j * one[:, j].sum() for j in range(8)) / one.sum()
            y = sum(i * one[i].sum() for i in range(8)) / one.sum()
            centres.append(torch.stack([x, y]))
        return torch.stack(centres)
     """),
]

WRONG = [
    ("word_map", "last call of the last", """
        for calls in recorded.values():
            for w in calls:
                side = round(w.shape[1]**0.5)
        return w[..., token].unflatten(1, (side, side))
     """),
    ("word_map", "first call alone", """
        w = list(recorded.values())[0][0]
        side = round(w.shape[1]**0.5)
        return w[..., token].unflatten(1, (side, side))
     """),
    ("word_map", "last layer alone", """
        for calls in recorded.values():
            w = torch.stack(calls).mean(0)
        side = round(w.shape[1]**0.5)
        return w[..., token].unflatten(1, (side, side))
     """),
    ("word_map", "last call:|last call", """
        w = torch.stack([calls[-1] for calls in recorded.values()]).mean(0)
        side = round(w.shape[1]**0.5)
        return w[..., token].unflatten(1, (side, side))
     """),
    ("word_map", "sum over calls and", MEAN.replace("mean(0)", "sum(0)")
     + "    return weights[..., token].unflatten(1, (side, side))"),
    ("word_map", "sum over the layers", """
        w = sum(torch.stack(calls).mean(0) for calls in recorded.values())
        side = round(w.shape[1]**0.5)
        return w[..., token].unflatten(1, (side, side))
     """),
    ("word_map", "largest", MEAN.replace("mean(0)", "amax(0)")
     + "    return weights[..., token].unflatten(1, (side, side))"),
    ("word_map", "changed places",
     MEAN + "    return weights[..., token].unflatten(1, (side, side)).mT"),
    ("word_map", "token before",
     MEAN + "    return weights[..., token - 1].unflatten(1, (side, side))"),
    ("word_map", "token after",
     MEAN + "    return weights[..., token + 1].unflatten(1, (side, side))"),
    ("word_map", "over all tokens",
     MEAN + "    return weights.mean(-1).unflatten(1, (side, side))"),
    ("word_map", "one row", MEAN + "    return weights[..., token]"),
    ("word_map", "raised|shape", MEAN
     + "    return weights[..., token].view(len(recorded), side, side)"),
    ("word_map", "raised|shape", MEAN + "    return weights[:, token].unflatten(1, (side, side))"),
    ("word_map", "raised|right for the first",
     MEAN + "    return weights[..., token].view(-1, 4, 4)"),
    ("word_map", "raised|right for the first|not for",
     MEAN + "    return weights[..., token].view(2, side, side)"),
    ("word_map", "by their sum", MEAN + """
    picture = weights[..., token].unflatten(1, (side, side))
    return picture / picture.sum((1, 2), keepdim=True)"""),
    ("word_map", "by their largest", MEAN + """
    picture = weights[..., token].unflatten(1, (side, side))
    return picture / picture.amax((1, 2), keepdim=True)"""),
    ("word_map", "over the batch",
     MEAN + "    return weights[..., token].mean(0).view(side, side)"),
    ("word_map", "shape", MEAN + "    return weights[0, :, token].view(side, side)"),
    ("word_map", "taken already",
     MEAN + "    return weights.softmax(-1)[..., token].unflatten(1, (side, side))"),
    ("word_map", "raised KeyError", "recorded['a'][0][..., token]"),
    ("word_map", "return", MEAN + "    weights[..., token].unflatten(1, (side, side))\n    return"),
    ("word_map", "in place", """
        total = 0
        for calls in recorded.values():
            while calls:
                total = total + calls.pop()
        return total
     """),
    ("centre", "x and y changed", SUMS + "    return torch.stack([y / total, x / total], 1)"),
    ("centre", "divide by the whole mass", SUMS + "    return torch.stack([x, y], 1)"),
    ("centre", "whole batch", SUMS + "    return torch.stack([x, y], 1) / mass.sum()"),
    ("centre", "not by the number", SUMS + "    return torch.stack([x, y], 1) / 64"),
    ("centre", "not by its mean",
     SUMS + "    return torch.stack([x, y], 1) / mass.mean((1, 2))[:, None]"),
    ("centre", "not by the side", SUMS + "    return torch.stack([x, y], 1) / 8"),
    ("centre", "peak", "at = mass.flatten(1).argmax(1)\n"
                       "return torch.stack([at % 8, at // 8], 1).float()"),
    ("centre", "half a square", SUMS + "    return torch.stack([x, y], 1) / total[:, None] + 0.5"),
    ("centre", "begin at 1", SUMS.replace("shape[-1])", "shape[-1]) + 1")
     + "    return torch.stack([x, y], 1) / total[:, None]"),
    ("centre", "not 0 ... 1",
     SUMS.replace("torch.arange(mass.shape[-1])", "torch.linspace(0, 1, 8)")
     + "    return torch.stack([x, y], 1) / total[:, None]"),
    ("centre", "not -1 ... 1",
     SUMS.replace("torch.arange(mass.shape[-1])", "torch.linspace(-1, 1, 8)")
     + "    return torch.stack([x, y], 1) / total[:, None]"),
    ("centre", "downwards", SUMS + "    return torch.stack([x / total, 7 - y / total], 1)"),
    ("centre", "middle", "torch.full((len(mass), 2), 3.5)"),
    ("centre", "above the mean|rises", """
        m = (mass - mass.mean((1, 2), keepdim=True)).clamp(min=0)
        i, total = torch.arange(8), m.sum((1, 2))
        return torch.stack([(m.sum(1) * i).sum(1) / total, (m.sum(2) * i).sum(1) / total], 1)
     """),
    ("centre", "axes have changed|\\(B, 2\\)",
     SUMS + "    return torch.stack([x / total, y / total])"),
    ("centre", "fraction", SUMS + "    return torch.stack([x, y], 1) // total[:, None]"),
    ("centre", "whole numbers|fraction|type",
     SUMS + "    return (torch.stack([x, y], 1) / total[:, None]).long()"),
    ("centre", "no softmax", """
        m = mass.flatten(1).softmax(1).view_as(mass)
        i = torch.arange(8)
        return torch.stack([(m.sum(1) * i).sum(1), (m.sum(2) * i).sum(1)], 1)
     """),
    ("centre", "raised|wrong", SUMS + "    return torch.stack([x, y], 1) / total"),
    ("centre", "shape", SUMS + "    return x / total"),
    ("centre", "in place", "mass /= mass.sum((1, 2), keepdim=True)\n" + SUMS.replace("    ", "")
     + "return torch.stack([x, y], 1)"),
    ("centre", "tuple", SUMS + "    return x / total, y / total"),
]


test_right_answers_pass, test_wrong_answers_are_told_what_is_wrong = right_and_wrong(RIGHT, WRONG)


def test_the_packages_functions_are_nobodys_answer():
    assert "write yours" in told("word_map", lambda recorded, token: mean_attention_map(recorded)[:, token])
    assert "write yours" in told("centre", lambda mass: centre_of_mass(mass) - 0.5)
