"""Draws scenes, and brings an image to the form in which a captioning model sees it.

A scene is laid out on a virtual canvas whose longer side is 64 units and painted at any pixel size, so that objects
keep their size once the image is resized for the model, whatever the size of the file.
"""

import io
import math
import random
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from grammar import Scene, Thing

UNITS = 64
OVERSAMPLING = 2
FORMATS = {"square": (64, 64), "landscape": (64, 48), "portrait": (48, 64)}
PAINTS = {
    "red": (215, 35, 35),
    "blue": (40, 70, 225),
    "green": (20, 130, 40),
    "yellow": (245, 220, 40),
    "white": (245, 245, 245),
    "black": (18, 18, 18),
    "purple": (140, 40, 170),
    "orange": (245, 135, 20),
}
HEIGHTS = {"small": (14.0, 16.5), "large": (21.0, 24.0)}
Colour = tuple[int, int, int]


class Canvas:
    """Paints shapes given in units."""

    def __init__(self, width: int, height: int, pixels: int):
        self.width, self.height = width, height
        self.scale = pixels * OVERSAMPLING / UNITS
        self.size = (round(width * pixels / UNITS), round(height * pixels / UNITS))
        self.image = Image.new("RGB", tuple(side * OVERSAMPLING for side in self.size))
        self.draw = ImageDraw.Draw(self.image)

    def _scaled(self, points):
        return [(x * self.scale, y * self.scale) for x, y in points]

    def polygon(self, points, fill: Colour, outline: Colour | None = None):
        points = self._scaled(points)
        self.draw.polygon(points, fill=fill)
        if outline:
            self.draw.line([*points, points[0]], fill=outline, width=round(self.scale), joint="curve")

    def box(self, left, top, right, bottom, fill: Colour, outline: Colour | None = None):
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], fill, outline)

    def disc(self, x, y, radius, fill: Colour, outline: Colour | None = None):
        corners = self._scaled([(x - radius, y - radius), (x + radius, y + radius)])
        self.draw.ellipse(corners, fill=fill, outline=outline, width=round(self.scale) if outline else 0)

    def line(self, points, fill: Colour, width: float = 1.0):
        self.draw.line(self._scaled(points), fill=fill, width=max(1, round(width * self.scale)))

    def finished(self, rng: random.Random) -> Image.Image:
        """The painting at its pixel size, with a slight grain."""
        image = self.image.resize(self.size, Image.Resampling.BOX)
        cells = (self.height, self.width, 3)
        grain = np.random.default_rng(rng.randrange(1 << 30)).integers(-5, 6, cells).astype(np.int16)
        rows = np.arange(self.size[1]) * self.height // self.size[1]
        columns = np.arange(self.size[0]) * self.width // self.size[0]
        pixels = np.asarray(image, np.int16) + grain[rows][:, columns]
        return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _jittered(colour: Colour, rng: random.Random, amount: float = 14) -> Colour:
    return tuple(max(0, min(255, int(value + rng.uniform(-amount, amount)))) for value in colour)


def _ground(canvas: Canvas, horizon: float, above: Colour, below: Colour):
    canvas.box(0, 0, canvas.width, horizon, above)
    canvas.box(0, horizon, canvas.width, canvas.height, below)


def _meadow(canvas: Canvas, horizon: float, rng: random.Random):
    _ground(canvas, horizon, _jittered((170, 215, 245), rng), _jittered((140, 205, 105), rng))
    for _ in range(9):
        x, y = rng.uniform(0, canvas.width), rng.uniform(horizon + 2, canvas.height)
        canvas.line([(x, y), (x, y - 2)], (100, 170, 80))


def _desert(canvas: Canvas, horizon: float, rng: random.Random):
    _ground(canvas, horizon, _jittered((200, 222, 235), rng), _jittered((214, 188, 142), rng))
    for _ in range(3):
        x, half = rng.uniform(0, canvas.width), rng.uniform(8, 16)
        canvas.polygon(
            [(x - half, horizon), (x, horizon - rng.uniform(3, 6)), (x + half, horizon)],
            _jittered((200, 172, 126), rng, 6),
        )
    for _ in range(6):
        x, y = rng.uniform(0, canvas.width), rng.uniform(horizon + 2, canvas.height)
        canvas.line([(x, y), (x + 6, y + 0.8)], (190, 162, 116), 0.8)


def _sea(canvas: Canvas, horizon: float, rng: random.Random):
    _ground(canvas, horizon, _jittered((190, 220, 240), rng), _jittered((80, 160, 195), rng))
    for _ in range(8):
        x, y = rng.uniform(0, canvas.width), rng.uniform(horizon + 1, canvas.height)
        canvas.line([(x, y), (x + 5, y)], (150, 210, 230))


