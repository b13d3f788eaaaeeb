"""Lesson 02's checks: right answers in any style pass; wrong ones are told what is wrong."""

import re

import pytest
import torch
from support.answers import cases, passes, told, written


def gradient(loss, weight):
    return torch.autograd.grad(loss, weight, retain_graph=True)[0]


def top(rows, c):
    centred = rows - rows.mean(0)
    return torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -c:]


HELPERS = {"grad": gradient, "top": top}
STAGES = "sum({} for a, b in zip(maps_a, maps_b))"
UNITS = """
    total = 0
    for a, b in zip(maps_a, maps_b):
        a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
        total = total + {}
    return total
"""
NORMS = "grad(reconstruction, last_layer).norm() / grad(adversarial, last_layer).norm()"

RIGHT = [
    ("linear_copy", "rows.mean(0) + (rows - rows.mean(0)) @ top(rows, c) @ top(rows, c).T"),
    ("linear_copy", """
        u, s, v = torch.linalg.svd(rows - rows.mean(0), full_matrices=False)
        return rows.mean(0) + u[:, :c] * s[:c] @ v[:c]
     """),
    ("linear_copy", """
        vectors = torch.linalg.eigh(rows.T.cov()).eigenvectors.flip(1)[:, :c]
        out = rows.mean(0).expand(rows.shape).clone()
        for i in range(c):
            out += torch.outer((rows - rows.mean(0)) @ vectors[:, i], vectors[:, i])
        return out
     """),
    ("mean_weight", "sum_weight * latents / pixels"),
    ("mean_weight", "torch.tensor(sum_weight) * (latents / pixels)"),
    ("mean_weight", "sum_weight / (pixels / latents)"),
    ("perceptual", STAGES.format("2 - 2 * F.cosine_similarity(a, b, dim=1).mean()")),
    ("perceptual", UNITS.format("(a - b).square().sum(1).mean()")),
    ("perceptual", UNITS.format("torch.einsum('bchw,bchw->bhw', a - b, a - b).mean()")),
    ("perceptual", """
        losses = []
        for i in range(len(maps_a)):
            with torch.no_grad():
                a = maps_a[i] / (maps_a[i]**2).sum(1, keepdim=True).sqrt()
            b = maps_b[i] / (maps_b[i]**2).sum(1, keepdim=True).sqrt()
            losses.append(((a - b)**2).sum(1).mean())
        return torch.stack(losses).sum()
     """),
    ("hinge", "(F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2"),
    ("hinge", "0.5 * ((1 - real).clamp(min=0).mean() + (1 + fake).clamp(min=0).mean())"),
    ("hinge", "torch.maximum(1 - real, torch.zeros(1)).mean() / 2 + torch.relu(fake + 1).mean() / "
              "2"),
    ("adaptive_weight", f"({NORMS}).detach()"),
    ("adaptive_weight", f"({NORMS}).item()"),
    ("adaptive_weight", """
        r, = torch.autograd.grad(reconstruction, last_layer, retain_graph=True)
        a, = torch.autograd.grad(adversarial, last_layer, retain_graph=True)
        return (r.square().sum().sqrt() / (a.square().sum().sqrt() + 1e-4)).clamp(0, 1e4).detach()
     """),
]

