"""A1's checks: mended cells pass in any style; the patients, and what is mended wrongly, are told so."""

import copy
import inspect
import textwrap
from itertools import pairwise

import torch.nn.functional as F
from support.answers import changed, right_and_wrong

from minildm import data
from minildm.nn.unet import UNet

HELPERS = {"copy": copy, "F": F, "pairwise": pairwise, "UNet": UNet, "data": data}


# ---- the three numbers

AGAINST = """
    noise = torch.randn(data.shape, generator=generator)
    x = (1 - t) * data + t * noise
    error = (guess(x, torch.tensor(t), labels) - data).square().mean()
    v = data.var()
    return error / (v * t**2 / ((1 - t)**2 * v + t**2))
"""
GAIN = """
    noise = torch.randn(data.shape, generator=generator)
    t = torch.tensor(t)
    x = torch.lerp(data, noise, t)
    told = F.mse_loss(guess(x, t, labels), data)
    untold = F.mse_loss(null_guess(x, t), data)
    return 1 - told / untold
"""
OFF = """
    t = torch.tensor(1.0)
    answers = [guess(noise, t, torch.full((len(noise),), c)) for c in range(classes)]
    answers = torch.stack(answers)
    mean = answers.mean(0)
    off = (null_guess(noise, t) - mean).square().mean()
    return off / (answers - mean).square().mean()
"""

# ---- the mended cells

WALK = """
    times = torch.linspace(start, 0, steps + 1)
    for t, s in pairwise(times):
        v = network(x, t, labels)
        x0 = x - t * v
        eps = x + (1 - t) * v
        x = (1 - s) * x0 + s * eps
    return x
"""
SHORT_WALK = """
    for i in range(steps):
        t, s = start * (1 - i / steps), start * (1 - (i + 1) / steps)
        x = x + (s - t) * network(x, t, labels)
    return x
"""
GUIDED = """
    null = torch.full_like(labels, network.null_context)
    times = torch.linspace(start, 0, steps + 1)
    for t, s in pairwise(times):
        told, untold = network(x, t, labels), network(x, t, null)
        x = x + (s - t) * (untold + scale * (told - untold))
    return x
"""
LOAD = """
    network = UNet(config)
    own = {}
    for name, tensor in tensors.items():
        own[name.removeprefix("network.").replace("_orig_mod.", "")] = tensor.float()
    network.load_state_dict(own, strict=True)
    return network.eval()
"""
BY_HAND = """
    network = UNet(config)
    own = network.state_dict()
    named = {name.split("network.", 1)[1].replace("_orig_mod.", ""): t for name, t in tensors.items()}
    missing, strange = own.keys() - named.keys(), named.keys() - own.keys()
    if missing or strange:
        raise ValueError(f"missing {missing}, strange {strange}")
    for name, tensor in own.items():
        tensor.copy_(named[name])
    network.eval()
    return network
"""
AVERAGE = """
    average = copy.deepcopy(network)
    shadow = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses = []
    for i in range(1, steps + 1):
        rows = torch.randint(len(latents), (64,), generator=generator)
        value = loss(network, latents[rows], labels[rows], generator)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        keep = min(decay, (1 + i) / (10 + i))
        for name, p in network.named_parameters():
            shadow[name].lerp_(p.detach(), 1 - keep)
        losses.append(value.item())
    average.load_state_dict(shadow)
    return average.eval(), losses
"""
EPOCHS = """
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(epochs):
        order = torch.randperm(len(latents), generator=generator)
        latents, labels = latents[order], labels[order]
        for rows in torch.arange(len(latents)).split(64):
            value = loss(network, latents[rows], labels[rows], generator)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            losses.append(value.item())
    return network.eval(), losses
"""
SCALED = """
    with torch.no_grad():
        vae.fit_latent_stats(pictures)
        latents = vae.normalise(vae.encode(pictures).mean)
    network = train(latents, labels)
    with torch.no_grad():
        return network, latents, vae.decode(vae.denormalise(draw(network)))
"""
ONE_FACTOR = """
    with torch.no_grad():
        raw = torch.cat([vae.encode(part).mean for part in pictures.split(500)])
        scale = 1 / raw.std()
    network = train(scale * raw, labels)
    with torch.no_grad():
        return network, scale * raw, vae.decode(draw(network) / scale)
"""
RANGE = """
    pictures = data.to_float(images)
    with torch.no_grad():
        latents = vae.normalise(torch.cat([vae.encode(part).mean for part in pictures.split(500)]))
    network = train(latents, labels)
    with torch.no_grad():
        drawn = vae.decode(vae.denormalise(draw(network)))
    return network, latents, drawn.clamp(-1, 1)
"""

