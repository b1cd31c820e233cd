"""The world the small data sets and models live in: scenes, and the two ways to put one into words.

A scene is one to three coloured objects, left to right, before a background. `caption` says it plainly, as a captioning
model would; `describe` says it richly, with three to five adjectives an object besides the colour. Rich text uses
nothing that the plain caption does not tell, so that a language model can learn to write it from the caption alone.
"""

import random
import re
from dataclasses import dataclass

SHAPES = ("house", "tower", "tree", "car", "boat", "figure", "ball", "star", "flower")
COLOURS = ("red", "blue", "green", "yellow", "white", "black", "purple", "orange")
SIZES = ("small", "large")
BACKGROUNDS = ("meadow", "desert", "sea", "city", "night")
CATEGORIES = ("urban", "people", "nature", "sea", "night")

# Urban scenes and people are what the data sets are meant to be strong in.
BACKGROUND_WEIGHTS = (18, 12, 18, 36, 16)
SHAPE_WEIGHTS = (10, 10, 10, 12, 9, 16, 9, 9, 10)
COUNT_WEIGHTS = (20, 40, 40)

OPINIONS = {
    "house": ("charming", "cosy"),
    "tower": ("proud", "majestic"),
    "tree": ("beautiful", "graceful"),
    "car": ("elegant", "stylish"),
    "boat": ("lovely", "handsome"),
    "figure": ("cheerful", "friendly"),
    "ball": ("playful", "funny"),
    "star": ("magical", "brilliant"),
    "flower": ("pretty", "gorgeous"),
}
QUALITIES = {
    "house": ("old", "comfortable", "traditional"),
    "tower": ("ancient", "solid", "historic"),
    "tree": ("leafy", "healthy", "mature"),
    "car": ("shiny", "modern", "fast"),
    "boat": ("wooden", "sturdy", "reliable"),
    "figure": ("young", "active", "relaxed"),
    "ball": ("round", "smooth", "elastic"),
    "star": ("pointed", "sharp", "luminous"),
    "flower": ("delicate", "fragrant", "tender"),
}
SHADES = {
    "red": "bright",
    "blue": "deep",
    "green": "fresh",
    "yellow": "vivid",
    "white": "clean",
    "black": "glossy",
    "purple": "rich",
    "orange": "warm",
}

PLACES = {
    "meadow": ("in a meadow", "on the grass"),
    "desert": ("in a desert", "on the sand"),
    "sea": ("at the sea", "by the sea"),
    "city": ("in a city", "on a city street"),
    "night": ("at night", "under a night sky"),
}
VIEWS = {
    "meadow": "a meadow",
    "desert": "a desert",
    "sea": "a sea view",
    "city": "a city scene",
    "night": "a night scene",
}
RICH_PLACES = {
    "meadow": ("in a quiet sunny meadow", "on the soft lush grass"),
    "desert": ("in a dry dusty desert", "on the hot fine sand"),
    "sea": ("at the calm shining sea", "by the wide open sea"),
    "city": ("in a busy modern city", "on a crowded lively city street"),
    "night": ("on a dark silent night", "under a clear starry night sky"),
}
RICH_VIEWS = {
    "meadow": "a quiet sunny meadow",
    "desert": "a dry dusty desert",
    "sea": "a calm wide sea view",
    "city": "a busy modern city scene",
    "night": "a dark silent night scene",
}
PLACE_ADJECTIVES = (
    "quiet sunny soft lush dry dusty hot fine calm shining wide open "
    "busy modern crowded lively dark silent clear starry"
)
LINKS = {2: ("{} next to {}", "{} beside {}", "{} and {}"), 3: ("{}, {} and {}", "{} next to {} and {}")}

ADJECTIVES = frozenset(
    [word for words in (*OPINIONS.values(), *QUALITIES.values()) for word in words]
    + list(SHADES.values())
    + PLACE_ADJECTIVES.split()
)


@dataclass(frozen=True)
class Thing:
    """One object of a scene."""

    shape: str
    colour: str
    size: str


