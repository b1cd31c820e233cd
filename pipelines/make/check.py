"""Measures the shipped checkpoints again, from the files that are shipped, and fails if they fall short.

    python pipelines/make/check.py

The captioner is asked for captions of the image set and of fresh pictures of the same held-out scenes; the language
model then for descriptions, from grammar captions and from the captioner's own.
"""

import json
import random
import sys

import torch
from tokenizers import Tokenizer
from transformers import Qwen2ForCausalLM

import captioner
import language_model
from grammar import caption
from image_set import pictures
from measure import report


def main() -> int:
    held_out, rng = pictures(), random.Random(40)
    references = [picture.references for picture in held_out]
    captions = captioner.shipped_captions([picture.image for picture in held_out])
    fresh, scenes = captioner.held_out_views()
    results = {
        "captions of the image set": captioner.accuracy(captions, [picture.scene for picture in held_out]),
        "captions of fresh pictures": captioner.accuracy(captioner.shipped_captions(fresh), scenes),
    }
    base = Qwen2ForCausalLM.from_pretrained(language_model.FOLDER, dtype=torch.float32)
    words = Tokenizer.from_file(str(language_model.FOLDER / "tokenizer.json"))
    plain = [caption(picture.scene, rng) for picture in held_out]
    for name, asked in (("grammar captions", plain), ("model captions", captions)):
        results[f"base on {name}"] = report(asked, language_model.answers(base, words, asked), references)
    print(json.dumps(results, indent=2))
    short = [
        name
        for name, wanted in (("captions of the image set", 0.985), ("captions of fresh pictures", 0.985))
        if results[name]["pairs"] < wanted
    ]
    short += [
        name for name in ("base on grammar captions", "base on model captions") if results[name]["pairs kept"] < 0.97
    ]
    for name in short:
        print(f"too low: {name}", file=sys.stderr)
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
