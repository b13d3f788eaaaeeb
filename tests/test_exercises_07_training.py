"""Lesson 07's checks of training: dropping, the loss and the loop; right ones pass, wrong ones hear why."""

import random

from support.answers import changed, right_and_wrong, told

from minildm.diffusion.denoiser import drop_context
from minildm.diffusion.schedules import add_noise, cosine, expand

HELPERS = {"random": random, "add_noise": add_noise, "expand": expand, "cosine": cosine}
# a word for each caption, as most answers begin
DRAWN = "torch.rand(len(ids), 1, generator=generator)"
LOSS = """
    t = torch.rand(len(images), generator=generator).sqrt()
    noise = torch.randn(images.shape, generator=generator)
    x_t = add_noise(schedule, images, noise, t)
    return (network(x_t, t, ids) - images).square().mean()
"""
LOOP = """
    optimizer = torch.optim.Adam(network.parameters(), lr)
    losses = []
    for i in range(steps):
        optimizer.param_groups[0]["lr"] = lr * (1 - i / steps)
        rows = torch.randint(len(images), (batch_size,), generator=generator)
        now = loss(network, images[rows], ids[rows], generator)
        optimizer.zero_grad()
        now.backward()
        optimizer.step()
        losses.append(now.item())
    return losses
"""


RIGHT = [
    ("caption_loss", LOSS),
    ("caption_loss", """
        noise = torch.empty_like(images).normal_(generator=generator)
        t = torch.rand(images.shape[:1], generator=generator) ** 0.5
        a, s = schedule.alpha(expand(t, images)), schedule.sigma(expand(t, images))
        return F.mse_loss(network(a * images + s * noise, t, ids), images)
     """),
    ("caption_loss", changed(LOSS, "ids) - images).square().mean()",
                             "ids) - images).pow(2).mean((1, 2, 3)).mean()")),
    ("fit_captions", LOOP),
    ("fit_captions", """
        optimizer = torch.optim.AdamW(network.parameters(), lr, weight_decay=0)
        falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: 1 - i / steps)
        losses = []
        for _ in range(steps):
            rows = torch.randperm(len(images), generator=generator)[:batch_size]
            now = loss(network, images[rows], ids[rows], generator)
            now.backward()
            optimizer.step()
            optimizer.zero_grad()
            falling.step()
            losses.append(float(now))
        return losses
     """),
    ("drop_captions", f"torch.where({DRAWN} < share, empty, ids)"),
    ("drop_captions", """
        keep = torch.rand(len(ids), generator=generator) >= share
        return ids * keep[:, None] + empty * ~keep[:, None]
     """),
    ("drop_captions", """
        ids = ids.clone()
        chance = torch.full((ids.shape[0],), share)
        ids[torch.bernoulli(chance, generator=generator).bool()] = empty
        return ids
     """),
    ("drop_captions", """
        out = ids.clone()
        chosen = torch.randperm(len(ids), generator=generator)[:round(share * len(ids))]
        out[chosen] = empty[0]
        return out
     """),
    ("drop_captions", """
        drawn = torch.rand(len(ids), generator=generator).tolist()
        rows = [empty[0] if r < share else row for r, row in zip(drawn, ids)]
        return torch.stack(rows)
     """),
]

