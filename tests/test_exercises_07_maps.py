"""Lesson 07's checks of maps and drawing: right answers in any style pass; wrong ones are told why."""

from textwrap import dedent

from support.answers import changed, right_and_wrong, told

from minildm.course.exercises.lesson_07_maps import word_maps
from minildm.course.shapes import inside
from minildm.diffusion.samplers import ddim

HELPERS = {"word_maps": word_maps, "inside": inside, "ddim": ddim}
MAPS = """
    seen = torch.stack([network.ask1.attention.seen, network.ask2.attention.seen]).mean(0)
    side = round(seen.shape[1]**0.5)
    return seen.mT.unflatten(2, (side, side))
"""
DRAW = """
    x, maps = noise, []
    for t, s in zip(ts[:-1], ts[1:]):
        x0 = network(x, t, ids, said)
        maps.append(word_maps(network))
        eps = (x - schedule.alpha(t) * x0) / schedule.sigma(t)
        x = schedule.alpha(s) * x0 + schedule.sigma(s) * eps
    return x, torch.stack(maps).mean(0)
"""
POINTS = """
    best = maps.flatten(2).argmax(2).gather(1, columns)
    places = 2 * torch.stack([best % 8, best // 8], dim=2) + 1
    return inside(places, centres)
"""


RIGHT = [
    ("word_maps", MAPS),
    ("word_maps", """
        found = [m.seen for m in network.modules() if hasattr(m, "seen")]
        mean = sum(found) / len(found)
        side = math.isqrt(mean.shape[1])
        return mean.permute(0, 2, 1).reshape(len(mean), -1, side, side)
     """),
    ("draw_watched", DRAW),
    ("draw_watched", """
        x, total, n = noise.clone(), 0, len(ts) - 1
        for i in range(n):
            a, b = schedule.alpha(ts[i]), schedule.sigma(ts[i])
            x0 = network(x, ts[i], ids, said)
            total = total + word_maps(network)
            ratio = schedule.sigma(ts[i + 1]) / b
            x = ratio * x + (schedule.alpha(ts[i + 1]) - ratio * a) * x0
        return [x, total / n]
     """),
    ("points_at", POINTS),
    ("points_at", """
        picked = maps.gather(1, columns[..., None, None].expand(-1, -1, 8, 8))
        x = picked.amax(2).argmax(2) * 2 + 1
        y = picked.amax(3).argmax(2) * 2 + 1
        off = torch.stack([x, y], -1) - centres - 0.5
        return (off[..., 0].abs() <= 3.5) & (off[..., 1].abs() <= 3.5)
     """),
]

WRONG = [
    ("word_maps", "first block", changed(MAPS, "ask2", "ask1")),
    ("word_maps", "second block", changed(MAPS, "ask1", "ask2")),
    ("word_maps", "sum of both", changed(MAPS, ".mean(0)", ".sum(0)")),
    ("word_maps", "rows and columns", changed(MAPS, "(side, side))", "(side, side)).mT")),
    ("word_maps", "in one row", changed(MAPS, "seen.mT.unflatten(2, (side, side))", "seen.mT")),
    ("word_maps", "changed places", changed(MAPS, "seen.mT.unflatten(2, (side, side))", "seen")),
    ("word_maps", "words come last", changed(MAPS, "seen.mT.unflatten(2,", "seen.unflatten(1,")),
    ("word_maps", "swap the axes", changed(MAPS, "seen.mT.unflatten(2, (side, side))",
                                           "seen.reshape(len(seen), -1, side, side)")),
    ("word_maps", "raised|shape", changed(MAPS, "(side, side)", "(8, 8)")),
    ("word_maps", "mean over the batch", changed(MAPS, "(side, side))", "(side, side)).mean(0)")),
    ("word_maps", "their sum", changed(MAPS, "return seen.mT", "seen = seen / seen.sum(1, keepdim=True)"
                                       "\n    return seen.mT")),
    ("word_maps", "another map", """
        seen = network.ask1.attention.seen
        seen += network.ask2.attention.seen
        seen /= 2
        side = round(seen.shape[1]**0.5)
        return seen.mT.unflatten(2, (side, side))
     """),
    ("word_maps", "return", changed(MAPS, "return seen", "seen") + "    return"),
    ("draw_watched", "last guess|right for", changed(DRAW, "return x,", "return x0,")),
    ("draw_watched", "asked 2|asked 1|asked 3", changed(DRAW, "zip(ts[:-1], ts[1:])",
                                                        "list(zip(ts[:-1], ts[1:]))[:-1]")),
    ("draw_watched", "asked 6", changed(DRAW, "x0 = network", "network(x, t, ids)\n        x0 = network")),
    ("draw_watched", "last step alone", changed(DRAW, "torch.stack(maps).mean(0)", "maps[-1]")),
    ("draw_watched", "first step alone", changed(DRAW, "torch.stack(maps).mean(0)", "maps[0]")),
    ("draw_watched", "sum over", changed(DRAW, ".mean(0)", ".sum(0)")),
    ("draw_watched", "mean is wanted", changed(DRAW, ".mean(0)", "")),
    ("draw_watched", "left aside", changed(DRAW, "ids, said)", "ids)")),
    ("draw_watched", "changed places", changed(DRAW, "ids, said)", "ids if said is None else said, ids)")),
    ("draw_watched", "of t, not of s", changed(DRAW, "schedule.sigma(s)", "schedule.sigma(t)")),
    ("draw_watched", "is not eps", changed(DRAW, "schedule.sigma(s) * eps", "schedule.sigma(s) * x")),
    ("draw_watched", "no clamp", changed(DRAW, "ids, said)", "ids, said).clamp(-1, 1)")),
    ("draw_watched", "gradients switched off", "torch.set_grad_enabled(False)\n" + dedent(DRAW)),
    ("draw_watched", "two things", changed(DRAW, ", torch.stack(maps).mean(0)", "")),
    ("draw_watched", "in place", changed(DRAW, "x = schedule.alpha(s) * x0", "x.mul_(0)\n        x = "
                                         "schedule.alpha(s) * x0")),
    ("draw_watched", "return", changed(DRAW, "return x, torch.stack(maps).mean(0)", "return")),
    ("points_at", "columns are x", changed(POINTS, "best % 8, best // 8", "best // 8, best % 8")),
    ("points_at", "2 pixels wide", changed(POINTS, "2 * torch.stack([best % 8, best // 8], dim=2) + 1",
                                           "torch.stack([best % 8, best // 8], dim=2)")),
    ("points_at", "one pixel further", changed(POINTS, "dim=2) + 1", "dim=2)")),
    ("points_at", "middle of a cell", changed(POINTS, "dim=2) + 1", "dim=2) + 2")),
    ("points_at", "downwards", changed(POINTS, "best // 8]", "7 - best // 8]")),
    ("points_at", "hits and misses", changed(POINTS, "return inside", "return ~inside")),
    ("points_at", "least", changed(POINTS, "argmax", "argmin")),
    ("points_at", "type", changed(POINTS, "inside(places, centres)", "inside(places, centres).float()")),
    ("points_at", "raised|shape", changed(POINTS, ".gather(1, columns)", "")),
    ("points_at", "return", changed(POINTS, "return inside(places, centres)", "return")),
]

test_right_answers_pass, test_wrong_answers_are_told_what_is_wrong = right_and_wrong(RIGHT, WRONG, HELPERS)


def test_the_packages_sampler_is_nobodys_answer():
    def answer(network, schedule, noise, ts, ids, said=None):
        return ddim(network, schedule, noise, ts)

    assert "write yours" in told("draw_watched", answer)
