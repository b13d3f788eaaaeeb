"""Likely mistakes of lesson 14: causes, and the results that they lead to."""

import torch


def window_moments(x, y, w):
    """Return means, variances and the covariance of two windows under weights w."""
    mx, my = (w * x).sum(), (w * y).sum()
    dx, dy = x - mx, y - my
    vx, vy = (w * dx * dx).sum(), (w * dy * dy).sum()
    return mx, my, vx, vy, (w * dx * dy).sum()


def similarity(mx, my, vx, vy, cov, c1=0.02**2, c2=0.06**2):
    light = (2 * mx * my + c1) / (mx**2 + my**2 + c1)
    return light * (2 * cov + c2) / (vx + vy + c2)


def about(x, y, w, mx, my):
    """Return both windows' mean squares and their product about other means than their own."""
    dx, dy = x - mx, y - my
    return [(w * product).sum() for product in (dx * dx, dy * dy, dx * dy)]


def wrong_moments(x, y, w):
    mx, my, vx, vy, cov = window_moments(x, y, w)
    even = torch.full_like(w, 1 / w.numel())
    flat = window_moments(x, y, even)
    xx, yy, xy = (w * x * x).sum(), (w * y * y).sum(), (w * x * y).sum()
    less = w.numel() - 1
    dx, dy = x - mx, y - my
    products = dx * dx, dy * dy, dx * dy
    sums = [p.sum() for p in products]
    twice = [(w * w * p).sum() for p in products]
    return {
        "the weights w aren't used: each place has its own": similarity(*flat),
        "the weights w aren't used (and 1 more is taken off the number of places)":
            similarity(*flat[:2], x.var(), y.var(), flat[4] * w.numel() / less),
        "the means are weighted by w too, not only variances":
            similarity(*flat[:2], vx, vy, cov),
        "the means are weighted by w too, and what lies about them":
            similarity(*flat[:2], *about(x, y, w, *flat[:2])),
        "variances and the covariance are weighted by w too, not only means":
            similarity(mx, my, *flat[2:]),
        "variances are means of squares, weighted: these are sums without w":
            similarity(mx, my, *sums),
        "the weights enter a variance once: here they are squared": similarity(mx, my, *twice),
        "a variance is about the mean: it isn't subtracted": similarity(mx, my, xx, yy, xy),
        "the covariance is about both means: they aren't subtracted":
            similarity(mx, my, vx, vy, xy),
        "these are standard deviations: variances are wanted":
            similarity(mx, my, vx.sqrt(), vy.sqrt(), cov),
        "the product of standard deviations is no covariance: patterns may differ":
            similarity(mx, my, vx, vy, (vx * vy).sqrt()),
    }


def wrong_fractions(mx, my, vx, vy, cov):
    c1, c2 = 0.02**2, 0.06**2
    means = 2 * mx * my + c1, mx**2 + my**2 + c1
    spreads = 2 * cov + c2, vx + vy + c2
    right = mx, my, vx, vy, cov
    return {
        "this is the first fraction only, of the means": means[0] / means[1],
        "this is the second fraction only, of the variances": spreads[0] / spreads[1],
        "the fractions are multiplied, not added": means[0] / means[1] + spreads[0] / spreads[1],
        "the range is 2, not 1: both constants grow with its square":
            similarity(*right, 0.01**2, 0.03**2),
        "the range is 2: it is squared in the constants, too":
            similarity(*right, 0.01**2 * 2, 0.03**2 * 2),
        "the constants are squares": similarity(*right, 0.02, 0.06),
        "the range is 2, not 255": similarity(*right, 2.55**2, 7.65**2),
        "c1 goes with the means, c2 with the variances": similarity(*right, c2, c1),
        "the constants are missing: two black windows would be 0 / 0": similarity(*right, 0, 0),
        "the 2 of the means' product is missing":
            (mx * my + c1) / means[1] * spreads[0] / spreads[1],
        "the 2 of the covariance is missing": similarity(mx, my, vx, vy, cov / 2),
        "the means are squared below": means[0] / (mx + my + c1) * spreads[0] / spreads[1],
        "variances are squares already": means[0] / means[1] * spreads[0] / (vx**2 + vy**2 + c2),
        "the second fraction is upside down": means[0] / means[1] * spreads[1] / spreads[0],
        "1 is for equal windows: this is the distance": 1 - similarity(*right),
    }


