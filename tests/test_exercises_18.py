"""Lesson 18's checks take right answers in any style and tell wrong ones what is wrong."""

import pytest
from support.answers import IMPORTED, changed, passes, right_and_wrong, told
from support.modules import class_of

from minildm.nn import video
from minildm.nn.layers import GELU, Attention, FeedForward

FOLD = """
i = torch.arange(points.shape[1])[:, None]
s = start[:, None] + velocity[:, None] * i
span = high - low
phase = (s - low) % (2 * span)
path = low + torch.minimum(phase, 2 * span - phase)
return (points - path).norm(dim=-1)
"""
NOISE = """
common = torch.randn(shape[0], 1, *shape[2:], generator=generator)
own = torch.randn(shape, generator=generator)
return share ** 0.5 * common + (1 - share) ** 0.5 * own
"""
TO = """
n, c, height, width = h.shape
return h.reshape(-1, frames, c, height, width).permute(0, 3, 4, 1, 2).reshape(-1, frames, c)
"""
FROM = """
n, c, height, width = like.shape
f = tokens.shape[1]
return tokens.reshape(-1, height, width, f, c).permute(0, 3, 4, 1, 2).reshape(n, c, height, width)
"""
STEP = """
times = t[:, None].repeat(1, films.shape[1])
times[given, :2] = 0
at = times[..., None, None, None]
velocity = network((1 - at) * films + at * noise, times, words)
error = (velocity - (noise - films)).square().mean((2, 3, 4))
counts = (times > 0).float()
loss = (error * counts).sum() / counts.sum()
optimizer.zero_grad()
loss.backward()
optimizer.step()
return loss.item()
"""
GIVEN = """
k = known.shape[1]
def denoise(x, t, words):
    x = torch.cat([known, x[:, k:]], 1)
    times = torch.zeros(x.shape[:2])
    times[:, k:] = t
    x0 = x - times[..., None, None, None] * network(x, times, words)
    return torch.cat([known, x0[:, k:]], 1)
return denoise
"""


