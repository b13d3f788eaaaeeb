"""Lesson 14's checks: right answers in any style pass; wrong ones are told what is wrong."""


import pytest
import torch
from support.answers import right_and_wrong

from minildm import data
from minildm.evaluation import metrics

HELPERS = {"data": data, "metrics": metrics}
MEANS = "mx, my = (w * x).sum(), (w * y).sum()\n"
SPREADS = ("vx, vy = (w * (x - mx)**2).sum(), (w * (y - my)**2).sum()\n"
           "cov = (w * (x - mx) * (y - my)).sum()\n")
CONSTANTS = "c1, c2 = (0.01 * 2)**2, (0.03 * 2)**2\n"
SSIM = MEANS + SPREADS + CONSTANTS
LIGHT = "(2 * mx * my + c1) / (mx**2 + my**2 + c1)"
SHAPE = "(2 * cov + c2) / (vx + vy + c2)"
FORMULA = f"return {LIGHT} * {SHAPE}"
SIZES = "n, m = len(aa), len(bb)\n"
OFF = SIZES + ("a = (aa.sum() - aa.trace()) / (n * (n - 1))\n"
               "b = (bb.sum() - bb.trace()) / (m * (m - 1))\n")
RADII = "r = torch.cdist(real, real).sort(1).values[:, {}]\n"
NEAR = RADII + "near = torch.cdist(real, fake) <= r[:, None]\n"


RIGHT = [
    ("ssim_window", SSIM + FORMULA),
    ("ssim_window", """
        x, y, w = x.double(), y.double(), w.double()
        mx, my = torch.einsum("hw,hw->", w, x), torch.einsum("hw,hw->", w, y)
        vx, vy = (w * x**2).sum() - mx**2, (w * y**2).sum() - my**2
        cov = (w * x * y).sum() - mx * my
        numerator = (2 * mx * my + 4e-4) * (2 * cov + 3.6e-3)
        return (numerator / ((mx**2 + my**2 + 4e-4) * (vx + vy + 3.6e-3))).item()
     """),
    ("ssim_window", """
        def over(*parts):
            total = 0.0
            for i in range(w.shape[0]):
                for j in range(w.shape[1]):
                    total += w[i, j] * math.prod(p[i, j] for p in parts)
            return total
        mx, my = over(x), over(y)
        vx, vy, cov = over(x - mx, x - mx), over(y - my, y - my), over(x - mx, y - my)
        c1, c2 = 0.0004, 0.0036
        return (2*mx*my + c1) * (2*cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
     """),
    ("mmd", OFF + "return a + b - 2 * ab.mean()"),
    ("mmd", """
        def off(k):
            n = k.size(0)
            return k.double()[~torch.eye(n, dtype=torch.bool)].mean()
        return (off(aa) + off(bb) - ab.double().mean() * 2).item()
     """),
    ("mmd", """
        n, m = ab.shape
        a = sum(aa[i, j] for i in range(n) for j in range(n) if i != j) / (n**2 - n)
        b = sum(bb[i, j] for i in range(m) for j in range(i)) * 2 / (m**2 - m)
        return a + b - ab.mean() - ab.mean()
     """),
    ("coverage", NEAR.format("k") + "return near.any(dim=1).float().mean()"),
    ("coverage", """
        hits = 0
        for i, centre in enumerate(real):
            others = torch.cat([real[:i], real[i + 1:]])
            radius = (others - centre).norm(dim=1).kthvalue(k).values
            hits += bool(((fake - centre).norm(dim=1) <= radius).any())
        return hits / len(real)
     """),
    ("coverage", "r = torch.cdist(real, real).topk(k + 1, largest=False).values.amax(1)\n"
                 "return (torch.cdist(fake, real).min(0).values <= r).double().mean()"),
]

