"""What the benchmark of restoration stored, as lesson 13 shows it: tables, and the claims."""

from minildm.course.edited import within
from minildm.course.restored import psnr

SUPER = "4x super-resolution"
TASKS = "half the pixels", "blur", "k-space", SUPER
# the bars: of a draw, or of the mean of all draws
BARS = {"half the pixels": 26, "blur": 25, "k-space": 29}


class Results:
    """The numbers of `stored("restoration")`: a task, a way to restore, and a score's name."""

    def __init__(self, kept: dict):
        self.kept = kept

    def seeds(self, task: str, way: str = "posterior") -> int:
        return len(self.kept.get(task, {}).get(way, {}))

    def pictures(self, task: str, way: str = "posterior") -> int:
        return self.seeds(task, way) * self.kept["n"]

    def values(self, task: str, way: str, score: str) -> list[float]:
        """One score of each seed that has it."""
        runs = self.kept.get(task, {}).get(way, {}).values()
        return [found[score] for found in runs if score in found]

    def mean(self, task: str, way: str, score: str) -> float:
        values = self.values(task, way, score)
        return sum(values) / len(values) if values else float("nan")

    def print_methods(self):
        """Print PSNR and the share read rightly, a row per way, a column per task."""
        rows = [("the prior alone", "psnr", "read"), ("without a model", "psnr", "read"),
                ("projection", "psnr", "read"), ("guidance", "psnr", "read"),
                ("posterior", "psnr", "read"), ("posterior", "mean psnr", "mean read"),
                ("a network trained for it", "psnr", "read"), ("the VAE's copy", "psnr", "read")]
        print(f"{'PSNR in dB / read rightly':26s}" + "".join(f"{task:>21s}" for task in TASKS))
        names = {"psnr": "guess, obey, noise: a draw", "mean psnr": "mean of its draws"}
        for way, score, read in rows:
            # what nobody measured has no row
            if not any(self.seeds(task, way) for task in TASKS):
                continue
            title = names[score] if way == "posterior" else way
            cells = [self._cell(task, way, score, read) for task in TASKS]
            print(f"{title:26s}" + "".join(f"{cell:>21s}" for cell in cells))
        counts = [f"{self.mean(task, 'posterior', 'samples'):.0f}" for task in TASKS]
        print(f"draws per picture: {', '.join(counts)}; pictures: "
              + ", ".join(str(self.pictures(task)) for task in TASKS))

    def _cell(self, task, way, score, read) -> str:
        if not self.seeds(task, way):
            return "-"
        return f"{self.mean(task, way, score):.1f} / {self.mean(task, way, read):.3f}"

    def print_calibration(self):
        """Print how often the truth is among the nearer places, and how often it should be."""
        for task in TASKS:
            cells = []
            for part in ("inner", "outer"):
                got, wanted = self.coverage(task, part)
                cells.append(f"{got:.2f} in the nearer {wanted:.2f} of the places")
                full = self.values(task, "posterior", f"{part} with error")
                if full:
                    cells[-1] += f" ({sum(full) / len(full):.2f} with the decoder's error)"
            print(f"{task:20s} {', '.join(cells)}; {self.pictures(task)} digits")

    def coverage(self, task: str, part: str) -> tuple[float, float]:
        """The measured share, and what it should be."""
        return tuple(self.mean(task, "posterior", name) for name in (part, f"{part} wanted"))

    def off(self, task: str) -> float:
        """How many points the worse of both shares is off, the decoder's error drawn as well."""
        gaps = []
        for part in ("inner", "outer"):
            found = self.mean(task, "posterior", f"{part} with error")
            # of the first runs: the draws alone
            found = self.coverage(task, part)[0] if found != found else found
            gaps.append(abs(found - self.coverage(task, part)[1]))
        return 100 * max(gaps)

    def claims(self, plane: dict) -> list[tuple]:
        """The rows of the lesson's last table; `plane` is judged in the lesson itself."""
        rows = [plane_row(plane)]
        for task, bar in BARS.items():
            one, mean = (self.mean(task, "posterior", key) for key in ("psnr", "mean psnr"))
            base = self.mean(task, "without a model", "psnr")
            verdict = "holds" if one >= bar else "holds partly" if mean >= bar else "refuted here"
            count = self.mean(task, "posterior", "samples")
            rows.append((f"{task}: at least {bar} dB", f"a draw {one:.1f} dB, the mean of "
                         f"{count:.0f} {mean:.1f} (without a model {base:.1f})", self.size(task),
                         verdict))
        return rows + [self.read_row(), self.network_row(), self.calibration_row(),
                       self.invented_row(), self.seconds_row()]

    def size(self, task: str) -> str:
        values = self.values(task, "posterior", "psnr") or [float("nan")]
        if len(values) == 1:
            return f"{self.pictures(task)} digits, 1 seed"
        return (f"{self.pictures(task)} digits, {len(values)} seeds, "
                f"{min(values):.1f} to {max(values):.1f} dB")

    def read_row(self):
        one, mean, vote = (self.mean(SUPER, "posterior", key)
                           for key in ("read", "mean read", "vote"))
        wide = within(one, self.pictures(SUPER))
        reached = "holds" if one >= 0.95 else "holds partly" if mean >= 0.95 else "refuted here"
        # the draws of one digit are no independent ones: digits count
        verdict = "not resolved" if abs(one - 0.95) < wide else reached
        return (f"{SUPER}: at least 0.95 are read as the true digit", f"draws {one:.3f}, the mean "
                f"of 16 {mean:.3f}, a vote of 16 {vote:.3f}", self.size(SUPER), verdict)

    def network_row(self):
        claim = f"{SUPER}: the mean of 16 draws is within 1 dB of a network trained for it"
        way = "a network trained for it"
        if not self.seeds(SUPER, way):
            return claim, "no network was trained", self.size(SUPER), "not resolved"
        gap = self.mean(SUPER, way, "psnr") - self.mean(SUPER, "posterior", "mean psnr")
        return (claim, f"{gap:.1f} dB below", self.size(SUPER),
                "holds" if gap <= 1 else "refuted here")

    def calibration_row(self):
        gaps = {task: self.off(task) for task in TASKS}
        good = [task for task in TASKS if gaps[task] <= 10]
        verdict = "holds" if len(good) == 4 else "holds partly" if good else "refuted here"
        worst = ", ".join(f"{task} {gap:.0f}" for task, gap in gaps.items())
        return ("The truth is within the draws' spread as often as it should be, to 10 points",
                f"points off: {worst}", f"{self.pictures(SUPER)} digits per task", verdict)

    def invented_row(self):
        shares = [self.mean(task, "posterior", "invented") for task in TASKS]
        text = ", ".join(f"{task} {share:.3f}" for task, share in zip(TASKS, shares, strict=True))
        return ("The prior invents: some draws clearly show another digit than the true one", text,
                self.size(SUPER), "holds" if max(shares) > 0 else "not resolved")

    def seconds_row(self):
        seconds = max(self.mean(task, "posterior", "seconds per draw") for task in TASKS)
        return ("A draw takes at most 0.5 seconds", f"{seconds:.2f} CPU seconds, the slowest task",
                "one core, others busy", "holds" if seconds <= 0.5 else "refuted here")


def print_psnr(pictures: dict, truth):
    """Print the mean PSNR of named float pictures, clamped to what can be shown."""
    found = {name: psnr(x.clamp(-1, 1), truth).mean() for name, x in pictures.items()}
    print("PSNR: " + ", ".join(f"{name} {value:.1f} dB" for name, value in found.items()))


def plane_row(plane: dict) -> tuple:
    """The claim of the exact world, from what the lesson itself judged there."""
    ways = "exact gradient", "at the guess", "guess, unsure", "guess, obey, noise"
    far = {name: plane[name]["distance"] for name in ways}
    floor = plane["a second exact set"]["distance"]
    measured = ", ".join(f"{name} {value:.2f}" for name, value in far.items())
    best = far["guess, obey, noise"] < min(far["at the guess"], far["guess, unsure"])
    return ("In the plane the decoupled loop comes nearer to the exact posterior than the gradient "
            "at the guess", f"{measured} (floor {floor:.2f})", "1,000 points, 100 steps, 1 seed",
            "holds" if best else "refuted here")
