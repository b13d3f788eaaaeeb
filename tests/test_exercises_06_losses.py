"""Lesson 06's checks of loss, step and scores: right answers in any style pass; wrong ones are told."""


from support.answers import changed, right_and_wrong, told, written

from minildm.course.exercises.lesson_06_loss import clip_loss
from minildm.nn.clip import CLIP, class_vectors, contrastive_loss

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
]

STEP = """
    loss = clip_loss(clip.encode_images(pictures), clip.encode_text(ids), (-clip.log_scale).exp())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        clip.log_scale.clamp_(max=math.log(100))
    return loss.detach()
"""
SCORES = """
    each = F.normalize(text_vectors, dim=-1)
    classes = F.normalize(each.mean(1), dim=-1)
    return F.normalize(image_vectors, dim=-1) @ classes.T
"""


CLAMP = "    with torch.no_grad():\n        clip.log_scale.clamp_(max=math.log(100))\n"
RIGHT += [
    ("clip_step", STEP),
    ("clip_step", changed(STEP, ("(-clip.log_scale).exp()", "1 / clip.log_scale.exp()"))),
    ("clip_step", changed(STEP, (CLAMP, "    clip.log_scale.data.clamp_(max=4.605170186)\n"))),
    ("clip_step", changed(STEP, ("loss.detach()", "loss.item()"))),
    ("clip_step", changed(STEP, ("    optimizer.zero_grad()\n", ""),
                          ("    return", "    optimizer.zero_grad()\n    return"))),
    ("sentence_scores", SCORES),
    ("sentence_scores", changed(SCORES, ("each.mean(1)", "each.sum(1)"))),
    ("sentence_scores", """
        u = image_vectors / image_vectors.norm(dim=1, keepdim=True)
        rows = []
        for sentences in text_vectors:
            mean = (sentences / sentences.norm(dim=1, keepdim=True)).mean(0)
            rows.append(u @ (mean / mean.norm()))
        return torch.stack(rows, 1)
     """),
    ("sentence_scores", """
        classes = F.normalize(text_vectors, dim=2).mean(dim=1)
        return F.cosine_similarity(image_vectors[:, None], classes[None], dim=2)
     """),
]

