"""The checks of lesson 08's own network: its inputs, its loss with dropped labels, its training."""

import torch
import torch.nn.functional as F
from torch import nn

from minildm.course.exercises.answer import Answer
from minildm.course.exercises.compare import close, compare, describe, fail
from minildm.course.exercises.fakes import follows_generator, generator, randn
from minildm.course.exercises.harness import check
from minildm.course.exercises.spied import Slope, judge_rows, judge_slope
from minildm.diffusion.denoiser import Denoiser


class PointNetwork(nn.Module):
    """(x, t, label) -> velocity for points in the plane; label number `labels` means "any"."""

    def __init__(self, labels, width):
        super().__init__()
        self.of_point = nn.Linear(2, width)
        self.of_time = nn.Linear(5, width)
        self.of_label = nn.Embedding(labels + 1, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(4))
        self.out = nn.Linear(width, 2)

    def forward(self, x, t, label):
        t = torch.as_tensor(t, dtype=x.dtype).expand(len(x))[:, None]          # (B, 1)
        waves = [f(torch.pi * k * t) for f in (torch.sin, torch.cos) for k in (1, 2)]
        h = self.of_point(x) + self.of_label(label) + self.of_time(torch.cat([t, *waves], 1))
        for layer in self.layers:
            h = h + layer(F.silu(h))
        return self.out(F.silu(h))