def wrong_discrepancies(aa, bb, ab):
    n, m = len(aa), len(bb)
    all_a, all_b = aa.sum(), bb.sum()
    off_a, off_b = all_a - aa.trace(), all_b - bb.trace()
    pairs_a, pairs_b = n * (n - 1), m * (m - 1)
    mean_a, mean_b = off_a / pairs_a, off_b / pairs_b
    upper_a, upper_b = off_a / 2, off_b / 2
    likely = {
        "a picture was compared with itself: leave the diagonals out": all_a / n**2 + all_b / m**2,
        "the diagonals are out of the sum: n (n - 1) pairs are left": off_a / n**2 + off_b / m**2,
        "there are n (n - 1) pairs off the diagonal, yet the sum has it":
            all_a / pairs_a + all_b / pairs_b,
        "each pair stands twice off the diagonal: half the sum has half as many":
            upper_a / pairs_a + upper_b / pairs_b,
        "the diagonal has n entries: n (n - 1) are left, not n^2 - 1":
            off_a / (n**2 - 1) + off_b / (m**2 - 1),
        "two sets of two sizes: bb has its own number": mean_a + off_b / pairs_a,
        "two sets of two sizes: aa has its own number": off_a / pairs_b + mean_b,
        "the diagonal of bb is still in": mean_a + all_b / m**2,
        "the diagonal of aa is still in": all_a / n**2 + mean_b,
        "bb is missing": mean_a,
        "aa is missing": mean_b,
        "bb is subtracted: likeness within either set counts alike": mean_a - mean_b,
    }
    likely["a picture is not always 1 like itself: the diagonal has other numbers"] = (
        (all_a - n) / pairs_a + (all_b - m) / pairs_b)
    likely = {cause: own - 2 * ab.mean() for cause, own in likely.items()}
    likely["sums of unlike many pairs can't be compared: means are wanted"] = (
        off_a + off_b - 2 * ab.sum())
    likely["the means are missing, and the diagonals are in"] = all_a + all_b - 2 * ab.sum()
    return likely | wrong_cross_terms(mean_a + mean_b, ab)


def wrong_cross_terms(own, ab):
    n, m = ab.shape
    cross = ab.mean()
    right = own - 2 * cross
    unpaired = ab.sum() - ab.diag().sum()
    whole = "the cross term has no diagonal to leave out"
    return {
        "the cross term counts twice": own - cross,
        "the cross term is subtracted: likeness of both sets makes them nearer": own + 2 * cross,
        "the cross term is a mean of all n m pairs": own - 2 * ab.sum() / (n * (m - 1)),
        "the cross term is a mean of n m pairs, not n n": own - 2 * ab.sum() / n**2,
        "the cross term is a mean of n m pairs, not m m": own - 2 * ab.sum() / m**2,
        "both halves of the cross term count: it is not symmetric":
            own - 2 * ab.triu(1).mean(),
        f"{whole}: all its pairs are of two pictures": own - 2 * unpaired / (n * m),
        f"{whole}: each of its pairs is of two pictures":
            own - 2 * unpaired / (n * m - min(n, m)),
        "likeness within a set is on the plus side": -right,
        "a mean of both sets' own likeness: their sum is wanted": own / 2 - cross,
        "the cross term is missing": own,
        "the root is not wanted: it may be less than 0": right.abs().sqrt(),
        "it may be less than 0: keep the sign": right.abs(),
    }


