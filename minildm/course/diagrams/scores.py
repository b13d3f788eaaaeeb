"""How sets of pictures are judged: crowds in a network's features, and how near is too near."""

from minildm.course.diagrams.drawing import (
    arrow,
    box,
    circle_points,
    curve,
    dot,
    frame,
    label,
    page,
)
from minildm.course.figures import describe


def judging_crowds():
    """Pictures become features; what is compared of two crowds decides what a score can see."""
    figure, axes = page(2.9)
    for y, name, kind in ((2.2, "real", "data"), (0.9, "drawn", "noise")):
        pictures = box(axes, 0.6, y, f"{name}\npictures", kind, width=1.0, height=0.62, tensor=True)
        network = box(axes, 2.0, y, "classifier", "network", "last hidden layer", width=1.35,
                      height=0.6)
        crowd = box(axes, 3.5, y, f"{name} crowd", kind, "(N, 64)", width=1.2, height=0.6,
                    tensor=True)
        arrow(axes, pictures.right, network.left)
        arrow(axes, network.right, crowd.left)
        arrow(axes, crowd.right, (4.6, y))
    frame(axes, 4.6, 0.3, 7.85, 2.7, "compared are", "loss")
    for i, line in enumerate(("means and covariances: Fréchet", "moments up to the third: kernel",
                              "balls about points:\nprecision, recall, coverage",
                              "none of these asks: is it a copy?")):
        label(axes, 4.75, 2.15 - 0.47 * i, line, align="left")
    return describe(figure, """Real pictures and drawn pictures go through the same classifier; its
        last hidden layer makes crowds of N points with 64 numbers. Compared are means and
        covariances (Fréchet distance), moments up to the third (kernel distance), balls about
        points (precision, recall, coverage). None of them asks whether a picture is a copy.""")


def too_near():
    """Closeness: the nearest training picture against the nearest few, for a new one and a copy."""
    figure, axes = page(2.6)
    for x, name, near in ((2.1, "a new picture", 0.62), (6.4, "a copy", 0.12)):
        dot(axes, x, 1.35, "noise", radius=0.08)
        label(axes, x, 2.35, name, "noise", size=10.5)
        for angle, distance in ((20, near), (100, 0.78), (170, 0.85), (250, 0.74), (310, 0.9)):
            (ends, heights) = circle_points(x, 1.35, distance, angle, angle + 1, 1)
            end = ends[0], heights[0]
            curve(axes, (x, end[0]), (1.35, end[1]), "data" if distance == near else "", 1.1,
                  dashed=distance != near)
            dot(axes, *end, "data", radius=0.06)
    label(axes, 2.1, 0.25, "nearest / mean of five: 0.80")
    label(axes, 6.4, 0.25, "nearest / mean of five: 0.18")
    return describe(figure, """Two drawn pictures as points, each with lines to its five nearest
        training pictures. For the new picture all five are about equally far: the nearest over the
        mean of the five is 0.80. For the copy one lies almost on it and four are far: 0.18.""")