WRONG_SSIM = [
    ("what lies about them", "mx, my = x.mean(), y.mean()\n" + SPREADS + CONSTANTS + FORMULA),
    ("weights w", "mx, my = x.mean(), y.mean()\nvx, vy = x.var(correction=0), y.var(correction=0)\n"
                  "cov = ((x - mx) * (y - my)).mean()\n" + CONSTANTS + FORMULA),
    ("weights w", "mx, my = x.mean(), y.mean()\nvx, vy = x.var(), y.var()\n"
                  "cov = ((x - mx) * (y - my)).sum() / (x.numel() - 1)\n" + CONSTANTS + FORMULA),
    ("not only means", MEANS + "vx, vy = x.var(correction=0), y.var(correction=0)\n"
     "cov = ((x - x.mean()) * (y - y.mean())).mean()\n" + CONSTANTS + FORMULA),
    ("sums without w", SSIM.replace("w * (x - mx)", "(x - mx)").replace("w * (y", "(y") + FORMULA),
    ("squared", SSIM.replace("w * (x - mx)", "w**2 * (x - mx)").replace("w * (y", "w**2 * (y")
     + FORMULA),
    ("about the mean", MEANS + "vx, vy, cov = (w * x * x).sum(), (w * y * y).sum(), (w * x * "
     "y).sum()\n"
     + CONSTANTS + FORMULA),
    ("about both", SSIM.replace("w * (x - mx) * (y - my)", "w * x * y") + FORMULA),
    ("standard deviations", SSIM + "vx, vy = vx**0.5, vy**0.5\n" + FORMULA),
    ("no covariance", SSIM + "cov = (vx * vy).sqrt()\n" + FORMULA),
    ("first fraction", SSIM + f"return {LIGHT}"),
    ("second fraction", SSIM + f"return {SHAPE}"),
    ("not added", SSIM + f"return {LIGHT} + {SHAPE}"),
    ("range is 2, not 1", SSIM.replace(" * 2)**2", ")**2") + FORMULA),
    ("range is 2: it is squared", SSIM.replace(" * 2)**2", ")**2 * 2") + FORMULA),
    ("squares", SSIM.replace(" * 2)**2", " * 2)") + FORMULA),
    ("not 255", SSIM.replace(" * 2)**2", " * 255)**2") + FORMULA),
    ("c1 goes with", SSIM.replace("c1, c2 =", "c2, c1 =") + FORMULA),
    ("0 / 0", SSIM + "c1 = c2 = 0\n" + FORMULA),
    ("2 of the means", SSIM + FORMULA.replace("2 * mx", "mx")),
    ("2 of the cov", SSIM + FORMULA.replace("2 * cov", "cov")),
    ("squared below", SSIM + FORMULA.replace("mx**2 + my**2", "mx + my")),
    ("squares already", SSIM + FORMULA.replace("vx + vy", "vx**2 + vy**2")),
    ("upside down", SSIM + f"return {LIGHT} / ({SHAPE})"),
    ("distance", SSIM + f"return 1 - {LIGHT} * {SHAPE}"),
    ("shape", SSIM + FORMULA + " * torch.ones(11, 11)"),
    ("in place", MEANS + "x -= mx\ny -= my\n"
     "vx, vy, cov = (w*x*x).sum(), (w*y*y).sum(), (w*x*y).sum()\n"
     + CONSTANTS + FORMULA),
    ("should be", SSIM + FORMULA.replace("vx + vy", "vx * vy")),
    ("should be", SSIM.replace("(w * (y - my)**2)", "(w * (y - mx)**2)") + FORMULA),
    ("should be", SSIM + "return (2*mx*my + c1) * (2*cov + c2) / (mx**2 + my**2 + c1 + vx + vy + "
     "c2)"),
    ("package", "return metrics.ssim(x[None, None] - 1, y[None, None] - 1)"),
    ("should be", "return (w * x * y).sum()"),
    ("NaN", SSIM + "return " + LIGHT + " * (2 * cov + c2).log() / (vx - vx)"),
    ("None", SSIM + f"{LIGHT} * {SHAPE}\nreturn"),
]
WRONG_MMD = [
    ("not always 1",
     SIZES + "a, b = (aa.sum() - n) / (n * (n - 1)), (bb.sum() - m) / (m * (m - 1))\n"
     "return a + b - 2 * ab.mean()"),
    ("not n n", OFF + "return a + b - 2 * ab.sum() / n**2"),
    ("not m m", OFF + "return a + b - 2 * ab.sum() / m**2"),
    ("both halves", OFF + "return a + b - 2 * ab.triu(1).mean()"),
    ("with itself", "return aa.mean() + bb.mean() - 2 * ab.mean()"),
    ("pairs are left", SIZES + "return ((aa.sum() - aa.trace()) / n**2 + (bb.sum() - bb.trace()) "
     "/ m**2"
     " - 2 * ab.mean())"),
    ("yet the sum", SIZES + "return aa.sum() / (n * (n - 1)) + bb.sum() / (m * (m - 1)) - 2 * "
     "ab.mean()"),
    ("stands twice", SIZES + "return (aa.triu(1).sum() / (n * (n - 1)) + bb.triu(1).sum() / (m * "
     "(m - 1))"
     " - 2 * ab.mean())"),
    ("diagonal has n", SIZES + "return ((aa.sum() - aa.trace()) / (n**2 - 1)"
     " + (bb.sum() - bb.trace()) / (m**2 - 1) - 2 * ab.mean())"),
    ("own number", OFF.replace("m * (m - 1)", "n * (n - 1)") + "return a + b - 2 * ab.mean()"),
    ("own number", OFF.replace("n * (n - 1)", "m * (m - 1)") + "return a + b - 2 * ab.mean()"),
    ("diagonal of bb", OFF + "return a + bb.mean() - 2 * ab.mean()"),
    ("diagonal of aa", OFF + "return aa.mean() + b - 2 * ab.mean()"),
    ("counts twice", OFF + "return a + b - ab.mean()"),
    ("cross term is subtracted", OFF + "return a + b + 2 * ab.mean()"),
    ("mean of all n m", OFF + "return a + b - 2 * ab.sum() / (n * (m - 1))"),
    ("no diagonal", OFF + "return a + b - 2 * (ab.sum() - ab.diag().sum()) / (n * m)"),
    ("no diagonal", OFF + "return a + b - 2 * (ab.sum() - ab.diag().sum()) / (n * m - min(n, m))"),
    ("unlike many", "return aa.sum() - aa.trace() + bb.sum() - bb.trace() - 2 * ab.sum()"),
    ("diagonals are in", "return aa.sum() + bb.sum() - 2 * ab.sum()"),
    ("plus side", OFF + "return 2 * ab.mean() - a - b"),
    ("their sum", OFF + "return (a + b) / 2 - ab.mean()"),
    ("bb is missing", OFF + "return a - 2 * ab.mean()"),
    ("aa is missing", OFF + "return b - 2 * ab.mean()"),
    ("cross term is missing", OFF + "return a + b"),
    ("bb is subtracted", OFF + "return a - b - 2 * ab.mean()"),
    ("root", OFF + "return (a + b - 2 * ab.mean()).abs().sqrt()"),
    ("shape", OFF + "return a + b - 2 * ab"),
    ("shape", OFF + "return a + b - 2 * ab.mean(1)"),
    ("in place", "aa.fill_diagonal_(0)\nbb.fill_diagonal_(0)\n" + SIZES
     + "return aa.sum() / (n * n - n) + bb.sum() / (m * m - m) - 2 * ab.mean()"),
    ("should be", OFF + "return a + b - 2 * ab.median()"),
    ("should be", OFF + "return a * b - 2 * ab.mean()"),
    ("NaN", OFF + "return (a + b - 2 * ab.mean() - 100).sqrt()"),
    ("should be|first inputs", "return ((aa.sum() - aa.trace()) / 20 + (bb.sum() - bb.trace()) / "
     "42 - 2 * ab.mean())"),
    ("raised", "return (aa + bb - 2 * ab).mean()"),
]
WRONG_COVERAGE = [
    ("every ball", "d = torch.cdist(real, fake)\nr = d.sort(1).values[:, k]\n"
     "return (d <= r[:, None]).any(1).float().mean()"),
    ("isn't multiplied", NEAR.format("k") + "return near.any(1).float().mean() * k"),
    ("edge is inside", RADII.format("k")
     + "return (torch.cdist(real, fake) < r[:, None]).any(1).float().mean()"),
    ("too few", NEAR.format("k - 1") + "return near.any(1).float().mean()"),
    ("too many", NEAR.format("k + 1") + "return near.any(1).float().mean()"),
    ("precision", NEAR.format("k") + "return near.any(0).float().mean()"),
    ("recall", "r = torch.cdist(fake, fake).sort(1).values[:, k]\n"
               "return (torch.cdist(real, fake) <= r).any(1).float().mean()"),
    ("neither all", NEAR.format("k") + "return near.all(1).float().mean()"),
    ("needs no k", NEAR.format("k") + "return (near.sum(1) >= k).float().mean()"),
    ("all pairs", NEAR.format("k") + "return near.float().mean()"),
    ("however many", NEAR.format("k") + "return near.sum(1).float().mean()"),
    ("number of balls", NEAR.format("k") + "return near.any(1).sum()"),
    ("without a fake", NEAR.format("k") + "return (~near.any(1)).float().mean()"),
    ("number of fakes", NEAR.format("k") + "return near.any(1).sum() / len(fake)"),
    ("density", NEAR.format("k") + "return near.sum() / (k * len(fake))"),
    ("mean radius", RADII.format("k") + "return (torch.cdist(real, fake) <= "
     "r.mean()).any(1).float().mean()"),
    ("median radius", RADII.format("k") + "return (torch.cdist(real, fake) <= "
     "r.median()).any(1).float().mean()"),
    ("k is an argument", NEAR.format("3") + "return near.any(1).float().mean()"),
    ("k nearest", RADII.format("1:k + 1").replace("]\n", "].mean(1)\n")
     + "return (torch.cdist(real, fake).amin(1) <= r).float().mean()"),
    ("not its square", RADII.format("k") + "return (torch.cdist(real, fake).amin(1) <= "
     "r**2).float().mean()"),
    ("needs no k", RADII.format("k") + "return (torch.cdist(real, fake).sort(1).values[:, k - 1] "
     "<= r)"
                                      ".float().mean()"),
    ("shape", NEAR.format("k") + "return near.any(1).float()"),
    ("other axis|raised", RADII.format("k")
     + "return (torch.cdist(real, fake) <= r).any(1).float().mean()"),
    ("shape", NEAR.format("k") + "return near.any(1)"),
    ("every ball", RADII.format("k")
     + "return (torch.cdist(real, fake) > r[:, None]).any(1).float().mean()"),
    ("every ball", "r = torch.cdist(real, real).sort(1, descending=True).values[:, k]\n"
     "return (torch.cdist(real, fake) <= r[:, None]).any(1).float().mean()"),
    ("package", "return metrics.coverage(real, fake, k)"),
    ("package", "return metrics.precision_recall(real, fake, k)[1]"),
    ("one number", NEAR.format("k") + "return [near.any(1).float().mean()]"),
    ("times", NEAR.format("k") + "return 100 * near.any(1).float().mean()"),
    ("raised", "r = radii(real, k)\nreturn r"),
]
WRONG_ROWS = {"ssim_window": WRONG_SSIM, "mmd": WRONG_MMD, "coverage": WRONG_COVERAGE}
WRONG = [(name, *row) for name, rows in WRONG_ROWS.items() for row in rows]


test_right_answers_pass, test_wrong_answers_are_told_what_is_wrong = right_and_wrong(RIGHT, WRONG, HELPERS)


def test_the_reference_of_mmd_is_the_packages_kernel_distance():
    from minildm.course.exercises.lesson_14 import mmd

    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(6, 3, generator=g), torch.randn(4, 3, generator=g)
    kernels = [(p @ q.T / 3 + 1)**3 for p, q in ((a, a), (b, b), (a, b))]
    assert mmd(*kernels).item() == pytest.approx(metrics.kernel_distance(a, b), rel=1e-4)
