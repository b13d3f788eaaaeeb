"""Lesson 02's checks of its two players: right answers in any style pass; wrong ones are told why."""


import torch
from support.answers import right_and_wrong

from minildm.course.exercises import lesson_02_hinge, lesson_02_step
from minildm.course.exercises.lesson_02_step import WRONG_STEPS, play
from minildm.training import losses


def gradient(loss, weight):
    return torch.autograd.grad(loss, weight, retain_graph=True)[0]


HELPERS = {
    "grad": gradient, "hinge_critic": lambda real, fake: (
        (1 - real).relu().mean() + (1 + fake).relu().mean()) / 2,
    "hinge_generator": lambda fake: -fake.mean(), "adaptive_weight": lesson_02_hinge.adaptive_weight,
    "losses": losses,
}
NORMS = "grad(reconstruction, last_layer).norm() / grad(adversarial, last_layer).norm()"
STEP = """
    of_decoder, of_critic = optimizers
    copies = decoder(latents)
    reconstruction = reconstruction_loss(images, copies)
    adversarial = hinge_generator(critic(copies))
    lam = min(adaptive_weight(reconstruction, adversarial, decoder.conv_out.weight), 1)
    loss = reconstruction + weight * lam * adversarial
    of_decoder.zero_grad()
    loss.backward()
    of_decoder.step()
    of_critic.zero_grad()
    judged = hinge_critic(critic(images), critic(copies.detach()))
    judged.backward()
    of_critic.step()
    return lam, judged
"""


def step(*changes):
    body = STEP
    for old, new in changes:
        assert old in body, old
        body = body.replace(old, new)
    return body


RIGHT = [
    ("hinge_critic", "(F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2"),
    ("hinge_critic", "0.5 * ((1 - real).clamp(min=0).mean() + (1 + fake).clamp(min=0).mean())"),
    ("hinge_critic",
     "torch.maximum(1 - real, torch.zeros(1)).mean() / 2 + torch.relu(fake + 1).mean() / 2"),
    ("hinge_generator", "-fake.mean()"),
    ("hinge_generator", "torch.mean(fake) * -1"),
    ("adaptive_weight", f"({NORMS}).detach()"),
    ("adaptive_weight", f"({NORMS}).item()"),
    ("adaptive_weight", """
        r, = torch.autograd.grad(reconstruction, last_layer, retain_graph=True)
        a, = torch.autograd.grad(adversarial, last_layer, retain_graph=True)
        return (r.square().sum().sqrt() / (a.square().sum().sqrt() + 1e-4)).clamp(0, 1e4).detach()
     """),
    ("adversarial_step", STEP),
    ("adversarial_step", step(("min(adaptive", "torch.clamp(adaptive"), (".weight), 1)", ".weight), max=1)"),
                              ("return lam, judged", "return lam.item(), judged.item()"))),
    # both backward passes before both steps; gradients taken without `backward`
    ("adversarial_step", """
        copies = decoder(latents)
        reconstruction = reconstruction_loss(images, copies)
        adversarial = hinge_generator(critic(copies))
        lam = min(adaptive_weight(reconstruction, adversarial, decoder.conv_out.weight), 1)
        judged = hinge_critic(critic(images), critic(copies.detach()))
        optimizers[0].zero_grad()
        (reconstruction + weight * lam * adversarial).backward()
        optimizers[1].zero_grad()
        judged.backward()
        for optimizer in optimizers:
            optimizer.step()
        return [lam, judged.detach()]
     """),
    # the critic frozen for the decoder's turn, and released for its own
    ("adversarial_step", step(("    copies =", "    critic.requires_grad_(False)\n    copies ="),
                              ("    of_critic.zero", "    critic.requires_grad_(True)\n    of_critic.zero"))),
    ("adversarial_step", step(("critic(images), critic(copies.detach())",
                               "*critic(torch.cat([images, copies.detach()])).chunk(2)"))),
    ("adversarial_step", step(("of_critic.step()", "of_critic.step()\n    of_critic.zero_grad()"))),
]

