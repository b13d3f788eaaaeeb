"""What the benchmark of editing stored, as lesson 11 shows it: means of seeds, a table, curves."""

from minildm.course.curves import panel, show_curves

KINDS = {"colour": "another colour", "one of two": "the colour of one of two",
         "digit": "another digit"}


class Results:
    """The numbers of `stored("editing")`: a group, what was measured of it, and a score's name."""

    def __init__(self, kept: dict):
        self.kept = kept

    def values(self, group: str, name: str, score: str) -> list[float]:
        """One score of each seed."""
        return [found[score] for found in self.kept[group][name].values()]

    def mean(self, group: str, name: str, score: str) -> float:
        values = self.values(group, name, score)
        return sum(values) / len(values)

    def spread(self, group: str, name: str, score: str) -> str:
        """The mean of the seeds, and from where to where they go."""
        values = self.values(group, name, score)
        return f"{self.mean(group, name, score):.3f} ({min(values):.3f} to {max(values):.3f})"

    def print_seams(self):
        """Print the seam, and what is read, of inpainted scenes beside the originals."""
        names = "originals", "copy", "scale 2, latents alone", "scale 1", "scale 2", "scale 4"
        for name in names:
            jump, right = (self.mean("inpainting", name, key) for key in ("seam", "all"))
            print(f"{name:23s} seam {jump:.3f}   all as asked {right:.3f}")

    def edit_table(self) -> str:
        """A markdown table of all ways to edit, a row each."""
        lines = ["| edit | by | all as asked | ink overlaps | both | n |",
                 "| --- | --- | --- | --- | --- | --- |"]
        for kind, title in KINDS.items():
            for way, seeds in self.kept[kind].items():
                right, over, both = (self.mean(kind, way, key) for key in (
                    "all", "overlap", "both"))
                n = len(seeds) * self.kept["n"]
                name = "the VAE's copy, no edit" if way == "copy" else way
                lines.append(f"| {title} | {name} | {right:.3f} | {over:.3f} | {both:.3f} | {n} |")
        return "\n".join(lines)

    def trip(self, steps: int, sweeps: int, scale: int, back: int | None = None) -> float:
        """The mean squared error of a round trip, both ways at one scale or back at another."""
        name = f"{steps}, {sweeps}, {scale}, {scale if back is None else back}"
        return self.mean("round trip", name, "error")

    def show_round_trips(self, alt: str):
        """Error against steps, a panel per scale, a line per number of sweeps."""
        counts, panels = (10, 20, 50), []
        for scale in (1, 2, 4):
            lines = {}
            for sweeps in (0, 1, 3):
                name = {0: "plain", 1: "1 sweep"}.get(sweeps, f"{sweeps} sweeps")
                lines[name] = [self.trip(steps, sweeps, scale) for steps in counts]
            left = scale == 1
            panels.append(panel(counts, lines, legend=left, xlabel="steps", yscale="log",
                                ylabel="mean squared error" if left else "", ylim=(1e-10, 100),
                                title=f"scale {scale}, both ways"))
        show_curves(*panels, height=3, alt=alt)