def _city(canvas: Canvas, horizon: float, rng: random.Random):
    street = horizon + canvas.height * 0.1
    _ground(canvas, street, _jittered((205, 205, 210), rng), _jittered((120, 120, 120), rng))
    x = 0.0
    while x < canvas.width:
        width, height = rng.uniform(7, 13), rng.uniform(0.16, 0.42) * canvas.height
        canvas.box(x, street - height, x + width - 1, street, _jittered((160, 160, 168), rng, 18))
        x += width
    for x in range(-4, canvas.width, 12):
        canvas.line([(x, canvas.height - 3), (x + 5, canvas.height - 3)], (175, 175, 170), 0.8)


def _night(canvas: Canvas, horizon: float, rng: random.Random):
    _ground(canvas, horizon, _jittered((25, 28, 70), rng), _jittered((45, 50, 62), rng, 8))
    for _ in range(13):
        canvas.disc(rng.uniform(0, canvas.width), rng.uniform(0, horizon), 0.5, (230, 230, 200))


_PAINT_BACKGROUND = {"meadow": _meadow, "desert": _desert, "sea": _sea, "city": _city, "night": _night}


@dataclass(frozen=True)
class Pose:
    """Where an object stands and what it is painted with; lengths in units."""

    x: float
    bottom: float
    height: float
    fill: Colour
    outline: Colour

    @property
    def half(self) -> float:
        """Half the width of a broad object."""
        return self.height * 0.4

    def up(self, share: float) -> float:
        """The height on the canvas at a share of the object's own height, from its foot."""
        return self.bottom - share * self.height


def _house(canvas: Canvas, p: Pose):
    eaves = p.up(0.55)
    canvas.box(p.x - p.half, eaves, p.x + p.half, p.bottom, p.fill, p.outline)
    canvas.polygon([(p.x - p.half - 1, eaves), (p.x, p.up(1)), (p.x + p.half + 1, eaves)], p.fill, p.outline)
    canvas.box(p.x - 1.5, p.up(0.3), p.x + 1.5, p.bottom, p.outline)


def _tower(canvas: Canvas, p: Pose):
    half, merlon = p.height * 0.22, p.height * 0.088
    canvas.box(p.x - half, p.up(0.84), p.x + half, p.bottom, p.fill, p.outline)
    for left in (-half, -merlon, half - 2 * merlon):
        canvas.box(p.x + left, p.up(1), p.x + left + 2 * merlon, p.up(0.82), p.fill, p.outline)
    for share in (0.65, 0.35):
        canvas.box(p.x - 1, p.up(share), p.x + 1, p.up(share - 0.14), p.outline)


def _tree(canvas: Canvas, p: Pose):
    canvas.box(p.x - 1.5, p.up(0.35), p.x + 1.5, p.bottom, (100, 65, 30))
    canvas.polygon([(p.x - p.half, p.up(0.3)), (p.x, p.up(1)), (p.x + p.half, p.up(0.3))], p.fill, p.outline)


def _car(canvas: Canvas, p: Pose):
    tall = p.height * 0.7
    roof, cabin, belt, sill = (p.bottom - tall * share for share in (1, 0.5, 0.6, 0.2))
    canvas.box(p.x - p.half * 0.66, roof, p.x + p.half * 0.66, cabin, p.fill, p.outline)
    canvas.box(p.x - p.half - 1, belt, p.x + p.half + 1, sill, p.fill, p.outline)
    for x in (p.x - p.half * 0.6, p.x + p.half * 0.6):
        canvas.disc(x, p.bottom - tall * 0.18, tall * 0.18, (40, 40, 40), (200, 200, 200))


def _boat(canvas: Canvas, p: Pose):
    deck, half = p.up(0.3), p.half
    hull = [(p.x - half - 1, deck), (p.x + half + 1, deck), (p.x + half * 0.6, p.bottom), (p.x - half * 0.6, p.bottom)]
    canvas.polygon(hull, p.fill, p.outline)
    canvas.line([(p.x, deck), (p.x, p.up(1))], p.outline)
    canvas.polygon([(p.x + 1, p.up(1)), (p.x + half * 0.9, p.up(0.4)), (p.x + 1, p.up(0.4))], p.fill, p.outline)


def _figure(canvas: Canvas, p: Pose):
    head, shoulder = p.height * 0.16, p.up(0.68)
    canvas.disc(p.x, p.up(1) + head, head, (235, 190, 155), p.outline)
    canvas.box(p.x - p.height * 0.15, shoulder, p.x + p.height * 0.15, p.up(0.3), p.fill, p.outline)
    canvas.line([(p.x - p.height * 0.28, p.up(0.5)), (p.x + p.height * 0.28, p.up(0.5))], p.fill, 2)
    for side in (-1, 1):
        canvas.line([(p.x + side * p.height * 0.1, p.up(0.3)), (p.x + side * p.height * 0.12, p.bottom)], p.fill, 2)


