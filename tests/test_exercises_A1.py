"""Appendix A1's checks: right answers in any style pass; wrong ones are told what is wrong."""


from support.answers import right_and_wrong

DOCTOR = """
if {scale}:
    return "scale"
if {idle}:
    return "not learning"
if {collapse}:
    return "collapse"
if {critic}:
    return "critic"
return "healthy"
"""
PARTS = {"scale": "'data_std' in numbers and not 0.3 < numbers['data_std'] < 1.7",
         "idle": "numbers.get('unexplained', 0) > 0.9",
         "collapse": "numbers.get('kl', 1) < 0.1",
         "critic": "numbers.get('real', 0) > 0.98 and numbers.get('fake', 0) > 0.98"}


def doctor(**changed):
    return DOCTOR.format(**PARTS | changed)


RIGHT = [
    ("horizon", "1 / (1 - decay)"),
    ("horizon", "return (1 - decay)**-1"),
    ("horizon", "n = int(60 / (1 - decay))\nreturn math.fsum(decay**i for i in range(n))"),
    ("horizon", "return torch.tensor(1 - decay, dtype=torch.float64).reciprocal()"),
    ("in_range", "bool(images.min() < 0 and images.abs().max() < 2)"),
    ("in_range", "return (images.min() < 0) & (images.max() < 1.5) & (images.min() > -1.5)"),
    ("in_range", "low, high = images.min().item(), images.max().item()\n"
                 "return -1.2 <= low < 0 and high <= 1.2"),
    ("in_range", """
        if not (images < 0).any():
            return False
        for image in images:
            if image.abs().max() > 1.1:
                return False
        return True
     """),
    ("diagnose", doctor()),
    ("diagnose", doctor(scale="abs(math.log(numbers.get('data_std', 1))) > 0.7",
                        idle="numbers.get('unexplained', 0) >= 0.85",
                        collapse="numbers.get('kl', 9) < 0.5",
                        critic="min(numbers.get('real', 0), numbers.get('fake', 0)) > 0.95")),
    ("diagnose", """
        ill = []
        for name, value in numbers.items():
            if name == "data_std" and (value < 0.5 or value > 2):
                ill.append("scale")
            elif name == "unexplained" and value > 0.9:
                ill.append("not learning")
            elif name == "kl" and value < 0.1:
                ill.append("collapse")
        if numbers.get("real", 0) + numbers.get("fake", 0) > 1.95:
            ill.append("critic")
        return ill[0] if ill else "healthy"
     """),
]