NORMED = """
    i, t = F.normalize(image_vectors, dim=1), F.normalize(text_vectors, dim=1)
    k = torch.arange(len(i))
"""
LOGITS = NORMED + "    logits = i @ t.T / temperature\n"
BOTH = "    return (F.cross_entropy(logits, k) + F.cross_entropy(logits.T, k)) / 2"


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
]
WRONG += [
    ("clip_step", "zero_grad", changed(STEP, ("    optimizer.zero_grad()\n", ""))),
    ("clip_step", "needs the gradients", changed(STEP, ("    optimizer.step()\n", ""))),
    ("clip_step", "needs the gradients", changed(STEP, ("    loss.backward()\n", ""))),
    ("clip_step", "needs the gradients", changed(STEP, (
        "    optimizer.zero_grad()\n", ""), ("    optimizer.step()\n",
                                             "    optimizer.zero_grad()\n    optimizer.step()\n"))),
    ("clip_step", "comes before|stay as they were", changed(STEP, ("    loss.backward()\n", ""), (
        "    optimizer.step()\n", "    optimizer.step()\n    loss.backward()\n"))),
    ("clip_step", "beyond its limit", changed(STEP, (CLAMP, ""))),
    ("clip_step", "for log_scale", changed(STEP, ("math.log(100)", "100"))),
    ("clip_step", "may fall below 0", changed(STEP, ("clamp_(max=", "clamp_(0, "))),
    ("clip_step", "training mode", changed(STEP, (
        "    optimizer.step()", "    clip.eval()\n    optimizer.step()"))),
    ("clip_step", "after the step", changed(STEP, (CLAMP, ""), (
        "    optimizer.zero_grad()\n", CLAMP + "    optimizer.zero_grad()\n"))),
    ("clip_step", "sign is wrong", changed(STEP, ("(-clip.log_scale)", "clip.log_scale"))),
    ("clip_step", "logarithm", changed(STEP, ("(-clip.log_scale).exp()", "1 / clip.log_scale"))),
    ("clip_step", "no temperature", changed(STEP, ("(-clip.log_scale).exp()", "clip.log_scale"))),
    ("clip_step", "is learned", changed(STEP, (".exp())", ".exp().detach())"))),
    ("clip_step", "is learned", changed(STEP, (".exp())", ".exp().item())"))),
    ("clip_step", "both directions", """
        i = F.normalize(clip.encode_images(pictures), dim=1)
        t = F.normalize(clip.encode_text(ids), dim=1)
        loss = F.cross_entropy(i @ t.T * clip.log_scale.exp(), torch.arange(len(i)))
     """ + changed(STEP, (STEP.split("\n")[1], "")).replace("\n    ", "\n        ")),
    ("clip_step", "detach it", changed(STEP, ("loss.detach()", "loss"))),
    ("clip_step", "None|return", changed(STEP, ("return loss.detach()", "return"))),
    ("clip_step", "no gradients are recorded", changed(STEP, ("    with torch.no_grad():\n    ", ""))),
    ("clip_step", "loss that is returned|one number", changed(STEP, ("loss.detach()", "2 * loss.detach()"))),
    ("sentence_scores", "normalise it again", changed(SCORES, (
        "F.normalize(each.mean(1), dim=-1)", "each.mean(1)"))),
    ("sentence_scores", "counts alike", changed(SCORES, (
        "F.normalize(text_vectors, dim=-1)", "text_vectors"))),
    ("sentence_scores", "pictures' vectors", changed(SCORES, (
        "F.normalize(image_vectors, dim=-1)", "image_vectors"))),
    ("sentence_scores", "nothing here", "image_vectors @ text_vectors.mean(1).T"),
    ("sentence_scores", "not the best", """
        every = torch.einsum("nd,kwd->nkw", F.normalize(image_vectors), F.normalize(text_vectors, dim=2))
        return every.max(2).values
     """),
    ("sentence_scores", "not the first", changed(SCORES, ("each.mean(1)", "each[:, 0]"))),
    ("sentence_scores", "over the wordings|shape", changed(SCORES, ("each.mean(1)", "each.mean(0)"))),
    ("sentence_scores", "transpose", changed(SCORES, (
        "return F.normalize(image_vectors, dim=-1) @ classes.T",
        "return classes @ F.normalize(image_vectors, dim=-1).T"))),
    ("sentence_scores", "not the class", changed(SCORES, ("@ classes.T", "@ classes.T).argmax(1)"),
                                                 ("return F", "return (F"))),
    ("sentence_scores", "softmax", changed(SCORES, ("@ classes.T", "@ classes.T).softmax(1)"),
                                           ("return F", "return (F"))),
    ("sentence_scores", "take the mean", """
        return torch.einsum("nd,kwd->nkw", F.normalize(image_vectors), F.normalize(text_vectors, dim=2))
     """),
    ("sentence_scores", "right for the first|raised|shape|should be", changed(SCORES, (
        "each.mean(1)", "each.sum(1)[:4]"))),
    ("sentence_scores", "in place", """
        text_vectors /= text_vectors.norm(dim=-1, keepdim=True)
    """ + SCORES.replace("\n    ", "\n        ")),
    ("sentence_scores", "return", changed(SCORES, ("return F", "F"), ("classes.T", "classes.T\n    return"))),
]



test_right_answers_pass, test_wrong_answers_are_told_what_is_wrong = right_and_wrong(
    RIGHT, WRONG, {"clip_loss": clip_loss})


def test_the_packages_functions_are_nobodys_answer():
    body = """
        cosines = F.normalize(image_vectors) @ F.normalize(text_vectors).T
        return contrastive_loss(cosines / temperature)
    """
    answer = written("clip_loss", body, {"contrastive_loss": contrastive_loss})
    assert "write yours" in told("clip_loss", answer)
    body = "return image_vectors @ class_vectors(CLIP, text_vectors).T"
    answer = written("sentence_scores", body, {"CLIP": CLIP, "class_vectors": class_vectors})
    assert "write yours" in told("sentence_scores", answer)
