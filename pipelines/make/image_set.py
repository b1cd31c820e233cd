"""Reads the image set back as a pipeline cleans it: without broken files, pictures too small to use, and copies."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from grammar import Scene, phrase_pairs
from split import held_out_scenes

FOLDER = Path(__file__).parent.parent / "data" / "scenes"
LEAST_SIDE = 32


@dataclass(frozen=True)
class Picture:
    """A usable file of the image set, and what it shows."""

    name: str
    image: Image.Image
    scene: Scene
    references: list[str]


def _opened(path: Path) -> Image.Image | None:
    try:
        return Image.open(path).convert("RGB")
    except OSError:
        return None


def pictures(folder: Path = FOLDER) -> list[Picture]:
    """The usable pictures, by name; a scene is found by the pairs that its references name."""
    scenes = {scene.combination: scene for scene in held_out_scenes()}
    found, seen = [], set()
    for row in map(json.loads, (folder / "metadata.jsonl").read_text().splitlines()):
        path = folder / row["file_name"]
        image, digest = _opened(path), hashlib.sha256(path.read_bytes()).digest()
        if image is None or min(image.size) < LEAST_SIDE or digest in seen:
            continue
        seen.add(digest)
        scene = scenes[tuple(phrase_pairs(row["references"][0]))]
        found.append(Picture(path.name, image, scene, row["references"]))
    return found