RIGHT = [
    ("path_distances", FOLD),
    ("path_distances", changed(FOLD, ("torch.minimum(phase, 2 * span - phase)",
                                      "span - (phase - span).abs()"))),
    ("path_distances", changed(FOLD, (".norm(dim=-1)", ".square().sum(-1).sqrt()"))),
    ("film_noise", NOISE),
    ("film_noise", """
own = torch.randn(shape, generator=generator)
common = torch.randn((shape[0], 1) + tuple(shape[2:]), generator=generator)
return own * math.sqrt(1 - share) + common * math.sqrt(share)
"""),
    ("to_time", TO),
    ("to_time", """
maps = h.unflatten(0, (-1, frames)).flatten(3)          # (B, F, C, P)
return torch.einsum("bfcp->bpfc", maps).flatten(0, 1)
"""),
    ("from_time", FROM),
    ("from_time", """
b = len(tokens) // (like.shape[2] * like.shape[3])
return tokens.unflatten(0, (b, -1)).movedim(1, -1).reshape(like.shape)
"""),
    ("train_step_of_films", STEP),
    ("train_step_of_films", changed(STEP, ("times = t[:, None].repeat(1, films.shape[1])",
                                           "times = t[:, None].expand(films.shape[:2]).clone()"),
                                    ("loss = (error * counts).sum() / counts.sum()",
                                     "loss = error[times > 0].mean()"))),
    ("train_step_of_films", changed(STEP, ("optimizer.zero_grad()", "network.zero_grad()"),
                                    ("return loss.item()", "return float(loss)"))),
    ("continued", GIVEN),
    ("continued", changed(GIVEN, ("x = torch.cat([known, x[:, k:]], 1)",
                                  "x = x.clone()\n    x[:, :k] = known"))),
]
WRONG = [
    ("path_distances", "straight on", changed(FOLD, ("low + torch.minimum(phase, 2 * span - phase)",
                                                     "s"))),
    ("path_distances", "stops at the wall", changed(
        FOLD, ("low + torch.minimum(phase, 2 * span - phase)", "s.clamp(low, high)"))),
    ("path_distances", "jumps", changed(
        FOLD, ("low + torch.minimum(phase, 2 * span - phase)", "low + (s - low) % span"))),
    ("path_distances", "first frame is i = 0", changed(FOLD, ("[:, None]\ns", "[:, None] + 1\ns"))),
    ("path_distances", "low is not always 0", changed(FOLD, ("s - low", "s"),
                                                      ("low + torch", "torch"))),
    ("path_distances", "not always 9 and 23", "low, high = 9.0, 23.0" + FOLD),
    ("path_distances", "a root", changed(FOLD, (".norm(dim=-1)", ".square().sum(-1)"))),
    ("path_distances", "not their sum", changed(FOLD, (".norm(dim=-1)", ".abs().sum(-1)"))),
    ("path_distances", "does not move", changed(FOLD, (" * i", " * 0"))),
    ("path_distances", "averaged", changed(FOLD, (".norm(dim=-1)", ".norm(dim=-1).mean(1)"))),
    ("film_noise", "its root", changed(NOISE, ("share ** 0.5", "share"),
                                       ("(1 - share) ** 0.5", "(1 - share)"))),
    ("film_noise", "changed places", changed(NOISE, ("share ** 0.5 * common", "share ** 0.5 * own"),
                                             ("** 0.5 * own\n", "** 0.5 * common\n"),
                                             ("share ** 0.5 * own +", "share ** 0.5 * own +"))),
    ("film_noise", "part of its own", changed(NOISE, ("+ (1 - share) ** 0.5 * own", "+ 0 * own"),
                                              ("share ** 0.5 * common", "common"))),
    ("film_noise", "nothing in common", "torch.randn(shape, generator=generator)"),
    ("film_noise", "variance above 1", "\ncommon = torch.randn(shape[0], 1, *shape[2:], "
     "generator=generator)\nreturn common + torch.randn(shape, generator=generator)"),
    ("film_noise", "global generator|one seed", changed(NOISE, (", generator=generator", ""))),
    ("film_noise", ".", changed(NOISE, ("shape[0], 1,", "1, 1,"))),
    ("to_time", "permute first", "h.reshape(-1, frames, h.shape[1])"),
    ("to_time", "inner part", """
n, c, height, width = h.shape
return h.reshape(frames, -1, c, height, width).permute(1, 3, 4, 0, 2).reshape(-1, frames, c)
"""),
    ("to_time", "rows come before", changed(TO, ("permute(0, 3, 4, 1, 2)",
                                                 "permute(0, 4, 3, 1, 2)"))),
    ("to_time", "frames of a position", changed(TO, ("permute(0, 3, 4, 1, 2)",
                                                     "permute(0, 1, 3, 4, 2)"))),
    ("from_time", "permute back", "tokens.reshape(like.shape)"),
    ("from_time", "shape alone", changed(FROM, (
        "reshape(n, c, height, width)", "reshape(n, c, height, width) + like"))),
    ("from_time", "films before frames", changed(FROM, ("permute(0, 3, 4, 1, 2)",
                                                        "permute(3, 0, 4, 1, 2)"))),
    ("from_time", "channels come before rows", changed(FROM, ("permute(0, 3, 4, 1, 2)",
                                                              "permute(0, 3, 1, 2, 4)"))),
    ("train_step_of_films", "do not count", changed(STEP, ("(times > 0).float()",
                                                           "torch.ones(times.shape)"))),
    ("train_step_of_films", "frames that count", changed(
        STEP, ("(error * counts).sum() / counts.sum()", "(error * counts).mean()"))),
    ("train_step_of_films", "noise - films, not films", changed(STEP, ("(noise - films)",
                                                                       "(films - noise)"))),
    ("train_step_of_films", "not the noise", changed(STEP, ("(noise - films)", "noise"))),
    ("train_step_of_films", "at t = 1 all is noise", changed(
        STEP, ("(1 - at) * films + at * noise", "at * films + (1 - at) * noise"))),
    ("train_step_of_films", "not the last", changed(STEP, ("times[given, :2]",
                                                           "times[given, -2:]"))),
    ("train_step_of_films", "are not given", changed(STEP, ("times[given, :2] = 0\n", ""))),
    ("train_step_of_films", "the network is told", changed(
        STEP, ("times, words)", "t[:, None].repeat(1, films.shape[1]), words)"))),
    ("train_step_of_films", "each frame has a time", changed(STEP, ("times, words)", "t, words)"))),
    ("train_step_of_films", "earlier step", changed(STEP, ("optimizer.zero_grad()\n", ""))),
    ("train_step_of_films", "keeps its graph", changed(STEP, ("loss.item()", "loss"))),
    ("train_step_of_films", "training mode", changed(STEP, (
        "optimizer.step()", "network.eval()\noptimizer.step()"))),
    ("train_step_of_films", "stand still", changed(STEP, ("optimizer.step()\n", ""))),
    ("train_step_of_films", "stand still|gone|gradient", changed(
        STEP, ("optimizer.zero_grad()\n", ""), ("loss.backward()\n",
                                                "loss.backward()\noptimizer.zero_grad()\n"))),
    ("train_step_of_films", "None", changed(STEP, ("return loss.item()", "return None"))),
    ("continued", "put them into x", changed(GIVEN, ("x = torch.cat([known, x[:, k:]], 1)\n    ", ""))),
    ("continued", "their time is 0", changed(GIVEN, ("times = torch.zeros(x.shape[:2])\n    "
                                                     "times[:, k:] = t",
                                                     "times = torch.full(x.shape[:2], float(t))"))),
    ("continued", "not the prediction", changed(
        GIVEN, ("x - times[..., None, None, None] * network", "network"))),
    ("continued", "the sign", changed(GIVEN, ("x - times", "x + times"))),
    ("continued", "each frame has a time", changed(GIVEN, ("(x, times, words)", "(x, t, words)"))),
    ("continued", "function", "torch.zeros(3)"),
]
test_right, test_wrong = right_and_wrong(RIGHT, WRONG)

