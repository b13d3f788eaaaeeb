"""Lesson 06's checks of losses: right answers in any style pass; wrong ones are told why."""


from support.answers import right_and_wrong, told, written

from minildm.nn.clip import contrastive_loss

RIGHT = [
    ("clip_loss", """
        i, t = F.normalize(image_vectors, dim=1), F.normalize(text_vectors, dim=1)
        logits, k = i @ t.T / temperature, torch.arange(len(i))
        return (F.cross_entropy(logits, k) + F.cross_entropy(logits.T, k)) / 2
     """),
    ("clip_loss", """
        i = image_vectors / image_vectors.norm(dim=-1, keepdim=True)
        t = text_vectors / text_vectors.norm(dim=-1, keepdim=True)
        logits = torch.einsum("id,jd->ij", i, t) / temperature
        rows = -logits.log_softmax(1).diagonal().mean()
        columns = -logits.log_softmax(0).diagonal().mean()
        return 0.5 * (rows + columns)
     """),
    ("clip_loss", """
        cosines = F.cosine_similarity(image_vectors[:, None], text_vectors[None], dim=2)
        logits = cosines.double() / temperature
        both = torch.stack([logits.logsumexp(0), logits.logsumexp(1)])
        return (both.mean() - logits.trace() / len(logits)).float()
     """),
    ("clip_loss", """
        i, t = F.normalize(image_vectors), F.normalize(text_vectors)
        logits, true = i @ t.mT * (1 / temperature), torch.eye(len(i))
        return (F.cross_entropy(logits, true) + F.cross_entropy(logits.mT, true)) / 2
     """),
    ("shared_targets", "(meaning[:, None] == meaning) / (meaning[:, None] == meaning).sum(1)"),
    ("shared_targets", "F.normalize((meaning[None] == meaning[:, None]).float(), p=1, dim=1)"),
    ("shared_targets", """
        one_hot = F.one_hot(meaning).float()
        same = one_hot @ one_hot.T
        return same / same.sum(1, keepdim=True)
     """),
    ("shared_targets", """
        out = torch.zeros(len(meaning), len(meaning))
        for k, own in enumerate(meaning.tolist()):
            true = meaning == own
            out[k, true] = 1 / true.sum().item()
        return out
     """),
    ("shared_targets", """
        same = torch.where(meaning[:, None] == meaning, 0.0, -float("inf"))
        return same.softmax(1)
     """),
]

NORMED = """
    i, t = F.normalize(image_vectors, dim=1), F.normalize(text_vectors, dim=1)
    k = torch.arange(len(i))
"""
LOGITS = NORMED + "    logits = i @ t.T / temperature\n"
BOTH = "    return (F.cross_entropy(logits, k) + F.cross_entropy(logits.T, k)) / 2"
SAME = "    same = (meaning[:, None] == meaning).float()\n"