WRONG = [
    ("caption_loss", "time of its own", changed(LOSS, "torch.rand(len(images), generator=generator)",
                                                "torch.rand(1, generator=generator).expand(len(images))")),
    ("caption_loss", "take their root", changed(LOSS, ".sqrt()", "")),
    ("caption_loss", "the root of", changed(LOSS, ".sqrt()", ".square()")),
    ("caption_loss", "between 0 and 1", changed(LOSS, ".sqrt()", ".mul(2)")),
    ("caption_loss", "not the clean pictures", changed(LOSS, "network(x_t", "network(images")),
    ("caption_loss", "mixed otherwise", changed(LOSS, "network(x_t", "network(noise")),
    ("caption_loss", "mixed otherwise", changed(LOSS, "images, noise, t)", "noise, images, t)")),
    ("caption_loss", "right for the first|mixed otherwise", changed(LOSS, "schedule, im", "cosine, im")),
    ("caption_loss", "mixed otherwise", changed(LOSS, "images, noise, t)", "images, 2 * noise, t)")),
    ("caption_loss", "mixed otherwise|drawn anew", changed(
        LOSS, "torch.randn(images", "images + torch.randn(images")),
    ("caption_loss", "noise of its own|mixed otherwise", changed(
        LOSS, "torch.randn(images.shape, generator=generator)",
        "torch.randn(len(images), 1, 1, 1, generator=generator).expand(images.shape)")),
    ("caption_loss", "not the noise", changed(LOSS, "ids) - images)", "ids) - noise)")),
    ("caption_loss", "not a velocity", changed(LOSS, "ids) - images)", "ids) - (noise - images))")),
    ("caption_loss", "not x_t", changed(LOSS, "ids) - images)", "ids) - x_t)")),
    ("caption_loss", "a sum", changed(LOSS, ".mean()", ".sum()")),
    ("caption_loss", "numbers of a picture", changed(LOSS, ".mean()", ".sum((1, 2, 3)).mean()")),
    ("caption_loss", "over the batch too", changed(LOSS, ".mean()", ".mean((1, 2, 3))")),
    ("caption_loss", "absolute", changed(LOSS, ".square()", ".abs()")),
    ("caption_loss", "no root", changed(LOSS, ".mean()", ".mean().sqrt()")),
    ("caption_loss", "half", changed(LOSS, ".mean()", ".mean() / 2")),
    ("caption_loss", "as they are", changed(LOSS, "t, ids)", "t, torch.zeros_like(ids))")),
    ("caption_loss", "asked 2 times", changed(LOSS, "return (", "network(x_t, t, ids)\n    return (")),
    ("caption_loss", "generator", changed(LOSS, "images.shape, generator=generator", "images.shape")),
    ("caption_loss", "another seed", "\n    generator.manual_seed(0)" + LOSS),
    ("caption_loss", "return", changed(LOSS, "return (network", "(network") + "    return"),
    ("fit_captions", "add up", changed(LOOP, "        optimizer.zero_grad()\n", "")),
    ("fit_captions", "don't move", changed(LOOP, "        optimizer.step()\n", "")),
    ("fit_captions", "don't move|raised", changed(LOOP, "        now.backward()\n", "")),
    ("fit_captions", "stays the same", changed(LOOP, "lr * (1 - i / steps)", "lr")),
    ("fit_captions", "falls in equal", changed(LOOP, "(1 - i / steps)", "(1 - i / steps)**2")),
    ("fit_captions", "falls in equal", changed(LOOP, "torch.optim.Adam(", "torch.optim.SGD(")),
    ("fit_captions", "weights decay, by 0.1", changed(
        LOOP, "torch.optim.Adam(network.parameters(), lr)",
        "torch.optim.AdamW(network.parameters(), lr, weight_decay=0.1)")),
    ("fit_captions", "forgets its moments", changed(
        LOOP, 'optimizer.param_groups[0]["lr"] = lr * (1 - i / steps)',
        "optimizer = torch.optim.Adam(network.parameters(), lr * (1 - i / steps))")),
    ("fit_captions", "cut before the step", changed(
        LOOP, "        optimizer.step()", "        nn.utils.clip_grad_norm_(network.parameters(), 1.0)\n"
        "        optimizer.step()")),
    ("fit_captions", "one step early", changed(LOOP, "(1 - i / steps)", "(1 - (i + 1) / steps)")),
    ("fit_captions", "not of the last step", changed(LOOP, "= lr * (1 - i / steps)", "*= 1 - i / steps")),
    ("fit_captions", "training mode", changed(
        LOOP, "    losses = []", "    losses = []\n    network.eval()")),
    ("fit_captions", "number 11 is never drawn", changed(
        LOOP, "torch.randint(len(images),", "torch.randint(len(images) - 1,")),
    ("fit_captions", "uphill", changed(LOOP, "now.backward", "(-now).backward")),
    ("fit_captions", "belong together", changed(LOOP, "ids[rows]", "ids[rows.flip(0)]")),
    ("fit_captions", "belong together", changed(
        LOOP, "ids[rows]", "ids[torch.randint(len(ids), (batch_size,), generator=generator)]")),
    ("fit_captions", "batch has", changed(LOOP, "(batch_size,)", "(32,)")),
    ("fit_captions", "its own|at random|order", changed(
        LOOP, "torch.randint(len(images), (batch_size,), generator=generator)", "slice(0, batch_size)")),
    ("fit_captions", "all pictures", changed(LOOP, "torch.randint(len(images)", "torch.randint(4")),
    ("fit_captions", "list of", changed(LOOP, "return losses", "return losses[-1]")),
    ("fit_captions", "item", changed(LOOP, "now.item()", "now")),
    ("fit_captions", "list of|asked", changed(LOOP, "range(steps)", "range(steps - 1)")),
    ("fit_captions", "global", changed(LOOP, "(batch_size,), generator=generator)", "(batch_size,))")),
    ("drop_captions", "one for a token",
     "torch.where(torch.rand(ids.shape, generator=generator) < share, empty, ids)"),
    ("drop_captions", "one for a batch",
     "torch.where(torch.rand(1, generator=torch.Generator().manual_seed(3)) < 1, empty, ids)"),
    ("drop_captions", "no caption|one for a batch",
     "empty.expand_as(ids) if torch.rand(1, generator=generator) < share else ids"),
    ("drop_captions", "wrong ones", f"torch.where({DRAWN} > share, empty, ids)"),
    ("drop_captions", "wrong ones", f"torch.where({DRAWN} < share, ids, empty)"),
    ("drop_captions", "is wanted", f"torch.where({DRAWN} < 2 * share, empty, ids)"),
    ("drop_captions", "is wanted", f"torch.where({DRAWN} < share**2, empty, ids)"),
    ("drop_captions", "a tenth", f"torch.where({DRAWN} < 0.1, empty, ids)"),
    ("drop_captions", "is wanted",
     "torch.where(torch.randn(len(ids), 1, generator=generator) < share, empty, ids)"),
    ("drop_captions", "generator", "torch.where(torch.rand(len(ids), 1) < share, empty, ids)"),
    ("drop_captions", "one seed, two",
     "torch.where(torch.tensor([[random.random() < share] for _ in ids]), empty, ids)"),
    ("drop_captions", "another seed",
     f"generator.manual_seed(0)\nreturn torch.where({DRAWN} < share, empty, ids)"),
    ("drop_captions", "another seed", """
        out = ids.clone()
        out[:int(share * len(ids))] = empty
        return out
     """),
    ("drop_captions", "another seed", """
        row = torch.arange(len(ids))[:, None]
        return torch.where(row * share % 1 < share, empty, ids)
     """),
    ("drop_captions", "in place",
     f"dropped = {DRAWN} < share\nids[dropped[:, 0]] = empty\nreturn ids"),
    ("drop_captions", "not one number", f"ids * ({DRAWN} >= share)"),
    ("drop_captions", "not one number", f"torch.where({DRAWN} < share, empty[0, -1], ids)"),
    ("drop_captions", "neither", f"ids + ({DRAWN} < share) * empty"),
    ("drop_captions", "neither|half", f"""
        out = ids.clone()
        out[({DRAWN} < share)[:, 0], 0] = empty[0, 0]
        return out
     """),
    ("drop_captions", "shape", f"ids[({DRAWN} >= share)[:, 0]]"),
    ("drop_captions", "type", f"torch.where({DRAWN} < share, empty.float(), ids.float())"),
    ("drop_captions", "raised",
     "torch.where(torch.rand(len(ids), generator=generator) < share, empty, ids)"),
    ("drop_captions", "unchanged|no caption", "ids"),
    ("drop_captions", "return", f"torch.where({DRAWN} < share, empty, ids)\nreturn"),
    ("drop_captions", "ids alone", f"dropped = {DRAWN} < share\nreturn ids, dropped"),
    ("drop_captions", "shape|type", f"{DRAWN} < share"),
]

test_right_answers_pass, test_wrong_answers_are_told_what_is_wrong = right_and_wrong(RIGHT, WRONG, HELPERS)


def test_the_packages_functions_are_nobodys_answer():
    assert "write yours" in told(
        "drop_captions", lambda ids, empty, share, generator: drop_context(ids, empty, share, generator))