def _ball(canvas: Canvas, p: Pose):
    canvas.disc(p.x, p.up(0.38), p.height * 0.38, p.fill, p.outline)


def _star(canvas: Canvas, p: Pose):
    points = []
    for corner in range(10):
        angle, radius = -math.pi / 2 + corner * math.pi / 5, p.height * (0.5 if corner % 2 == 0 else 0.2)
        points.append((p.x + radius * math.cos(angle), p.up(0.5) + radius * math.sin(angle)))
    canvas.polygon(points, p.fill, p.outline)


def _flower(canvas: Canvas, p: Pose):
    y, petal = p.up(0.68), p.height * 0.17
    canvas.line([(p.x, y), (p.x, p.bottom)], (60, 120, 40), 2)
    for corner in range(5):
        angle = corner * 2 * math.pi / 5 - math.pi / 2
        canvas.disc(p.x + petal * 1.1 * math.cos(angle), y + petal * 1.1 * math.sin(angle), petal, p.fill, p.outline)
    canvas.disc(p.x, y, petal * 0.6, (200, 160, 60))


_PAINT_SHAPE = {
    "house": _house,
    "tower": _tower,
    "tree": _tree,
    "car": _car,
    "boat": _boat,
    "figure": _figure,
    "ball": _ball,
    "star": _star,
    "flower": _flower,
}
# Where the centres of one, two or three objects may lie, as shares of the width.
_COLUMNS = {1: ((0.22, 0.78),), 2: ((0.19, 0.36), (0.64, 0.81)), 3: ((0.155, 0.2), (0.47, 0.53), (0.8, 0.845))}
_NARROW_COLUMNS = {1: ((0.25, 0.75),), 2: ((0.2, 0.27), (0.73, 0.8))}


def _pose(thing: Thing, canvas: Canvas, column: tuple[float, float], night: bool, rng: random.Random) -> Pose:
    narrow = canvas.width < canvas.height
    height = rng.uniform(*HEIGHTS[thing.size]) * (0.88 if narrow else 1.0)
    return Pose(
        x=rng.uniform(*column) * canvas.width,
        bottom=rng.uniform(0.73, 0.95) * canvas.height,
        height=height,
        fill=_jittered(PAINTS[thing.colour], rng, 10),
        outline=(185, 185, 190) if night else (70, 70, 75),
    )


def random_format(scene: Scene, rng: random.Random) -> str:
    """An aspect for the scene; three objects do not fit a portrait."""
    return rng.choice(("square", "landscape") if len(scene.things) == 3 else tuple(FORMATS))


def paint(scene: Scene, aspect: str, pixels: int, rng: random.Random) -> Image.Image:
    """Paints the scene; the longer side of the image gets `pixels` pixels."""
    canvas = Canvas(*FORMATS[aspect], pixels)
    _PAINT_BACKGROUND[scene.background](canvas, rng.uniform(0.38, 0.53) * canvas.height, rng)
    columns = (_NARROW_COLUMNS if aspect == "portrait" else _COLUMNS)[len(scene.things)]
    for thing, column in zip(scene.things, columns, strict=True):
        _PAINT_SHAPE[thing.shape](canvas, _pose(thing, canvas, column, scene.background == "night", rng))
    return canvas.finished(rng)


def padded(image: Image.Image, side: int, resample=Image.Resampling.BICUBIC) -> Image.Image:
    """The image resized to fit a square, its aspect kept, black around it: what `resize` with `fit = "pad"` gives."""
    scale = side / max(image.size)
    width, height = (max(1, round(length * scale)) for length in image.size)
    square = Image.new("RGB", (side, side))
    square.paste(image.resize((width, height), resample), ((side - width) // 2, (side - height) // 2))
    return square


def training_view(scene: Scene, side: int, rng: random.Random) -> np.ndarray:
    """A painted scene as the model meets it: some file size and format, some resampler, sometimes a little blur."""
    image = paint(scene, random_format(scene, rng), rng.randrange(96, 177), rng)
    if rng.random() < 0.3:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=rng.randrange(82, 96))
        image = Image.open(file)
    resample = rng.choice((Image.Resampling.BICUBIC, Image.Resampling.LANCZOS, Image.Resampling.HAMMING))
    view = padded(image, side, resample)
    if rng.random() < 0.25:
        view = view.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.5)))
    return np.asarray(view)
