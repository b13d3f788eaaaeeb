"""How many steps a flow and its rivals need in the plane, where the exact answer is known.

Networks of one kind are trained for 8,000 steps to predict the velocity on the flow schedule, v on
the cosine schedule, eps on the linear one; each arm's learning rate is the best of three in short
trainings with another seed. Each draws 4,000 points with few steps and with many, and the crowd is
compared with the heart (`heart.Crowd`).
"""

import torch

from minildm.course.heart import Crowd, PointNetwork, draw_heart, perfect
from minildm.diffusion.denoiser import Denoiser, on_schedule
from minildm.diffusion.samplers import ddim, last
from minildm.diffusion.schedules import cosine, flow, linear, time_grid

STEPS = 3, 5, 10, 20, 50, 200
SEEDS = 0, 1, 2
RATES = 1e-3, 2e-3, 4e-3
N = 4000


# name: what is predicted, on which schedule
ARMS = {"flow on flow": ("flow", flow), "v on cosine": ("v", cosine),
        "eps on linear": ("eps", linear)}
# an arm and the schedule whose times its network walks
WALKS = {"eps on linear, walked on flow's times": ("eps on linear", flow),
         "flow on flow, walked on linear's times": ("flow on flow", linear)}


def trained(arm: str, seed: int, lr: float, steps: int = 8000) -> Denoiser:
    """A network of this arm after `steps` steps of 256 points."""
    kind, schedule = ARMS[arm]
    torch.manual_seed(seed)
    model = Denoiser(PointNetwork(), schedule, kind)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    for i in range(steps):
        optimizer.param_groups[0]["lr"] = lr * (1 - i / steps)
        loss = model.loss(draw_heart(256, generator), generator=generator)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def distances(denoise, schedule, crowd: Crowd, seed: int) -> list[float]:
    """The distance of N drawn points from the heart, for each number of steps."""
    noise = torch.randn(N, 2, generator=torch.Generator().manual_seed(1000 + seed))
    ends = [last(ddim(denoise, schedule, noise, time_grid(k))) for k in STEPS]
    return [crowd.distance(end) for end in ends]


def chosen_rate(arm: str, crowd: Crowd) -> dict:
    """The distance after 2,000 steps at each rate, seed 100, drawn in 50 steps."""
    scores = {}
    noise = torch.randn(N, 2, generator=torch.Generator().manual_seed(100))
    for lr in RATES:
        model = trained(arm, 100, lr, 2000)
        scores[lr] = crowd.distance(last(ddim(model, model.schedule, noise, time_grid(50))))
    return {"lr": min(scores, key=scores.get), "tried": list(scores.items())}


def judged(arm: str, seed: int, lr: float, crowd: Crowd) -> dict:
    """{row: distances by number of steps} of one training, and of its walks on other times."""
    model = trained(arm, seed, lr)
    rows = {arm: distances(model, model.schedule, crowd, seed)}
    for name, (own, schedule) in WALKS.items():
        if own == arm:
            moved = on_schedule(model, model.schedule, schedule)
            rows[name] = distances(moved, schedule, crowd, seed)
    return rows


def measured(keep) -> dict:
    """All of it; `keep(name, function)` calls the function, or knows what it returned before."""
    crowd = Crowd(N)
    rows, rates = {}, {}
    for name, schedule in ("flow", flow), ("cosine", cosine), ("linear", linear):
        rows[f"perfect denoiser, {name}"] = [
            distances(perfect(schedule), schedule, crowd, seed) for seed in SEEDS]
    for arm in ARMS:
        rates[arm] = keep(f"plane, rate, {arm}", lambda arm=arm: chosen_rate(arm, crowd))
        for seed in SEEDS:
            found = keep(f"plane, {arm}, seed {seed}", lambda arm=arm, seed=seed: judged(
                arm, seed, rates[arm]["lr"], crowd))
            for row, values in found.items():
                rows.setdefault(row, []).append(values)
    return {"steps": STEPS, "n": N, "seeds": SEEDS, "rates": rates, "rows": rows,
            "floor": crowd.floor().tolist()}