WRONG = [
    ("hinge_critic", "changed places", "(F.relu(1 - fake).mean() + F.relu(1 + real).mean()) / 2"),
    ("hinge_critic", "1/2", "F.relu(1 - real).mean() + F.relu(1 + fake).mean()"),
    ("hinge_critic", "without relu", "((1 - real).mean() + (1 + fake).mean()) / 2"),
    ("hinge_critic", "margin 1 is missing", "(F.relu(-real).mean() + F.relu(fake).mean()) / 2"),
    ("hinge_critic", "each score", "(F.relu(1 - real.mean()) + F.relu(1 + fake.mean())) / 2"),
    ("hinge_critic", "only the real", "F.relu(1 - real).mean() / 2"),
    ("hinge_critic", "only the fake", "F.relu(1 + fake).mean()"),
    ("hinge_critic", "fake side's sign", "(F.relu(1 - real).mean() + F.relu(1 - fake).mean()) / 2"),
    ("hinge_critic", "real side's sign", "(F.relu(1 + real).mean() + F.relu(1 + fake).mean()) / 2"),
    ("hinge_critic", "not subtracted", "(F.relu(1 - real).mean() - F.relu(1 + fake).mean()) / 2"),
    ("hinge_critic", "means, not sums", "(F.relu(1 - real).sum() + F.relu(1 + fake).sum()) / 2"),
    ("hinge_critic", "raised", "(F.relu(1 - real) + F.relu(1 + fake)) / 2"),
    ("hinge_critic", "own mean",
     "torch.cat([(1 - real).relu().flatten(), (1 + fake).relu().flatten()]).mean()"),
    ("hinge_critic", "sign", "-(F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2"),
    ("hinge_critic", "other side", "-fake.mean()"),
    ("hinge_critic", "soft", "(F.softplus(-real).mean() + F.softplus(fake).mean()) / 2"),
    ("hinge_critic", "should be", "(F.leaky_relu(1 - real).mean() + F.leaky_relu(1 + fake).mean()) / 2"),
    ("hinge_critic", "should be", "((1 - real).clamp(0, 1).mean() + (1 + fake).clamp(0, 1).mean()) / 2"),
    ("hinge_critic", "gradient flows", "((F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2).item()"),
    ("hinge_critic", "reaches fake", "(F.relu(1 - real).mean() + F.relu(1 + fake.detach()).mean()) / 2"),
    ("hinge_critic", "in place", "(F.relu_(real.neg_().add_(1)).mean() + F.relu(1 + fake).mean()) / 2"),
    ("hinge_critic", "one number is wanted", "F.relu(1 - real).mean(), F.relu(1 + fake).mean()"),
    ("hinge_critic", "that is the package's", "losses.hinge_critic(real, fake)"),
    ("hinge_generator", "sign", "fake.mean()"),
    ("hinge_generator", "never good enough", "F.relu(1 - fake).mean()"),
    ("hinge_generator", "critic wants", "F.relu(1 + fake).mean()"),
    ("hinge_generator", "not the sum", "-fake.sum()"),
    ("hinge_generator", "1/2", "-fake.mean() / 2"),
    ("hinge_generator", "the formula is -D", "(1 - fake).mean()"),
    ("hinge_generator", "soft", "F.softplus(-fake).mean()"),
    ("hinge_generator", "shape", "-fake"),
    ("hinge_generator", "no gradient", "-fake.detach().mean()"),
    ("hinge_generator", "places", "-fake.sum((1, 2, 3)).mean()"),
    ("adaptive_weight", "upside down",
     "(grad(adversarial, last_layer).norm() / grad(reconstruction, last_layer).norm()).detach()"),
    ("adaptive_weight", "ratio of the losses", "(reconstruction / adversarial).detach()"),
    ("adaptive_weight", "squared", f"({NORMS}).square().detach()"),
    ("adaptive_weight", "largest", "grad(reconstruction, last_layer).abs().max() "
                                   "/ grad(adversarial, last_layer).abs().max()"),
    ("adaptive_weight", "sums",
     "grad(reconstruction, last_layer).sum() / grad(adversarial, last_layer).sum()"),
    ("adaptive_weight", "means", "grad(reconstruction, last_layer).abs().mean() "
                                 "/ grad(adversarial, last_layer).abs().mean()"),
    ("adaptive_weight", "norm of the ratio",
     "(grad(reconstruction, last_layer) / grad(adversarial, last_layer)).norm()"),
    ("adaptive_weight", "shape",
     "grad(reconstruction, last_layer) / grad(adversarial, last_layer)"),
    ("adaptive_weight", "alone", "grad(reconstruction, last_layer).norm()"),
    ("adaptive_weight", "retain_graph", "a = torch.autograd.grad(reconstruction, last_layer)[0]\n"
                                        "b = torch.autograd.grad(adversarial, last_layer)[0]\n"
                                        "return a.norm() / b.norm()"),
    ("adaptive_weight", "retain_graph", "a = grad(reconstruction, last_layer)\n"
                                        "b = torch.autograd.grad(adversarial, last_layer)[0]\n"
                                        "return a.norm() / b.norm()"),
    ("adaptive_weight", "detach", f"{NORMS} * (reconstruction / reconstruction.detach())"),
    ("adaptive_weight", "last_layer.grad", """
        reconstruction.backward(retain_graph=True)
        a = last_layer.grad.norm()
        last_layer.grad = None
        adversarial.backward(retain_graph=True)
        return a / last_layer.grad.norm()
     """),
    ("adaptive_weight", "the limit 1", f"({NORMS}).clamp(max=1.0).detach()"),
    ("adaptive_weight", "should be", "grad(reconstruction, last_layer).norm() "
                                     "/ (grad(adversarial, last_layer).norm() + 1)"),
    ("adaptive_weight", "raised", "last_layer.grad.norm() / adversarial"),
    ("adaptive_weight", "product",
     "grad(reconstruction, last_layer).norm() * grad(adversarial, last_layer).norm()"),
    # the step: `detach` forgotten, in each way that code can be arranged
    ("adversarial_step", "raised RuntimeError.*second time", step(("copies.detach()", "copies"))),
    ("adversarial_step", "raised RuntimeError", step(
        ("copies.detach()", "copies"), ("loss.backward()", "loss.backward(retain_graph=True)"))),
    ("adversarial_step", "learns to be caught", """
        copies = decoder(latents)
        reconstruction = reconstruction_loss(images, copies)
        adversarial = hinge_generator(critic(copies))
        lam = min(adaptive_weight(reconstruction, adversarial, decoder.conv_out.weight), 1)
        optimizers[0].zero_grad()
        (reconstruction + weight * lam * adversarial).backward(retain_graph=True)
        optimizers[1].zero_grad()
        judged = hinge_critic(critic(images), critic(copies))
        judged.backward()
        for optimizer in optimizers:
            optimizer.step()
        return lam, judged
     """),
    ("adversarial_step", "two things", """
        copies = decoder(latents)
        reconstruction = reconstruction_loss(images, copies)
        adversarial = hinge_generator(critic(copies))
        lam = min(adaptive_weight(reconstruction, adversarial, decoder.conv_out.weight), 1)
        judged = hinge_critic(critic(images), critic(copies))
        for optimizer in optimizers:
            optimizer.zero_grad()
        (reconstruction + weight * lam * adversarial + judged).backward()
        for optimizer in optimizers:
            optimizer.step()
        return lam, judged
     """),
    ("adversarial_step", "decoded anew", step(("critic(copies.detach())",
                                               "critic(decoder(latents).detach())"))),
    ("adversarial_step", "decoded anew|left gradients", step(("critic(copies.detach())",
                                                              "critic(decoder(latents))"))),
    ("adversarial_step", "comes after the decoder's backward", step(
        ("of_decoder.zero_grad()", "of_decoder.zero_grad(); of_critic.zero_grad()"),
        ("    of_critic.zero_grad()\n", ""))),
    ("adversarial_step", "its zero_grad is missing", step(("    of_critic.zero_grad()\n", ""))),
    ("adversarial_step", "decoder's gradients add up", step(("    of_decoder.zero_grad()\n", ""))),
    ("adversarial_step", "critic stays", step(("    of_critic.step()\n", ""))),
    ("adversarial_step", "decoder stays", step(("    of_decoder.step()\n", ""))),
    ("adversarial_step", "decoder's turn comes first", """
        copies = decoder(latents)
        optimizers[1].zero_grad()
        judged = hinge_critic(critic(images), critic(copies.detach()))
        judged.backward()
        optimizers[1].step()
        reconstruction = reconstruction_loss(images, copies)
        adversarial = hinge_generator(critic(copies))
        lam = min(adaptive_weight(reconstruction, adversarial, decoder.conv_out.weight), 1)
        optimizers[0].zero_grad()
        (reconstruction + weight * lam * adversarial).backward()
        optimizers[0].step()
        return lam, judged
     """),
    ("adversarial_step", "wrong sign", step(("weight * lam * adversarial", "-weight * lam * adversarial"),
                                            ("reconstruction + -", "reconstruction - "))),
    ("adversarial_step", "balance is missing", step(("weight * lam *", "weight *"))),
    ("adversarial_step", "at most 1", step(("min(adaptive", "max(adaptive"), (", 1)\n", ", 0)\n"))),
    ("adversarial_step", "`weight` is missing", step(("weight * lam *", "lam *"))),
    ("adversarial_step", "raised|not detached", step(("hinge_generator(critic(copies))",
                                                      "hinge_generator(critic(copies.detach()))"))),
    ("adversarial_step", "real and fake", step(("critic(images), critic(copies.detach())",
                                                "critic(copies.detach()), critic(images)"))),
    ("adversarial_step", "reconstruction loss is missing", step(("loss = reconstruction + ", "loss = "))),
    ("adversarial_step", "adversarial term is missing", step((" + weight * lam * adversarial", ""))),
    ("adversarial_step", "None", step(("return lam, judged", "return None"))),
    ("adversarial_step", "two numbers", step(("return lam, judged", "return judged"))),
    ("adversarial_step", "balance, which comes first", step(("return lam, judged", "return judged, lam"))),
    ("adversarial_step", "comes second", step(("return lam, judged", "return lam, loss"))),
    ("adversarial_step", "weights of the|right, the second", step(("weight * lam", "0.6 * lam"))),
    ("adversarial_step", "weights of the", step(("reconstruction_loss(images, copies)",
                                                 "(images - copies).square().mean()"))),
    ("adversarial_step", "raised", step(("decoder.conv_out.weight", "decoder.conv_out.bias.data"))),
    ("adversarial_step", "that is the package's", "losses.sharp_losses(decoder, critic, 0, 0, images)"),
]


test_right_answers_pass, test_wrong_answers_are_told_what_is_wrong = right_and_wrong(RIGHT, WRONG, HELPERS)


def test_each_mistaken_step_leaves_other_weights_than_all_others():
    """For one critic at least; so a message can't belong to another mistake."""
    causes = {"right": lesson_02_step.adversarial_step, **WRONG_STEPS}
    left = {}
    for cause, one in causes.items():
        results = [play(one, steepness, weight) for steepness, weight in ((3.0, 0.6), (0.02, 1.7))]
        left[cause] = torch.cat([part for r in results for part in (r.decoder[-1], r.critic[-1])])
    names = list(left)
    for i, a in enumerate(names):
        for b in names[i + 1:]:
            assert (left[a] - left[b]).abs().max() > 1e-3, (a, b)


def test_one_critic_is_balanced_below_the_limit_and_one_above():
    balances = [play(WRONG_STEPS["the balance is at most 1"], steepness, 1.0).balances[0]
                for steepness in (3.0, 0.02)]
    assert balances[0] < 0.7 and balances[1] > 1.5