RIGHT = [
    ("against_linear", AGAINST),
    ("against_linear", changed(AGAINST, ("(v * t**2 / ((1 - t)**2 * v + t**2))",
                                         "(1 / (1 / v + ((1 - t) / t)**2))"))),
    ("label_gain", GAIN),
    ("label_gain", changed(GAIN, ("1 - told / untold", "(untold - told) / untold"))),
    ("null_off", OFF),
    ("null_off", changed(OFF, ("(answers - mean).square().mean()",
                               "answers.var(0, correction=0).mean()"))),
    ("mended_a", WALK), ("mended_a", SHORT_WALK), ("mended_d", WALK), ("mended_d", SHORT_WALK),
    ("mended_b", GUIDED),
    ("mended_b", changed(GUIDED, ("untold + scale * (told - untold)",
                                  "scale * told + (1 - scale) * untold"))),
    ("mended_c", LOAD), ("mended_c", BY_HAND),
    ("mended_c", changed(LOAD, ("strict=True", "assign=True"))),
    ("mended_e", AVERAGE),
    ("mended_e", changed(AVERAGE, ("    average.load_state_dict(shadow)\n", """
    with torch.no_grad():
        for name, p in average.named_parameters():
            p.copy_(shadow[name])
"""))),
    ("mended_f", EPOCHS),
    ("mended_f", changed(EPOCHS, ("        latents, labels = latents[order], labels[order]\n", ""),
                         ("torch.arange(len(latents)).split", "order.split"))),
    ("mended_g", SCALED), ("mended_g", ONE_FACTOR),
    ("mended_g", changed(ONE_FACTOR, ("1 / raw.std()", "1 / raw.std((0, 2, 3), keepdim=True)"))),
    ("mended_h", RANGE),
    ("mended_h", changed(RANGE, ("data.to_float(images)", "images.float() / 255 * 2 - 1"))),
    ("mended_h", changed(RANGE, (".clamp(-1, 1)", ""))),
]

DOT = "(v * t**2 / ((1 - t)**2 * v + t**2))"
WRONG_NUMBERS = [
    ("against_linear", "alone", changed(AGAINST, (" / " + DOT, ""))),
    ("against_linear", "upside down", changed(AGAINST, ("error / " + DOT, DOT + " / error"))),
    ("against_linear", "no 1 here", changed(AGAINST, ("data.var()", "1"))),
    ("against_linear", "root", changed(AGAINST, ("error / " + DOT, "(error / " + DOT + ")**0.5"))),
    ("against_linear", "saying 0", changed(AGAINST, (DOT, "v"))),
    ("against_linear", "in the noise", changed(AGAINST, ("labels) - data", "labels) - noise"))),
    ("against_linear", "changed places", changed(AGAINST, (
        DOT, "(v * (1 - t)**2 / (t**2 * v + (1 - t)**2))"))),
    ("against_linear", "sigma squared", changed(AGAINST, ("v * t**2 /", "v * t /"))),
    ("against_linear", "generator", changed(AGAINST, (", generator=generator", ""))),
    ("against_linear", "one number", changed(AGAINST, (".square().mean()", ".square()"))),
    ("against_linear", "package's", "return checkup.against_linear(guess, flow, data, labels, t, generator)"),
    ("label_gain", "two draws", changed(GAIN, (
        "    untold", "    again = torch.randn(data.shape, generator=generator)\n"
                      "    x = torch.lerp(data, again, t)\n    untold"))),
    ("label_gain", "what is left", changed(GAIN, ("1 - told / untold", "told / untold"))),
    ("label_gain", "stands below", changed(GAIN, ("told / untold", "untold / told"))),
    ("label_gain", "difference", changed(GAIN, ("1 - told / untold", "untold - told"))),
    ("label_gain", "sign", changed(GAIN, ("1 - told / untold", "told / untold - 1"))),
    ("label_gain", "with labels", changed(GAIN, ("1 - told / untold", "(untold - told) / told"))),
    ("label_gain", "no root", changed(GAIN, ("told / untold", "(told / untold)**0.5"))),
    ("label_gain", "None", changed(GAIN, ("return 1 - told / untold", "return"))),
    ("null_off", "alone", changed(OFF, ("off / (answers - mean).square().mean()", "off"))),
    ("null_off", "no roots", changed(OFF, ("off / (answers - mean).square().mean()",
                                           "(off / (answers - mean).square().mean())**0.5"))),
    ("null_off", "t is 1", changed(OFF, ("tensor(1.0)", "tensor(0.0)"))),
    ("null_off", "one less", changed(OFF, ("(answers - mean).square().mean()", "answers.var(0).mean()"))),
    ("null_off", "each picture", changed(OFF, ("answers.mean(0)", "answers.mean()"))),
    ("null_off", "last class", changed(OFF, ("range(classes)", "range(classes - 1)"))),
    ("null_off", "upside down", changed(OFF, ("off / (answers - mean).square().mean()",
                                              "(answers - mean).square().mean() / off"))),
    ("null_off", "should be|times", changed(OFF, ("range(classes)", "range(10)"))),
]
AS_V = changed(WALK, ("x - t * v", "((1 - t) * x - t * v) / ((1 - t)**2 + t**2)"),
               ("x + (1 - t) * v", "((1 - t) * v + t * x) / ((1 - t)**2 + t**2)"))