WRONG = [
    ("clip_loss", "sentences choose a picture", LOGITS + "    return F.cross_entropy(logits, k)"),
    ("clip_loss", "pictures choose a sentence", LOGITS + "    return F.cross_entropy(logits.T, k)"),
    ("clip_loss", "not their sum",
     LOGITS + "    return F.cross_entropy(logits, k) + F.cross_entropy(logits.T, k)"),
    ("clip_loss", "divide by the temperature",
     NORMED + "    logits = i @ t.T * temperature\n" + BOTH),
    ("clip_loss", "temperature is missing", NORMED + "    logits = i @ t.T\n" + BOTH),
    ("clip_loss", "logarithm",
     NORMED + "    logits = i @ t.T * math.exp(temperature)\n" + BOTH),
    ("clip_loss", "length one first", """
        logits = image_vectors @ text_vectors.T / temperature
        k = torch.arange(len(logits))
     """ + BOTH[4:].join(["   ", ""])),
    ("clip_loss", "not over the batch", LOGITS.replace("dim=1", "dim=0") + BOTH),
    ("clip_loss", "cosines: cross", NORMED + "    return -(i * t).sum(1).mean()"),
    ("clip_loss", "logits: cross", LOGITS + "    return -logits.diagonal().mean()"),
    ("clip_loss", "softmax inside", LOGITS + """
    rows = F.cross_entropy(logits.softmax(1), k)
    return (rows + F.cross_entropy(logits.T.softmax(1), k)) / 2"""),
    ("clip_loss", "over the batch, not the sum", LOGITS + """
    rows = F.cross_entropy(logits, k, reduction="sum")
    return (rows + F.cross_entropy(logits.T, k, reduction="sum")) / 2"""),
    ("clip_loss", "over the batch and both", LOGITS + """
    rows = F.cross_entropy(logits, k, reduction="sum")
    return rows + F.cross_entropy(logits.T, k, reduction="sum")"""),
    ("clip_loss", "smaller loss", LOGITS + BOTH.replace("return (", "return -(")),
    ("clip_loss", "by itself", LOGITS + """
    return F.binary_cross_entropy_with_logits(logits, torch.eye(len(i)))"""),
    ("clip_loss", "sentences' vectors", LOGITS.replace(
        "F.normalize(text_vectors, dim=1)", "text_vectors") + BOTH),
    ("clip_loss", "pictures' vectors", LOGITS.replace(
        "F.normalize(image_vectors, dim=1)", "image_vectors") + BOTH),
    ("clip_loss", "with sentences", LOGITS.replace("i @ t.T", "i @ i.T") + BOTH),
    ("clip_loss", "raised|shape", LOGITS.replace("i @ t.T", "i.T @ t") + BOTH),
    ("clip_loss", "raised|should be", LOGITS.replace("len(i)", "5") + BOTH),
    ("clip_loss", "no gradient",
     LOGITS.replace("logits = i", "logits = i.detach()").replace("t.T", "t.T.detach()") + BOTH),
    ("clip_loss", "no gradient", LOGITS + "    return ((F.cross_entropy(logits, k)"
     " + F.cross_entropy(logits.T, k)) / 2).item()"),
    ("clip_loss", "reaches text_vectors", LOGITS.replace("t.T", "t.T.detach()") + BOTH),
    ("clip_loss", "reaches temperature|not for others|should be",
     LOGITS.replace("temperature", "0.3") + BOTH),
    ("clip_loss", "shape", LOGITS + """
    return F.cross_entropy(logits, k, reduction="none")"""),
    ("shared_targets", "sum to 1", "(meaning[:, None] == meaning).float()"),
    ("shared_targets", "sum to 1", "meaning[:, None] == meaning"),
    ("shared_targets", "only the own", "torch.eye(len(meaning))"),
    ("shared_targets", "softmax", "(meaning[:, None] == meaning).float().softmax(1)"),
    ("shared_targets", "by the batch", "(meaning[:, None] == meaning) / len(meaning)"),
    ("shared_targets", "in all rows", SAME + "    return same / same.sum()"),
    ("shared_targets", "by the number of meanings",
     SAME + "    return same / len(meaning.unique())"),
    ("shared_targets", "root", "F.normalize((meaning[:, None] == meaning).float(), dim=1)"),
    ("shared_targets", "other way", """
        other = (meaning[:, None] != meaning).float()
        return other / other.sum(1, keepdim=True)
     """),
    ("shared_targets", "raised|batch|not for others", SAME + "    return same / 6"),
    ("shared_targets", "multiplied", SAME + "    return same * same.sum(1, keepdim=True)"),
    ("shared_targets", "NaN|infinite", SAME + """
    same = same - torch.eye(len(same))
    return same / same.sum(1, keepdim=True)"""),
    ("shared_targets", "one too many", SAME + "    return same / (same.sum(1, keepdim=True) + 1)"),
    ("shared_targets", "later", SAME + "    return same.tril() / same.tril().sum(1, keepdim=True)"),
    ("shared_targets", "raised", """
        one_hot = F.one_hot(meaning, 10).float()
        return one_hot @ one_hot.T / (one_hot @ one_hot.T).sum(1, keepdim=True)
     """),
    ("shared_targets", "names", "(-(meaning[:, None] - meaning).abs().float()).softmax(1)"),
    ("shared_targets", "shape", SAME + "    return same.mean(1)"),
    ("shared_targets", "type", SAME + "    return (same / same.sum(1, keepdim=True)).double()"),
    ("shared_targets", "return", SAME + "    same /= same.sum(1, keepdim=True)\n    return"),
]


test_right_answers_pass, test_wrong_answers_are_told_what_is_wrong = right_and_wrong(RIGHT, WRONG)


def test_the_packages_functions_are_nobodys_answer():
    body = """
        cosines = F.normalize(image_vectors) @ F.normalize(text_vectors).T
        return contrastive_loss(cosines / temperature)
    """
    answer = written("clip_loss", body, {"contrastive_loss": contrastive_loss})
    assert "write yours" in told("clip_loss", answer)
