"""Makes everything in `data`: the image set with its metadata, and three files of text pairs.

    python pipelines/make/data.py

The image set is deliberately not clean: beside the good files it has broken ones, exact copies and pictures too small
to use, as a real collection does. Everything is drawn from fixed seeds, so the files come out the same every time.
"""

import io
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from grammar import CATEGORIES, Scene, caption, decompose, describe
from renderer import paint, random_format
from split import held_out_scenes, training_scene

FOLDER = Path(__file__).parent.parent / "data"
GOOD, SMALL, COPIES = 216, 6, 6
JPEG_SHARE = 0.25
LEAST_DISTANCE = 5  # in bits of a 64-bit difference hash, between any two good pictures
DESCRIPTIONS, ADJECTIVES, COMPLEX, COMPLEX_URBAN = 4_000, 995, 20, 12
CATEGORY_WEIGHTS = (28, 28, 18, 14, 12)  # urban, people, nature, sea, night


def encoded(image: Image.Image, suffix: str) -> bytes:
    """The bytes of an image file."""
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True) if suffix == ".png" else image.save(file, "JPEG", quality=90)
    return file.getvalue()


def difference_hash(image: Image.Image) -> int:
    """64 bits that say where an 8 by 8 thumbnail grows brighter to the right."""
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.LANCZOS), np.int16)
    return int("".join("1" if bit else "0" for bit in (grey[:, 1:] > grey[:, :-1]).ravel()), 2)


def distinct_picture(scene: Scene, hashes: list[int], rng: random.Random) -> Image.Image:
    """A picture of the scene that resembles none of those before it."""
    while True:
        image = paint(scene, random_format(scene, rng), rng.randrange(96, 177), rng)
        mark = difference_hash(image)
        if all((mark ^ other).bit_count() >= LEAST_DISTANCE for other in hashes):
            hashes.append(mark)
            return image


def references(scene: Scene, rng: random.Random) -> list[str]:
    """Three different rich descriptions."""
    found: dict[str, None] = {}
    while len(found) < 3:
        found[describe(scene, rng)] = None
    return list(found)


def _cut_in_tables(jpeg: bytes) -> bytes:
    return jpeg[: jpeg.index(b"\xff\xda") // 2]


# What a broken file is made from (its suffix) and how.
BREAKAGES: list[tuple[str, Callable[[bytes], bytes]]] = [
    (".png", lambda png: png[: len(png) // 2]),
    (".png", lambda png: png[:33]),
    (".jpg", _cut_in_tables),
    (".png", lambda _: b"This is a note, not a picture.\n"),
    (".png", lambda _: b""),
    (".jpg", lambda _: b"<!DOCTYPE html>\n<title>404 Not Found</title>\n<p>The picture has moved.</p>\n"),
]


def image_files(rng: random.Random) -> Iterator[tuple[str, bytes, Scene, list[str]]]:
    """Every file of the image set, as (suffix, bytes, scene, references), the good ones first."""
    scenes, hashes, good = iter(held_out_scenes()), [], []
    for _ in range(GOOD):
        scene = next(scenes)
        suffix = ".jpg" if rng.random() < JPEG_SHARE else ".png"
        file = (suffix, encoded(distinct_picture(scene, hashes, rng), suffix), scene, references(scene, rng))
        good.append(file)
        yield file
    yield from rng.sample(good, COPIES)
    for _ in range(SMALL):
        scene = next(scenes)
        image = paint(scene, random_format(scene, rng), rng.randrange(18, 29), rng)
        yield ".png", encoded(image, ".png"), scene, references(scene, rng)
    for suffix, spoil in BREAKAGES:
        scene = next(scenes)
        image = paint(scene, random_format(scene, rng), 128, rng)
        yield suffix, spoil(encoded(image, suffix)), scene, references(scene, rng)


def write_images(folder: Path) -> None:
    """Writes the image set: files in random order under stable names, and `metadata.jsonl`."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("scene-*"):
        old.unlink()
    rng = random.Random(30)
    files = list(image_files(rng))
    rng.shuffle(files)
    rows = []
    for number, (suffix, content, scene, texts) in enumerate(files, 1):
        name = f"scene-{number:04}{suffix}"
        (folder / name).write_bytes(content)
        rows.append({"file_name": name, "references": texts, "category": scene.category})
    write_lines(folder / "metadata.jsonl", rows)


def source(plain: str, rich: str) -> str:
    """The names of the templates that a pair's texts were worded by."""
    start = "there-is" if plain.startswith("there is") else "view" if " with " in plain else "place"
    end = "parts" if rich.count(".") > 1 else "view" if " with " in rich else "place"
    return f"{start}/{end}"


def pair(identifier: str, scene: Scene, plain: str, rich: str) -> dict[str, str]:
    """A row of a file of text pairs."""
    return {
        "id": identifier,
        "caption": plain,
        "description": rich,
        "category": scene.category,
        "source": source(plain, rich),
    }


def scene_of(category: str, rng: random.Random) -> Scene:
    """A training scene of a category."""
    while (scene := training_scene(rng)).category != category:
        pass
    return scene


def draw_pairs(prefix: str, count: int, seed: int, qualities: tuple[int, ...]) -> list[dict[str, str]]:
    """Different pairs of a plain caption and a rich description."""
    rng, seen, rows = random.Random(seed), set(), []
    while len(rows) < count:
        scene = scene_of(rng.choices(CATEGORIES, CATEGORY_WEIGHTS)[0], rng)
        plain, rich = caption(scene, rng), describe(scene, rng, qualities)
        if (plain, rich) not in seen:
            seen.add((plain, rich))
            rows.append(pair(f"{prefix}-{len(rows) + 1:05}", scene, plain, rich))
    return rows


def draw_complex(seed: int) -> list[dict[str, str]]:
    """Scenes of three objects taken apart, most of them urban."""
    rng = random.Random(seed)
    scenes = [training_scene(rng, background="city", count=3) for _ in range(200)]
    urban = [scene for scene in scenes if scene.category == "urban"][:COMPLEX_URBAN]
    others = [training_scene(rng, count=3) for _ in range(COMPLEX - COMPLEX_URBAN)]
    scenes = urban + others
    rng.shuffle(scenes)
    return [pair(f"complex-{i:03}", s, caption(s, rng), decompose(s, rng)) for i, s in enumerate(scenes, 1)]


def write_lines(path: Path, rows: list[dict]) -> None:
    """Writes JSON Lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def main() -> None:
    write_images(FOLDER / "scenes")
    write_lines(FOLDER / "descriptions.jsonl", draw_pairs("pair", DESCRIPTIONS, 31, (1, 1, 2)))
    adjectives = [row | {"kind": "adjective"} for row in draw_pairs("adjective", ADJECTIVES, 32, (2, 3))]
    scenes = [row | {"kind": "complex"} for row in draw_complex(33)]
    write_lines(FOLDER / "phase6_2.jsonl", adjectives + scenes)


if __name__ == "__main__":
    main()