@check(reference=PointNetwork)
def check_PointNetwork(answer):
    for labels, width in ((3, 12), (5, 8)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = answer(labels, width)
        if not isinstance(network, nn.Module):
            fail(f"hand over the class: this made {describe(network)}")
        count = sum(weight.numel() for weight in network.parameters())
        if not count:
            fail("the network has no weights that can be trained: layers belong to self")
        # zeros at the end would hide what the network listens to
        with torch.no_grad():
            for i, weight in enumerate(network.parameters()):
                weight.copy_(randn(*weight.shape, seed=i) / max(1, weight[0].numel())**0.5)
        judge_inputs(Answer(network, ["x", "t", "label"]), network, labels)


def judge_inputs(ask, network, labels: int):
    """Raise Wrong unless the network listens to x, t and label, each row for itself."""
    x, t = randn(6, 2), torch.tensor([0.1, 0.3, 0.4, 0.6, 0.7, 0.9])
    label = torch.arange(6) % (labels + 1)
    # the highest label is the null
    label[0] = labels
    got = ask(x, t, label)
    if not isinstance(got, torch.Tensor) or got.shape != x.shape:
        compare(got, x, where="x (B, 2), t (B,), label (B,)")
    changes = {"x": (0.5 * x, t, label), "t": (x, t * 0.5, label),
               "label": (x, t, (label + 1) % (labels + 1))}
    for name, inputs in changes.items():
        other = ask(*inputs)
        if ((other - got).abs().amax(1) < 1e-6).any():
            fail(f"another {name} gives the same answer: the network doesn't listen to it")
    alone = torch.cat([ask(x[i:i + 1], t[i:i + 1], label[i:i + 1]) for i in range(len(x))])
    if not close(alone, got):
        fail("a point's answer depends on the other points of its batch, or on its place there")
    same = ask(x, torch.tensor(0.4), label)
    if not close(same, ask(x, torch.full((6,), 0.4), label)):
        fail("t is a number or (B,): one number serves all points")
    middle = ask((x + x.flip(0)) / 2, torch.tensor(0.4), label[:1].expand(6))
    ends = [ask(points, torch.tensor(0.4), label[:1].expand(6)) for points in (x, x.flip(0))]
    if close(middle, (ends[0] + ends[1]) / 2):
        fail("the answer is linear in x: is there a nonlinearity between the layers?")
    ask(x, t, label).square().sum().backward()
    silent = [name for name, weight in network.named_parameters() if weight.grad is None]
    if silent:
        fail(f"no gradient reaches {', '.join(silent)}: layers that are not used")


def label_loss(network, points, labels, null, share, generator):
    t = torch.rand(len(points), generator=generator)
    noise = torch.randn(points.shape, generator=generator)
    dropped = torch.rand(len(points), generator=generator) < share
    told = torch.where(dropped, null, labels)
    x = torch.lerp(points, noise, t[:, None])
    return (network(x, t, told) - (noise - points)).square().mean()


class Asked:
    """A fake network for points that keeps what it is asked, and what it answers."""

    def __init__(self):
        self.calls = []

    def __call__(self, x, t, label):
        t = torch.as_tensor(t)
        if t.shape != x.shape[:1]:
            fail(f"each point has a time of its own, (B,) = ({len(x)},): this is {tuple(t.shape)}")
        if not isinstance(label, torch.Tensor) or label.shape != x.shape[:1]:
            fail(f"the network is told labels (B,) = ({len(x)},): this is {describe(label)}")
        said = torch.sin(x) + 0.1 * t[:, None] + 0.2 * torch.cos(label.float())[:, None]
        self.calls.append((x.clone(), t.clone(), label.clone(), said))
        return said


@check(reference=label_loss, forbidden=[Denoiser, Denoiser.loss])
def check_label_loss(answer):
    n = 4000
    for null, share in (3, 0.1), (9, 0.4):
        labels, points = torch.arange(n) % 3, 1 + 2 * randn(n, 2, seed=7)
        network = Asked()
        loss = answer(network, points, labels, null, share, generator())
        if len(network.calls) != 1:
            fail(f"the network is asked {len(network.calls)} times: once for the batch")
        x, t, told, said = network.calls[0]
        judge_times(x, t, points)
        noise = (x - (1 - t[:, None]) * points) / t[:, None]
        judge_noise(noise, points, x, t)
        judge_told(told, labels, null, share)
        error = said - (noise - points)
        compare(loss, error.square().mean(), {
            "a sum, not a mean": error.square().sum(),
            "one number: the mean over the batch": error.square().mean(1),
            "errors are squared": error.abs().mean(),
            "the target is noise - data: that is its negative":
                (said + noise - points).square().mean(),
            "the target is noise - data, not the noise": (said - noise).square().mean(),
            "the target is noise - data, not the data": (said - points).square().mean(),
            "the mean over the batch, then the sum over both coordinates: the mean of all":
                error.square().sum(1).mean(),
            "the root of the mean square: no root": error.square().mean().sqrt(),
        }, tol=1e-3, where=f"null {null}, share {share}")
    for share, want in (0.0, "none"), (1.0, "all"):
        network = Asked()
        answer(network, points, labels, 5, share, generator())
        if (network.calls[0][2] == 5).float().mean() != share:
            fail(f"with share {share:g} {want} of the labels are dropped")
    follows_generator(answer, lambda g: (Asked(), points, labels, 3, 0.1, g))


def judge_times(x, t, points):
    if t.min() < 0 or t.max() > 1:
        fail("times lie between 0 and 1")
    if t.std() < 1e-6:
        fail("each point has a time of its own")
    if abs(t.mean() - 0.5) > 0.05 or abs(t.std() - 0.2887) > 0.03:
        fail(f"times are uniform on [0, 1]: yours have mean {t.mean():.2f}, std {t.std():.2f}")
    if x.shape != points.shape:
        fail(f"the network is given x_t, {tuple(points.shape)}: this is {tuple(x.shape)}")


def judge_noise(noise, points, x, t):
    """The noise that x_t implies is standard normal, unless x_t was mixed wrongly."""
    if close(x, points):
        fail("the network must see noisy x_t, not the data")
    # below this time rounding decides
    clear = t > 0.05
    noise, points = noise[clear], points[clear]
    mean, std = noise.mean(), noise.std()
    by_axis = torch.corrcoef(torch.cat([noise, points], 1).T)
    if abs(mean) > 0.1 or abs(std - 1) > 0.1:
        fail("x_t = (1 - t) data + t noise, with noise of unit size: data and noise are mixed "
             "otherwise here")
    if abs(by_axis[0, 1]) > 0.1 or by_axis[:2, 2:].abs().max() > 0.1:
        fail("the noise is drawn anew for each number, whatever the data are")


def judge_told(told, labels, null, share):
    dropped = told == null
    if not torch.equal(told[~dropped], labels[~dropped]):
        fail("a label that is not dropped stays as it is")
    found = dropped.float().mean().item()
    room = 5 * (share * (1 - share) / len(labels))**0.5
    if abs(found - (1 - share)) < room:
        fail(f"a share of {found:.2f} became null: kept and dropped changed places")
    if found in (0.0, 1.0):
        fail("all labels or none are dropped: one draw for each")
    if abs(found - share) > room:
        fail(f"a share of {found:.2f} of the labels became null, not {share}")
    pairs = (dropped[1:] & dropped[:-1]).float().mean().item()
    if abs(pairs - share**2) > room:
        fail("labels are dropped in rows: each by a draw of its own")


def train(network, loss, points, labels, steps, generator, batch_size=256, lr=3e-3):
    optimizer = torch.optim.Adam(network.parameters(), lr)
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    losses = []
    for _ in range(steps):
        rows = torch.randint(len(points), (batch_size,), generator=generator)
        now = loss(network, points[rows], labels[rows], generator)
        optimizer.zero_grad()
        now.backward()
        optimizer.step()
        falling.step()
        losses.append(now.item())
    return losses


@check(reference=train)
def check_train(answer):
    # many draws from few points in the last, where none may be left out
    for steps, size, lr, count in (12, 8, 0.01, 40), (5, 16, 0.2, 40), (60, 8, 0.02, 12):
        # a point's own number, and its label, can be read off it
        labels = torch.arange(count) % 3
        points = torch.stack([torch.arange(count + 0.0), labels + 0.0], 1)
        network, batches = Slope(), []

        def loss(network, points, labels, generator, batches=batches):
            batches.append((points.clone(), labels.clone()))
            return network.loss()

        losses = answer(network, loss, points, labels, steps, generator(), size, lr)
        judge_batches(batches, steps, size, count)
        judge_slope(network, lr, steps)
        if not isinstance(losses, list | tuple) or len(losses) != steps:
            fail(f"return the losses, a list of {steps} numbers: this is {describe(losses)}")
        if any(isinstance(one, torch.Tensor) and one.requires_grad for one in losses):
            fail("a loss that is kept with its graph keeps all of the step in memory: .item()")
        compare(torch.tensor([float(one) for one in losses]), network.losses(),
                where="the list of losses")


def judge_batches(batches, steps: int, size: int, count: int):
    if len(batches) != steps:
        fail(f"the loss is asked {len(batches)} times in {steps} steps: once in each")
    for points, labels in batches:
        if points.shape != (size, 2) or labels.shape != (size,):
            fail(f"a batch has {size} points and their labels: these are {tuple(points.shape)} and "
                 f"{tuple(labels.shape)}")
        if not torch.equal(points[:, 1], labels.float()):
            fail("points and labels of a batch don't belong together: take the same rows of both")
    rows = torch.cat([points[:, 0] for points, _ in batches])
    if torch.equal(batches[0][0], batches[1][0]):
        fail("each step has a batch of its own")
    if len(rows.unique()) < 0.6 * min(count, len(rows)):
        fail("batches are drawn at random from all points")
    if len(rows) > 30 * count:
        judge_rows(rows, count, "points")
    if (batches[0][0][1:, 0] > batches[0][0][:-1, 0]).all():
        fail("batches are drawn at random, not in the set's order")
