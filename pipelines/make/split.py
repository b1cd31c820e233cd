"""Which scenes are held out: the one border between what models are trained on and what they are measured on.

A scene is held out by its combination of (colour, noun) pairs, whatever their order, the sizes and the background. No
text and no picture that a model or an adapter is trained on shows a combination of the image set in `data/scenes`.
"""

import random
from functools import cache

from grammar import Scene, random_scene

SEED = 20
COUNTS = {1: 18, 2: 100, 3: 110}


@cache
def held_out_scenes() -> tuple[Scene, ...]:
    """The scenes of the image set: all of different combinations, in a fixed random order."""
    rng = random.Random(SEED)
    scenes: dict[tuple, Scene] = {}
    for count, wanted in COUNTS.items():
        goal = len(scenes) + wanted
        while len(scenes) < goal:
            scene = random_scene(rng, count=count)
            scenes.setdefault(scene.combination, scene)
    order = list(scenes.values())
    rng.shuffle(order)
    return tuple(order)


@cache
def _held_out_combinations() -> frozenset[tuple]:
    return frozenset(scene.combination for scene in held_out_scenes())


def is_held_out(scene: Scene) -> bool:
    """Whether the scene's combination belongs to the image set."""
    return scene.combination in _held_out_combinations()


def training_scene(rng: random.Random, **wishes) -> Scene:
    """A random scene (see `random_scene` for the wishes) that is not held out."""
    while is_held_out(scene := random_scene(rng, **wishes)):
        pass
    return scene