def wrong_shares(real, fake, k):
    own = torch.cdist(fake, fake).sort(1).values[:, k]
    radius = torch.cdist(real, real).sort(1).values[:, k]
    between = torch.cdist(real, fake)
    near = between <= radius[:, None]
    of_fakes = between <= own
    held = near.any(1).float()

    def share(hit):
        return hit.float().mean()

    wrong = {
        "this is precision, the share of fake": share(near.any(0)),
        "this is recall: the balls are about the real ones here": share(of_fakes.any(1)),
        "one fake in the ball is enough: it needs neither all": share(near.all(1)),
        "one fake in the ball is enough: it needs no k": share(near.sum(1) >= k),
        "that is the share of all pairs: a ball counts once": share(near),
        "fakes in balls were counted: a ball counts once, however many it holds":
            near.sum(1).float().mean(),
        "that is the number of balls: their share is wanted": held.sum(),
        "those are the balls without a fake": 1 - held.mean(),
        "a number of balls over the number of fakes: the share is of real points":
            held.sum() / len(fake),
        "that is density, which counts fakes": near.sum() / (k * len(fake)),
        "every ball has fakes outside: what is nearer than its radius counts":
            share((~near).any(1)),
        "k is a number of neighbours: the share isn't multiplied by it": k * held.mean(),
        "k is a number of neighbours: the share isn't divided by it": held.mean() / k,
    }
    # with two sizes this answer ends in an error, which says so
    if len(fake) == len(real):
        other = share((between <= radius).any(1))
        wrong["each real point has its own ball: these radii met the other axis"] = other
    return wrong_radii(real, fake, k) | wrong


def wrong_radii(real, fake, k):
    """The share of balls that hold a fake, with some wrong radii."""
    apart = torch.cdist(real, real).sort(1).values
    radius = apart[:, k]
    own_ball = "each real point has a ball of its own"
    sizes = {
        "one neighbour too few: the nearest to a point is that point": apart[:, k - 1],
        "one neighbour too many: the k-th after the point itself": apart[:, k + 1],
        "every ball holds a fake then: a radius is the k-th smallest distance of real points":
            apart.flip(1)[:, k],
        f"{own_ball}: here all have the mean radius": radius.mean(),
        f"{own_ball}: here all have the median radius": radius.median(),
        f"{own_ball}: here all have the largest radius": radius.max(),
        "k is an argument: 3 is not always asked for": apart[:, 3],
        "the k-th neighbour's distance, not the mean of the k nearest": apart[:, 1:k + 1].mean(1),
        "the distance, not its square, is the radius": radius.square(),
    }
    nearest = torch.cdist(real, fake).amin(1)
    return {cause: (nearest <= size).float().mean() for cause, size in sizes.items()}


def wrong_manifolds(centres, points, k):
    """The share of points in the balls of centres, (N, D) and (M, D), with likely mistakes."""
    apart = torch.cdist(centres, centres).sort(1).values
    own = torch.cdist(points, points).sort(1).values[:, k]
    between = torch.cdist(points, centres)                                 # (M, N)
    radius = apart[:, k]
    near = between <= radius
    wrong = {
        "this is coverage, the share of balls that hold a point": near.any(0).float().mean(),
        "one ball is enough: a point needs not be in all": near.all(1).float().mean(),
        "that is the share of all pairs": near.float().mean(),
        "points were counted once for each ball": near.sum(1).float().mean(),
        "that is a number of points: their share is wanted": near.any(1).sum().float(),
        "those are the points outside": 1 - near.any(1).float().mean(),
        "the balls are about the other set": (between <= own[:, None]).any(1).float().mean(),
    }
    sizes = {
        "one neighbour too few: the nearest to a point is that point": apart[:, k - 1],
        "one neighbour too many: the k-th after the point itself": apart[:, k + 1],
        "each ball has a radius of its own: here all have the mean radius": radius.mean(),
        "each ball has a radius of its own: here all have the median radius": radius.median(),
        "k is an argument: 3 is not always asked for": apart[:, 3],
        "the k-th neighbour's distance, not the mean of the k nearest": apart[:, 1:k + 1].mean(1),
        "the distance, not its square, is the radius": radius.square(),
    }
    inside = {cause: (between <= size).any(1).float().mean() for cause, size in sizes.items()}
    return inside | wrong
