"""Lesson 07's checks: right answers in any style pass; wrong ones are told what is wrong."""

import random
import re

import pytest
from support.answers import cases, passes, told, written

from minildm.nn.layers import attention

HELPERS = {"random": random}
# a word for each caption, as most answers begin
DRAWN = "torch.rand(len(ids), 1, generator=generator)"
RIGHT = [
    ("cross_attention", "(q @ k.transpose(1, 2) / q.shape[-1]**0.5).softmax(dim=-1) @ v"),
    ("cross_attention", "F.scaled_dot_product_attention(q, k, v)"),
    ("cross_attention", """
        scores = torch.einsum("bpd,bwd->bpw", q, k) / math.sqrt(q.size(-1))
        weights = torch.exp(scores - scores.max(-1, keepdim=True).values)
        weights = weights / weights.sum(-1, keepdim=True)
        return torch.einsum("bpw,bwd->bpd", weights, v)
     """),
    ("cross_attention", """
        pictures = []
        for one_q, one_k, one_v in zip(q.double(), k.double(), v.double()):
            weights = F.softmax(one_q @ one_k.T * q.shape[2]**-0.5, dim=1)
            pictures.append(weights @ one_v)
        return torch.stack(pictures).to(q.dtype)
     """),
    ("cross_attention", """
        scores = torch.bmm(k, q.mT) / q.shape[-1]**0.5
        return torch.bmm(scores.softmax(1).mT, v)
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
    ("cross_attention", "over the positions", "(q @ k.mT / q.shape[-1]**0.5).softmax(1) @ v"),
    ("cross_attention", "over the batch", "F.softmax(q @ k.mT / q.shape[-1]**0.5) @ v"),
    ("cross_attention", "sqrt", "(q @ k.mT).softmax(-1) @ v"),
    ("cross_attention", "by its root|its root", "(q @ k.mT / q.shape[-1]).softmax(-1) @ v"),
    ("cross_attention", "multiplied by sqrt", "(q @ k.mT * q.shape[-1]**0.5).softmax(-1) @ v"),
    ("cross_attention", "number of words", "(q @ k.mT / k.shape[1]**0.5).softmax(-1) @ v"),
    ("cross_attention", "number of positions", "(q @ k.mT / q.shape[1]**0.5).softmax(-1) @ v"),
    ("cross_attention", "root of 4", "(q @ k.mT / 2).softmax(-1) @ v"),
    ("cross_attention", "sum to 1", "q @ k.mT / q.shape[-1]**0.5 @ v"),
    ("cross_attention", "exponentials", "(q @ k.mT / q.shape[-1]**0.5).exp() @ v"),
    ("cross_attention", "values, not the keys", "(q @ k.mT / q.shape[-1]**0.5).softmax(-1) @ k"),
    ("cross_attention", "values stand in", "(q @ v.mT / q.shape[-1]**0.5).softmax(-1) @ v"),
    ("cross_attention", "changed places", "(q @ v.mT / q.shape[-1]**0.5).softmax(-1) @ k"),
    ("cross_attention", "mix the values", "(q @ k.mT / q.shape[-1]**0.5).softmax(-1)"),
    ("cross_attention", "their softmax", "q @ k.mT / q.shape[-1]**0.5"),
    ("cross_attention", "mean of all words", "v.mean(1, keepdim=True).expand_as(q)"),
    ("cross_attention", "before the softmax", "(q @ k.mT).softmax(-1) / q.shape[-1]**0.5 @ v"),
    ("cross_attention", "queries are added", "q + (q @ k.mT / q.shape[-1]**0.5).softmax(-1) @ v"),
    ("cross_attention", "raised", "(q @ k / q.shape[-1]**0.5).softmax(-1) @ v"),
    ("cross_attention", "raised", "(q @ k.transpose(0, 2) / q.shape[-1]**0.5).softmax(-1) @ v"),
    ("cross_attention", "gradient to k", "(q @ k.detach().mT / q.shape[-1]**0.5).softmax(-1) @ v"
                                         " + 0 * k.sum()"),
    ("cross_attention", "reaches v", "(q @ k.mT / q.shape[-1]**0.5).softmax(-1) @ v.detach()"),
    ("cross_attention", "type", "((q @ k.mT / q.shape[-1]**0.5).softmax(-1) @ v).double()"),
    ("cross_attention", "return", "scores = q @ k.mT\nreturn"),
    ("cross_attention", "in place", "q *= q.shape[-1]**-0.5\nreturn (q @ k.mT).softmax(-1) @ v"),
    ("cross_attention", "shape", "((q @ k.mT / q.shape[-1]**0.5).softmax(-1) @ v).mT"),
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


@pytest.mark.parametrize("name, body", cases(RIGHT))
def test_right_answers_pass(name, body):
    passes(name, written(name, body, HELPERS))


@pytest.mark.filterwarnings("ignore:Implicit dimension choice")
@pytest.mark.parametrize("name, said, body", cases(WRONG))
def test_wrong_answers_are_told_what_is_wrong(name, said, body):
    assert re.search(said, told(name, written(name, body, HELPERS)))


def test_the_packages_functions_are_nobodys_answer():
    assert "write yours" in told(
        "cross_attention", lambda q, k, v: attention(q[:, None], k[:, None], v[:, None])[:, 0])