LAYER = """
class TemporalLayer(nn.Module):
    def __init__(self, channels, frames, heads=4, inner=384, together=True):
        super().__init__()
        self.frames, self.together = frames, together
        self.place = nn.Parameter(0.3 * torch.randn(frames, channels))
        self.register_buffer("near", nearness(heads, frames), False)
        self.norm1 = nn.LayerNorm(channels)
        self.attention = Attention(channels, heads=heads)
        self.norm2 = nn.LayerNorm(channels)
        width = frames * channels if together else channels
        self.ff = FeedForward(width, kind=GELU, inner=inner)
        for gate in self.attention.to_out, self.ff.net[-1]:
            for p in gate.parameters():
                nn.init.zeros_(p)

    def forward(self, h):
        tokens = to_time(h, self.frames)
        tokens = tokens + self.attention(self.norm1(tokens) + self.place, mask=self.near)
        x = self.norm2(tokens)
        x = x.flatten(1) if self.together else x
        tokens = tokens + self.ff(x).reshape(tokens.shape)
        return from_time(tokens, h)
"""
HELPERS = {"Attention": Attention, "FeedForward": FeedForward, "GELU": GELU,
           "to_time": video.to_time, "from_time": video.from_time, "nearness": video.nearness,
           **IMPORTED}
FIRST = "tokens = tokens + self.attention(self.norm1(tokens) + self.place, mask=self.near)"
SECOND = "tokens = tokens + self.ff(x).reshape(tokens.shape)"


def layer(*changes):
    return class_of(LAYER, "TemporalLayer", HELPERS, *changes)


@pytest.mark.parametrize("changes", [
    (), (("0.3 * torch.randn(frames, channels)", "torch.empty(frames, channels).normal_(std=0.3)"),),
    ((FIRST, "x = self.norm1(tokens) + self.place\n"
                 "        tokens = self.attention(x, mask=self.near) + tokens"),)])
def test_a_right_layer_passes(changes):
    passes("TemporalLayer", layer(*changes))


@pytest.mark.parametrize("said, changes", [
    ("place vectors are missing", [(" + self.place, mask", ", mask")]),
    ("nearness is missing", [(", mask=self.near)", ")")]),
    ("after the norm", [("self.norm1(tokens) + self.place", "self.norm1(tokens + self.place)")]),
    ("norm before the attention", [("self.norm1(tokens) + self.place", "tokens + self.place")]),
    ("norm before the feed", [("x = self.norm2(tokens)", "x = tokens")]),
    ("feed-forward network is missing", [("tokens + self.ff(x).reshape(tokens.shape)", "tokens")]),
    ("gates are zero", [("for gate in self.attention.to_out, self.ff.net[-1]:", "for gate in ():")]),
    ("gates are zero", [("for gate in self.attention.to_out, self.ff.net[-1]:",
                         "for gate in (self.ff.net[-1],):")]),
    ("answers zero", [(SECOND, "tokens = self.ff(x).reshape(tokens.shape)")]),
    ("can't learn", [("for gate in self.attention.to_out, self.ff.net[-1]:",
                      "for gate in (self,):")]),
    ("vector for each frame", [("randn(frames, channels)", "randn(1, channels)")]),
    ("its last weight is", [("inner=inner", "inner=4 * width")]),
    ("its last weight is", [("width = frames * channels if together else channels",
                             "width = channels"), (".flatten(1) if self.together else x", "")]),
    ("frame after frame", [("x.flatten(1)", "x.mT.flatten(1)"),
                           ("self.ff(x).reshape(tokens.shape)",
                            "(self.ff(x).unflatten(1, tokens.shape[:0:-1]).mT if self.together "
                            "else self.ff(x))")]),
    ("deviation of 0.3: here it is 0.00", [("0.3 * torch.randn(", "torch.zeros(")]),
    ("deviation of 0.3", [("0.3 * torch.randn(", "torch.randn(")]),
    ("deviation of 0.3", [("0.3 * torch.randn(", "0.02 * torch.randn(")]),
    ("`place` is frozen", [("(frames, channels))", "(frames, channels), requires_grad=False)")]),
    ("is frozen", [("nn.init.zeros_(p)", "nn.init.zeros_(p).requires_grad_(False)")]),
    ("is a buffer", [('self.register_buffer("near", nearness(heads, frames), False)',
                      "self.near = nearness(heads, frames)")]),
    ("is not saved", [("nearness(heads, frames), False)", "nearness(heads, frames))")]),
    ("by these names", [("self.norm2", "self.other")]),
    ("follow each other", [(FIRST, "first = self.attention(self.norm1(tokens) + self.place, mask=self.near)"),
                           (SECOND, "tokens = tokens + first + self.ff(x).reshape(tokens.shape)")]),
])
def test_a_wrong_layer_is_told_what_is_wrong(said, changes):
    assert said in told("TemporalLayer", layer(*changes))