WRONG_DRAWS = [
    ("mended_a", "as the patient", AS_V),
    ("mended_a", "data is right", changed(AS_V, (
        "((1 - t) * x - t * v) / ((1 - t)**2 + t**2)", "x - t * v"))),
    ("mended_a", "noise is right", changed(AS_V, (
        "((1 - t) * v + t * x) / ((1 - t)**2 + t**2)", "x + (1 - t) * v"))),
    ("mended_a", "predicts noise", changed(WALK, (
        "x - t * v", "(x - t * v) / (1 - t).clamp(min=1e-3)"), ("x + (1 - t) * v", "v"))),
    ("mended_a", "sign", changed(WALK, ("x - t * v", "x + t * v"), ("x + (1 - t)", "x - (1 - t)"))),
    ("mended_a", "first inputs|should be|differs", changed(WALK, ("(start, 0,", "(1, 0,"))),
    ("mended_a", "in place", changed(WALK, ("    times", "    x += 0.1\n    times"))),
    ("mended_b", "as the patient", changed(GUIDED, (
        "torch.full_like(labels, network.null_context)", "torch.zeros_like(labels)"))),
    ("mended_b", "last class", changed(GUIDED, ("null_context)", "null_context - 1)"))),
    ("mended_b", "as 10", changed(GUIDED, ("network.null_context", "10"))),
    ("mended_b", "largest label", changed(GUIDED, ("network.null_context", "labels.max().item() + 1"))),
    ("mended_b", "changed places", changed(GUIDED, (
        "untold + scale * (told - untold)", "told + scale * (untold - told)"))),
    ("mended_b", "null's answer", changed(GUIDED, ("(untold + scale", "(told + scale"))),
    ("mended_b", "no effect", changed(GUIDED, ("untold + scale * (told - untold)", "told"))),
    ("mended_b", "differs|should be|values", changed(GUIDED, ("network(x, t, null)", "network(x, null)"))),
    ("mended_c", "did not arrive", changed(LOAD, ('.replace("_orig_mod.", "")', ""),
                                           ("strict=True", "strict=False"))),
    ("mended_c", "raised", changed(LOAD, ('.replace("_orig_mod.", "")', ""))),
    ("mended_c", "in silence", changed(LOAD, ("strict=True", "strict=False"))),
    ("mended_c", "training mode", changed(LOAD, (".eval()", ""))),
    ("mended_c", "the network", changed(LOAD, ("return network.eval()", "return own"))),
    ("mended_c", "no layer", changed(BY_HAND, ("named.keys() - own.keys()", "set()"))),
    ("mended_c", "without", changed(BY_HAND, ("own.keys() - named.keys()", "set()"),
                                    ("copy_(named[name])", "copy_(named.get(name, tensor))"))),
    ("mended_d", "as the patient", changed(WALK, ("(start, 0,", "(0, start,"))),
    ("mended_d", "1 - t", changed(WALK, ("network(x, t, labels)", "network(x, 1 - t, labels)"))),
    ("mended_d", "sign", changed(SHORT_WALK, ("(s - t)", "(t - s)"))),
    ("mended_d", "not at start", changed(WALK, ("(start, 0,", "(1, 0,"))),
    ("mended_d", "too many", changed(WALK, ("steps + 1)", "steps + 2)"))),
    ("mended_d", "end at 0", changed(WALK, ("(start, 0,", "(start, start / (steps + 1),"))),
]
WRONG_TRAININGS = [
    ("mended_e", "still the patient", changed(AVERAGE, ("    average.load_state_dict(shadow)\n", ""))),
    ("mended_e", "last step", changed(AVERAGE, ("return average", "return network"))),
    ("mended_e", "changed places", changed(AVERAGE, ("1 - keep", "keep"))),
    ("mended_e", "ramp", changed(AVERAGE, ("min(decay, (1 + i) / (10 + i))", "decay"))),
    ("mended_e", "training mode", changed(AVERAGE, ("average.eval()", "average"))),
    ("mended_e", "a pair", changed(AVERAGE, ("average.eval(), losses", "average.eval()"))),
    ("mended_e", "losses", changed(AVERAGE, ("value.item()", "2 * value.item()"))),
    ("mended_e", "trained network", changed(AVERAGE, ("        optimizer.zero_grad()\n", ""))),
    ("mended_e", "first comes", changed(AVERAGE, ("return average.eval()", "return shadow"))),
    ("mended_f", "own label", changed(EPOCHS, ("latents, labels = latents[order], labels[order]",
                                               "latents = latents[order]"))),
    ("mended_f", "epoch 2", changed(EPOCHS, ("latents, labels = latents[order], labels[order]",
                                             "latents, told = latents[order], labels[order]"),
                                    ("labels[rows]", "told[rows]"))),
    ("mended_f", "order of its own", changed(EPOCHS, (
        "        latents, labels = latents[order], labels[order]\n", ""))),
    ("mended_f", "own label", changed(EPOCHS, (
        "latents, labels = latents[order], labels[order]",
        "latents = latents[order]\n        other = torch.randperm(len(labels), generator=generator)\n"
        "        labels = labels[other]"))),
    ("mended_f", "shows each picture once|is asked", changed(EPOCHS, (
        "torch.arange(len(latents)).split(64)",
        "[torch.randint(len(latents), (64,), generator=generator) for _ in range(len(latents) // 64)]"))),
    ("mended_f", "training mode", changed(EPOCHS, ("network.eval()", "network"))),
    ("mended_f", "that was given", changed(EPOCHS, ("            optimizer.step()\n", ""))),
    ("mended_g", "still the patient", changed(SCALED, ("        vae.fit_latent_stats(pictures)\n", ""))),
    ("mended_g", "size of the noise", changed(SCALED, ("vae.denormalise(draw(network))", "draw(network)"))),
    ("mended_g", "which should be 1", changed(ONE_FACTOR, ("1 / raw.std()", "0.18215"))),
    ("mended_g", "which should be 1", changed(ONE_FACTOR, ("1 / raw.std()", "1 / raw.var()"))),
    ("mended_g", "another size", changed(ONE_FACTOR, ("scale * raw", "torch.randn_like(raw)"))),
    ("mended_g", "labels", changed(SCALED, ("train(latents, labels)", "train(latents, labels.flip(0))"))),
    ("mended_g", "three|pictures are wanted", changed(SCALED, ("return network, latents,", "return"))),
    ("mended_g", "no gradients to learn from", changed(
        SCALED, ("    network = train", "        network = train"))),
    ("mended_h", "still the patient", changed(RANGE, ("data.to_float(images)", "images.float() / 255"))),
    ("mended_h", "-0.5, 0.5", changed(RANGE, ("data.to_float(images)", "images.float() / 255 - 0.5"))),
    ("mended_h", "black is 1", changed(RANGE, ("data.to_float(images)", "1 - images.float() / 127.5"))),
    ("mended_h", "127.5", changed(RANGE, ("data.to_float(images)", "images.float() / 128 - 1"))),
    ("mended_h", "255", changed(RANGE, ("data.to_float(images)", "images.float()"))),
    ("mended_h", "normalised", changed(RANGE, ("vae.normalise(torch.cat(", "(torch.cat("))),
    ("mended_h", "denormalise", changed(RANGE, ("vae.denormalise(draw(network))", "draw(network)"))),
    ("mended_h", r"come in \[0, 1\]", changed(RANGE, (
        "drawn.clamp(-1, 1)", "(drawn.clamp(-1, 1) + 1) / 2"))),
]
WRONG = WRONG_NUMBERS + WRONG_DRAWS + WRONG_TRAININGS


def clean(rows):
    return [(*row[:-1], inspect.cleandoc("\n" + textwrap.dedent(row[-1])) + "\n") for row in rows]


def helpers():
    from minildm.diffusion.schedules import flow
    from minildm.training import checkup

    return HELPERS | {"checkup": checkup, "flow": flow}


test_right_answers_pass, test_wrong_answers_are_told_what_is_wrong = right_and_wrong(
    clean(RIGHT), clean(WRONG), helpers())
