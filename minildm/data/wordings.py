"""Sentences about the classes of a set: those to train with, and those kept from training."""

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

# {} is the class's name, {a} the same with its article: "eight", "an eight"
DIGIT_WORDINGS = (
    "the digit {}", "{a}", "{}", "a picture of {a}", "a handwritten {}", "the number {}",
    "this is {a}", "here you see {a}", "somebody wrote {a} by hand", "a white {} on black",
    "a drawing of the digit {}", "it says {}, in ink", "a photograph of the digit {}",
    "{a} on paper", "{}, white on black", "what you see is {a}, is it not?",
    "a small {} in the middle of the picture", "somebody's {}", "the number {}, from a form",
    "an old scan of the number {}", "a digit: {}", "yes, {}!", "{a} that was written by a child",
    "this shows the digit {} well")
DIGIT_WORDINGS_HELD_OUT = (
    "an image of the digit {}", "a photo of the number: {}", "{a}, drawn with a pen",
    "look, that is {a}!", "my teacher's favourite {}", "{}, as far as I can tell")
PHOTO_WORDINGS = (
    "a photo of {a}", "{a}", "{}", "a picture of {a}", "a small photo of {a}",
    "a blurry picture of {a}", "this is {a}", "here you see {a}", "a photo of the {}",
    "{a} in a picture", "a good view of {a}", "somebody took a photo of {a}")
PHOTO_WORDINGS_HELD_OUT = (
    "an image of {a}", "a tiny picture that shows {a}", "look, that is {a}!",
    "a close-up of the {}")


def with_article(name: str) -> str:
    """A noun as a caption says it: "a one", "an eight"."""
    # "one" begins with the sound of "won"
    vowel = name.startswith(tuple("aeiou")) and name != "one"
    return ("an " if vowel else "a ") + name


def fill_in(template: str, name: str) -> str:
    """A template with a class's name in the place of {} and, with its article, of {a}."""
    return template.format(name, a=with_article(name))


def wordings(images, held_out: bool = False) -> list[list[str]]:
    """Sentences for each class, classes x wordings; held_out: those that training does not see."""
    digits = tuple(images.class_names) == DIGITS
    if held_out:
        templates = DIGIT_WORDINGS_HELD_OUT if digits else PHOTO_WORDINGS_HELD_OUT
    else:
        templates = DIGIT_WORDINGS if digits else PHOTO_WORDINGS
    return [[fill_in(template, name) for template in templates] for name in images.class_names]