WRONG_HORIZON = [
    ("one step short", "decay / (1 - decay)"),
    ("too many", "1 + 1 / (1 - decay)"),
    ("a step's share", "1 - decay"),
    ("that is the decay", "decay"),
    ("about 1", "1 / decay"),
    ("half-life", "math.log(0.5) / math.log(decay)"),
    ("half-life", "math.log(2) / (1 - decay)"),
    ("1 / e", "-1 / math.log(decay)"),
    ("a tenth", "math.log(0.1) / math.log(decay)"),
    ("a hundredth", "math.log(0.01) / math.log(decay)"),
    ("plain mean", "(1 + decay) / (1 - decay)"),
    ("twice", "2 / (1 - decay)"),
    ("half of it", "1 / (2 * (1 - decay))"),
    ("no square", "1 / (1 - decay**2)"),
    ("no root", "(1 - decay)**-0.5"),
    ("squared", "1 / (1 - decay)**2"),
    ("infinite", "math.inf"),
    ("sign", "1 / (decay - 1)"),
    ("whole number", "round(1 / (1 - decay))"),
    ("whole number", "int(1 / (1 - decay))"),
    ("whole number", "math.ceil(1 / (1 - decay) - 1e-9)"),
    ("times what is wanted", "1000"),
    ("should be", "sum(decay**i for i in range(100))"),
    ("NaN", "float('nan')"),
    ("None", "1 / (1 - decay)\nreturn"),
    ("a str", "str(1 / (1 - decay))"),
    ("raised", "return 1 / (1 - decays)"),
]
LEAST = "images.min() < 0 and "
WRONG_RANGE = [
    ("least value", "images.max() < 2"),
    ("least value", "images.abs().max() < 2"),
    ("least value", "images.abs().max() <= 1"),
    ("allow a little more", LEAST + "images.min() >= -1 and images.max() <= 1"),
    ("allow a little more", LEAST + "images.max() <= 1"),
    ("allow a little more", "-1 <= images.min() < 0 and images.max() < 2"),
    ("allow a little more", "images.min() == -1 and images.max() == 1"),
    ("as they should be", "images.min() >= 0 and images.max() <= 1"),
    ("as they should be", "images.min() > 0 and images.max() < 2"),
    ("how far out", "images.min() < 0"),
    ("how far out", LEAST + "images.max() < 200"),
    ("below -1", LEAST + "images.max() < 2"),
    ("above 1", "-2 < images.min() < 0"),
    ("the mean", "images.mean() < 0 and images.abs().max() < 2"),
    ("black or white", "images.min() < -0.9 and images.abs().max() < 2"),
    ("black or white", "-1.1 < images.min() < -0.9 and 0.9 < images.max() < 1.1"),
    ("values below 0", "all(i.min() < 0 and i.abs().max() < 2 for i in images)"),
    ("all pictures", "images[0].min() < 0 and images[0].abs().max() < 2"),
    ("all channels", LEAST + "images[:, 0].abs().max() < 2"),
    ("below -1", LEAST + "images.abs().mean() < 1"),
    ("how far|1 is out|the usual", LEAST + "images.std() < 1.2"),
    ("the usual|1 is out", LEAST + "images.abs().quantile(0.95) < 2"),
    ("least value", "images.min() <= 0 and images.abs().max() < 2"),
    ("least value", "(images - images.round()).abs().max() > 0 and images.abs().max() < 2"),
    ("as they should be", "False"),
    ("least value", "True"),
    ("should be True", "(images < 0) & (images.abs() < 2)"),
    ("should be True", "(images.flatten(1).amin(1) < 0) & (images.flatten(1).abs().amax(1) < 2)"),
    ("raised", "if images.abs() < 2:\n    return True\nreturn False"),
    ("None", "images.min() < 0 and images.abs().max() < 2\nreturn"),
    ("in place", "images.abs_()\nreturn images.max() < 2"),
    ("should be True", "float('nan')"),
    ("least value|should be", "not images.max() > 2"),
]
WRONG_DIAGNOSIS = [
    ("target is easy", doctor(scale="numbers.get('data_std', 1) > 1.7")),
    ("not about 1", doctor(scale="numbers.get('data_std', 1) < 0.3")),
    ("not about 1", doctor(scale="not 0.3 < numbers.get('data_std', 1) < 10")),
    ("about 1", doctor(scale="numbers.get('data_std', 1) != 1.0")),
    ("about 1|is good", doctor(scale="not 0.95 < numbers.get('data_std', 1) < 1.05")),
    ("target is easy|about 1", doctor(scale="False")),
    ("unexplained", doctor(idle="numbers.get('unexplained', 0) > 1")),
    ("unexplained", doctor(idle="False")),
    ("is good|explained", doctor(idle="numbers.get('unexplained', 0) > 0.4")),
    ("depends on its target", doctor(idle="numbers.get('loss', 0) > 1.9")),
    ("depends on its target", doctor(idle="numbers.get('loss', 0) > 0.9")),
    ("nothing that it logs", doctor(idle="numbers.get('unexplained', 1) > 0.9")),
    ("explained", doctor(idle="numbers.get('unexplained', 0) < 0.1")),
    ("say nothing", doctor(collapse="numbers.get('kl', 1) < 0")),
    ("say nothing", doctor(collapse="numbers.get('kl', 1) < 0.001")),
    ("say nothing", doctor(collapse="numbers.get('kl', 1) == 0")),
    ("say nothing", doctor(collapse="numbers.get('l1', 0) > 0.1")),
    ("healthy", doctor(collapse="numbers.get('kl', 0) < 0.1")),
    ("a few nats|healthy|say nothing", doctor(collapse="numbers.get('kl', 0) > 2")),
    ("say much|say nothing", doctor(collapse="numbers.get('kl', 1) < 0.1 or numbers.get('kl', 1) "
     "> 10")),
    ("one nat", doctor(collapse="numbers.get('kl', 3) < 2")),
    ("has not begun", doctor(critic="numbers.get('real', 1) in (0, 1.0)").replace("1) in",
     ".5) in")),
    ("not always", doctor(critic="numbers.get('real', 0) > 0.5 and numbers.get('fake', 0) > 0.5")),
    ("not always", doctor(critic="numbers.get('real', 0) > numbers.get('fake', 0)")),
    ("always right", doctor(critic="numbers.get('real', 0) > 1")),
    ("always right", doctor(critic="numbers.get('real', 0) == numbers.get('fake', 0) == 1")),
    ("has not begun|healthy", doctor(critic="numbers.get('real', 0) == numbers.get('fake', 0)")),
    ("has not begun", doctor(critic="'real' in numbers and numbers['real'] < 0.6")),
    ("raised", doctor(scale="not 0.3 < numbers['data_std'] < 1.7")),
    ("raised", doctor(critic="min(numbers['real'], numbers['fake']) > 0.98")),
    ("it is 'critic'", doctor(critic="False")),
    ("should be", doctor().replace('"scale"', '"Scale"')),
    ("should be", doctor().replace("healthy", "fine")),
    ("data_std", "return 'healthy'"),
    ("in place", doctor(scale="not 0.3 < numbers.pop('data_std', 1) < 1.7")),
    ("None", doctor().replace('return "healthy"', "return")),
    ("should be", "return ['scale']"),
    ("should be", doctor().replace("return ", "return 0, ")),
]
WRONG_ROWS = {"horizon": WRONG_HORIZON, "in_range": WRONG_RANGE, "diagnose": WRONG_DIAGNOSIS}
WRONG = [(name, *row) for name, rows in WRONG_ROWS.items() for row in rows]


test_right_answers_pass, test_wrong_answers_are_told_what_is_wrong = right_and_wrong(RIGHT, WRONG)