@dataclass(frozen=True)
class Scene:
    """What is to be seen: objects from left to right, and what lies behind them."""

    things: tuple[Thing, ...]
    background: str

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The multiset of (colour, noun) pairs, sorted: what a caption must get right."""
        return sorted((thing.colour, thing.shape) for thing in self.things)

    @property
    def combination(self) -> tuple[tuple[str, str], ...]:
        """What tells held-out scenes from training scenes: the pairs, whatever the background, order and sizes."""
        return tuple(self.pairs)

    @property
    def category(self) -> str:
        """The group that results are reported by: people before place."""
        if any(thing.shape == "figure" for thing in self.things):
            return "people"
        return {"city": "urban", "sea": "sea", "night": "night"}.get(self.background, "nature")


def random_scene(rng: random.Random, background: str | None = None, count: int | None = None) -> Scene:
    """Draws a scene; a background or a number of objects can be asked for."""
    count = count or rng.choices((1, 2, 3), COUNT_WEIGHTS)[0]
    background = background or rng.choices(BACKGROUNDS, BACKGROUND_WEIGHTS)[0]
    things = tuple(
        Thing(rng.choices(SHAPES, SHAPE_WEIGHTS)[0], rng.choice(COLOURS), rng.choice(SIZES)) for _ in range(count)
    )
    return Scene(things, background)


def article(phrase: str) -> str:
    """The phrase with its indefinite article."""
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def _linked(phrases: list[str], rng: random.Random) -> str:
    return phrases[0] if len(phrases) == 1 else rng.choice(LINKS[len(phrases)]).format(*phrases)


def caption(scene: Scene, rng: random.Random) -> str:
    """A plain caption: lower case, no full stop, colours the only adjectives."""
    objects = _linked([article(f"{thing.colour} {thing.shape}") for thing in scene.things], rng)
    template = rng.choices(("place", "there-is", "view"), (2, 1, 1))[0]
    if template == "view":
        return f"{VIEWS[scene.background]} with {objects}"
    start = "there is " if template == "there-is" else ""
    return f"{start}{objects} {rng.choice(PLACES[scene.background])}"


def paraphrase(scene: Scene, rng: random.Random) -> str:
    """A plain description: another plain wording of the scene, as a sentence."""
    return sentence(caption(scene, rng))


def rich_phrase(thing: Thing, rng: random.Random, qualities: int) -> str:
    """An object with an opinion, one to three qualities and a shade before its colour."""
    chosen = set(rng.sample(QUALITIES[thing.shape], qualities))
    words = [rng.choice(OPINIONS[thing.shape])]
    words += [quality for quality in QUALITIES[thing.shape] if quality in chosen]
    return article(" ".join([*words, SHADES[thing.colour], thing.colour, thing.shape]))


def describe(scene: Scene, rng: random.Random, qualities: tuple[int, ...] = (1, 1, 2)) -> str:
    """A rich description of one sentence; `qualities` are the numbers of qualities an object may get."""
    return sentence(word_richly(rich_phrases(scene, rng, qualities), scene, rng))


def rich_phrases(scene: Scene, rng: random.Random, qualities: tuple[int, ...] = (1, 1, 2)) -> list[str]:
    """A rich phrase for every object; those of a scene have equally many qualities."""
    count = rng.choice(qualities)
    return [rich_phrase(thing, rng, count) for thing in scene.things]


def word_richly(phrases: list[str], scene: Scene, rng: random.Random) -> str:
    """One wording of a scene whose objects are said by the given phrases."""
    objects = _linked(phrases, rng)
    if rng.random() < 0.7:
        return f"{objects} {rng.choice(RICH_PLACES[scene.background])}"
    return f"{RICH_VIEWS[scene.background]} with {objects}"


def decompose(scene: Scene, rng: random.Random) -> str:
    """A rich description that takes the scene apart: the place first, then every object in a sentence of its own."""
    positions = {
        1: ["in the middle"],
        2: ["on the left", "on the right"],
        3: ["on the left", "in the middle", "on the right"],
    }
    parts = [sentence(f"this is {RICH_VIEWS[scene.background]}")]
    for thing, position in zip(scene.things, positions[len(scene.things)], strict=True):
        parts.append(sentence(f"{position} there is {rich_phrase(thing, rng, 3)}"))
    parts.append(sentence(f"the scene is set {rng.choice(RICH_PLACES[scene.background])}"))
    return " ".join(parts)


def usage(thing: Thing, rng: random.Random) -> str:
    """Which adjectives go with a noun and a colour, as a grammar book would say it."""
    words = [rng.choice(OPINIONS[thing.shape]), *rng.sample(QUALITIES[thing.shape], 2)]
    of_noun = sentence(f"{article(thing.shape)} may be {words[0]}, {words[1]} or {words[2]}")
    of_colour = sentence(f"{thing.colour} may be {SHADES[thing.colour]}")
    return f"{of_noun} {of_colour}"


def sentence(text: str) -> str:
    """The text with a capital and a full stop."""
    return f"{text[0].upper()}{text[1:]}."


def phrase_pairs(text: str) -> list[tuple[str, str]]:
    """The sorted (colour, noun) pairs that a text names: a colour, then adjectives if any, then the noun."""
    adjectives = "|".join(sorted(ADJECTIVES))
    pattern = rf"\b({'|'.join(COLOURS)}) (?:(?:{adjectives}) )*({'|'.join(SHAPES)})\b"
    return sorted(re.findall(pattern, text.lower()))


def named_background(text: str) -> str | None:
    """The background that a text names, or None."""
    words = set(re.findall(r"[a-z]+", text.lower()))
    for background, clues in (
        ("meadow", {"meadow", "grass"}),
        ("desert", {"desert", "sand"}),
        ("sea", {"sea"}),
        ("city", {"city"}),
        ("night", {"night"}),
    ):
        if words & clues:
            return background
    return None


def count_adjectives(text: str) -> int:
    """How many adjectives of the grammar the text has; colours are not counted."""
    return sum(word in ADJECTIVES for word in re.findall(r"[a-z]+", text.lower()))


_OBJECT = rf"an? (?:{'|'.join(COLOURS)}) (?:{'|'.join(SHAPES)})"
_OBJECTS = rf"{_OBJECT}(?:(?:, | next to | beside | and ){_OBJECT}){{0,2}}"
_PLACE = "|".join(place for places in PLACES.values() for place in places)
_CAPTION = re.compile(rf"(?:(?:there is )?{_OBJECTS} (?:{_PLACE})|(?:{'|'.join(VIEWS.values())}) with {_OBJECTS})")


def is_caption(text: str) -> bool:
    """Whether the text is one of the plain captions of the grammar."""
    return bool(_CAPTION.fullmatch(text)) and not re.search(r"\ba orange|\ban (?!orange)", text)