WRONG = [
    ("linear_copy", "vary least",
     "v = torch.linalg.eigh((rows - rows.mean(0)).T @ (rows - rows.mean(0)))"
                                  ".eigenvectors[:, :c]\n"
                                  "return rows.mean(0) + (rows - rows.mean(0)) @ v @ v.T"),
    ("linear_copy", "isn't added", "(rows - rows.mean(0)) @ top(rows, c) @ top(rows, c).T"),
    ("linear_copy", "isn't subtracted first",
     "u, s, v = torch.linalg.svd(rows, full_matrices=False)\n"
                                              "return u[:, :c] * s[:c] @ v[:c]"),
    ("linear_copy", "aren't centred", "rows @ top(rows, c) @ top(rows, c).T"),
    ("linear_copy", "wasn't subtracted", "rows.mean(0) + rows @ top(rows, c) @ top(rows, c).T"),
    ("linear_copy", "c numbers", "(rows - rows.mean(0)) @ top(rows, c)"),
    ("linear_copy", "leaves out",
     "rows - rows.mean(0) - (rows - rows.mean(0)) @ top(rows, c) @ top(rows, c).T"),
    ("linear_copy", "one direction more", "rows.mean(0) + (rows - rows.mean(0)) @ top(rows, c + 1) "
                                          "@ top(rows, c + 1).T"),
    ("linear_copy", "one direction less|differs",
     "rows.mean(0) + (rows - rows.mean(0)) @ top(rows, c)[:, 1:] "
                                                  "@ top(rows, c)[:, 1:].T"),
    ("linear_copy", "unchanged|kept", "rows"),
    ("linear_copy", "you took rows",
     "v = torch.linalg.eigh((rows - rows.mean(0)).T @ (rows - rows.mean(0)))"
                                     ".eigenvectors[-c:]\n"
                                     "return rows.mean(0) + (rows - rows.mean(0)) @ v.T @ v"),
    ("linear_copy", "first inputs",
     "rows.mean(0) + (rows - rows.mean(0)) @ top(rows, 2) @ top(rows, 2).T"),
    ("linear_copy", "in place",
     "m = rows.mean(0)\nrows -= m\nv = top(rows, c)\nreturn m + rows @ v @ v.T"),
    ("linear_copy", "raised",
     "rows.mean(1) + (rows - rows.mean(1)) @ top(rows, c) @ top(rows, c).T"),
    ("linear_copy", "wrong", "m = rows.mean(1, keepdim=True)\nreturn m + (rows - m) @ top(rows, c) "
                               "@ top(rows, c).T"),
    ("linear_copy", "differs|wrong", "rows.median(0).values + (rows - rows.mean(0)) @ top(rows, c) "
                                     "@ top(rows, c).T"),
    ("linear_copy", "a tuple", "(rows - rows.mean(0)) @ top(rows, c), top(rows, c)"),
    ("linear_copy", "differs|mean", "rows.mean(0).expand(rows.shape)"),
    ("mean_weight", "wrong way round", "sum_weight * pixels / latents"),
    ("mean_weight", "pixels only", "sum_weight / pixels"),
    ("mean_weight", "latents only", "sum_weight * latents"),
    ("mean_weight", "divided by the latents", "sum_weight / latents"),
    ("mean_weight", "unchanged", "sum_weight"),
    ("mean_weight", "sum_weight is missing", "latents / pixels"),
    ("mean_weight", "doesn't divide", "latents / pixels / sum_weight"),
    ("mean_weight", "no root", "sum_weight * math.sqrt(latents / pixels)"),
    ("mean_weight", "no squares", "sum_weight * (latents / pixels)**2"),
    ("mean_weight", "both together", "sum_weight * latents / (latents + pixels)"),
    ("mean_weight", "should be", "sum_weight * (latents // pixels)"),
    ("mean_weight", "should be", "round(sum_weight * latents / pixels, 3)"),
    ("mean_weight", "2 times", "2 * sum_weight * latents / pixels"),
    ("mean_weight", "first inputs", "0.3 * latents / pixels"),
    ("mean_weight", "first inputs", "sum_weight * latents / 3072"),
    ("mean_weight", "first inputs", "sum_weight / 12"),
    ("mean_weight", "should be", "sum_weight * (pixels - latents) / pixels"),
    ("mean_weight", "a str", "f'{sum_weight * latents / pixels}'"),
    ("perceptual", "length one", STAGES.format("(a - b).square().sum(1).mean()")),
    ("perceptual", "channels are summed", STAGES.format("F.mse_loss(a, b)")),
    ("perceptual", "mean over channels", UNITS.format("(a - b).square().mean()")),
    ("perceptual", "sum over positions", UNITS.format("(a - b).square().sum()")),
    ("perceptual", "only the batch", UNITS.format("(a - b).square().sum((1, 2, 3)).mean()")),
    ("perceptual", "not the last axis",
     STAGES.format("(F.normalize(a, dim=-1) - F.normalize(b, dim=-1)).square().sum(1).mean()")),
    ("perceptual", "whole map", STAGES.format(
        "(F.normalize(a, dim=(1, 2, 3)) - F.normalize(b, dim=(1, 2, 3))).square().sum(1).mean()")),
    ("perceptual", "isn't squared", UNITS.format("(a - b).abs().sum(1).mean()")),
    ("perceptual", "signs cancel", UNITS.format("(a - b).sum(1).mean()")),
    ("perceptual", "root", UNITS.format("(a - b).norm(dim=1).mean()")),
    ("perceptual", "similarity", STAGES.format("F.cosine_similarity(a, b, dim=1).mean()")),
    ("perceptual", "half", STAGES.format("1 - F.cosine_similarity(a, b, dim=1).mean()")),
    ("perceptual", "averaged", UNITS.format("(a - b).square().sum(1).mean() / len(maps_a)")),
    ("perceptual", "only the last",
     UNITS.replace("total + ", "").format("(a - b).square().sum(1).mean()")),
    ("perceptual", "only the first", """
        a, b = F.normalize(maps_a[0], dim=1), F.normalize(maps_b[0], dim=1)
        return (a - b).square().sum(1).mean()
     """),
    ("perceptual", "first inputs.*IndexError", """
        total = 0
        for i in range(3):
            a, b = F.normalize(maps_a[i], dim=1), F.normalize(maps_b[i], dim=1)
            total = total + (a - b).square().sum(1).mean()
        return total
     """),
    ("perceptual", "only one side",
     STAGES.format("(F.normalize(a, dim=1) - b).square().sum(1).mean()")),
    ("perceptual", "no gradient", UNITS.format("(a - b).square().sum(1).mean().item()")),
    ("perceptual", "no gradient", "with torch.no_grad():" + UNITS.replace("\n", "\n    ").format(
        "(a - b).square().sum(1).mean()")),
    ("perceptual", "shape", UNITS.format("(a - b).square().sum(1).mean((1, 2))")),
    ("perceptual", "a list of",
     "[(F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(1).mean() "
                                "for a, b in zip(maps_a, maps_b)]  # return"
     .replace("[(F", "return [(F").replace("  # return", "")),
    ("perceptual", "raised", "(torch.cat(maps_a) - torch.cat(maps_b)).square().sum(1).mean()"),
    ("perceptual", "in place", """
        for i in range(len(maps_a)):
            maps_a[i] = F.normalize(maps_a[i], dim=1)
        pairs = zip(maps_a, maps_b)
        return sum((a - F.normalize(b, dim=1)).square().sum(1).mean() for a, b in pairs)
     """),
    ("hinge", "changed places", "(F.relu(1 - fake).mean() + F.relu(1 + real).mean()) / 2"),
    ("hinge", "1/2", "F.relu(1 - real).mean() + F.relu(1 + fake).mean()"),
    ("hinge", "without relu", "((1 - real).mean() + (1 + fake).mean()) / 2"),
    ("hinge", "margin 1 is missing", "(F.relu(-real).mean() + F.relu(fake).mean()) / 2"),
    ("hinge", "each score", "(F.relu(1 - real.mean()) + F.relu(1 + fake.mean())) / 2"),
    ("hinge", "only the real", "F.relu(1 - real).mean() / 2"),
    ("hinge", "only the fake", "F.relu(1 + fake).mean()"),
    ("hinge", "fake side's sign", "(F.relu(1 - real).mean() + F.relu(1 - fake).mean()) / 2"),
    ("hinge", "real side's sign", "(F.relu(1 + real).mean() + F.relu(1 + fake).mean()) / 2"),
    ("hinge", "not subtracted", "(F.relu(1 - real).mean() - F.relu(1 + fake).mean()) / 2"),
    ("hinge", "means, not sums", "(F.relu(1 - real).sum() + F.relu(1 + fake).sum()) / 2"),
    ("hinge", "raised", "(F.relu(1 - real) + F.relu(1 + fake)) / 2"),
    ("hinge", "own mean",
     "torch.cat([(1 - real).relu().flatten(), (1 + fake).relu().flatten()]).mean()"),
    ("hinge", "sign", "-(F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2"),
    ("hinge", "other side", "-fake.mean()"),
    ("hinge", "soft", "(F.softplus(-real).mean() + F.softplus(fake).mean()) / 2"),
    ("hinge", "should be", "(F.leaky_relu(1 - real).mean() + F.leaky_relu(1 + fake).mean()) / 2"),
    ("hinge", "should be", "((1 - real).clamp(0, 1).mean() + (1 + fake).clamp(0, 1).mean()) / 2"),
    ("hinge", "gradient flows", "((F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2).item()"),
    ("hinge", "reaches fake", "(F.relu(1 - real).mean() + F.relu(1 + fake.detach()).mean()) / 2"),
    ("hinge", "in place", "(F.relu_(real.neg_().add_(1)).mean() + F.relu(1 + fake).mean()) / 2"),
    ("hinge", "one number is wanted", "F.relu(1 - real).mean(), F.relu(1 + fake).mean()"),
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
    ("adaptive_weight", "should be", f"({NORMS}).clamp(max=1.0).detach()"),
    ("adaptive_weight", "should be", "grad(reconstruction, last_layer).norm() "
                                     "/ (grad(adversarial, last_layer).norm() + 1)"),
    ("adaptive_weight", "should be", "grad(reconstruction, last_layer).abs().sum() "
                                     "/ grad(adversarial, last_layer).abs().sum() * 0.99"),
    ("adaptive_weight", "raised", "last_layer.grad.norm() / adversarial"),
    ("adaptive_weight", "product",
     "grad(reconstruction, last_layer).norm() * grad(adversarial, last_layer).norm()"),
]


@pytest.mark.parametrize("name, body", cases(RIGHT))
def test_right_answers_pass(name, body):
    passes(name, written(name, body, HELPERS))


@pytest.mark.parametrize("name, said, body", cases(WRONG))
def test_wrong_answers_are_told_what_is_wrong(name, said, body):
    assert re.search(said, told(name, written(name, body, HELPERS)))
