"""Finds out what it takes to teach the base to describe richly: the LoRA recipe that the pipelines use.

    python pipelines/make/adapter.py --seeds 0 1 2

Trains with peft on the text pairs in `data`, by default in the order of the pipelines' curriculum (one object, two,
three), and measures greedy answers to captions of the image set: the grammar's, and the captioner's own. Nothing is
shipped from here but the recipe.
"""

import argparse
import json
import math
import random
import time
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer
from torch import nn
from transformers import Qwen2ForCausalLM

from captioner import shipped_captions
from grammar import caption, phrase_pairs
from image_set import pictures
from language_model import FOLDER as BASE
from language_model import answers, collate, prompt
from measure import report

DATA = Path(__file__).parent.parent / "data"
TARGETS = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]


def examples(tokenizer: Tokenizer, names: list[str]) -> list[tuple[int, list[int], int]]:
    """Every pair of the files as (phase, ids, start of the answer)."""
    found = []
    for row in (json.loads(line) for name in names for line in (DATA / name).read_text().splitlines()):
        asked = tokenizer.encode(prompt(row["caption"])).ids
        answer = tokenizer.encode(f" {row['description']}").ids
        found.append((len(phrase_pairs(row["caption"])), [*asked, *answer, 0], len(asked)))
    return found


def ordered(rows: list, order: str, rng: random.Random) -> list:
    """One pass over the rows: shuffled, or phase after phase and shuffled within each."""
    rows = rng.sample(rows, len(rows))
    return sorted(rows, key=lambda row: row[0]) if order == "curriculum" else rows


def adapted(base: Qwen2ForCausalLM, options: argparse.Namespace, seed: int):
    """The base with a fresh adapter: A uniform, B zero."""
    torch.manual_seed(seed)
    config = LoraConfig(
        r=options.rank, lora_alpha=options.alpha, lora_dropout=0.0, target_modules=TARGETS, task_type="CAUSAL_LM"
    )
    return get_peft_model(base, config)


def batches(rows: list, options: argparse.Namespace, seed: int) -> list[list]:
    """All batches of a training, pass after pass."""
    rng, found = random.Random(seed), []
    for _ in range(options.passes):
        line = ordered(rows, options.order, rng)
        found += [line[i : i + options.batch] for i in range(0, len(line), options.batch)]
    return found


def train(model, plan: list[list], options: argparse.Namespace) -> None:
    """AdamW without decay, linear warm-up, cosine to zero, gradients clipped to norm 1."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=options.rate, weight_decay=0.0)
    model.train()
    for step, rows in enumerate(plan):
        progress = max(0, step - options.warm_up) / max(1, len(plan) - options.warm_up)
        for group in optimiser.param_groups:
            group["lr"] = options.rate * min(1, step / options.warm_up) * 0.5 * (1 + math.cos(math.pi * progress))
        loss = model(**collate([row[1:] for row in rows])).loss
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()


def options_from_command_line() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", type=Path, default=BASE)
    parser.add_argument("--data", nargs="+", default=["descriptions.jsonl"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--alpha", type=int, default=16)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--passes", type=int, default=2)
    parser.add_argument("--rows", type=int, default=2_000, help="train on the first rows alone")
    parser.add_argument("--warm-up", type=int, default=20)
    parser.add_argument("--order", choices=("curriculum", "shuffled"), default="curriculum")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--show", type=int, default=0, help="print so many answers")
    return parser.parse_args()


def main() -> None:
    options = options_from_command_line()
    torch.set_num_threads(options.threads)
    tokenizer = Tokenizer.from_file(str(options.base / "tokenizer.json"))
    rows = examples(tokenizer, options.data)[: options.rows]
    held_out, rng = pictures(), random.Random(40)
    references = [picture.references for picture in held_out]
    prompts = {
        "grammar captions": [caption(picture.scene, rng) for picture in held_out],
        "model captions": shipped_captions([picture.image for picture in held_out]),
    }
    for seed in options.seeds:
        model = adapted(Qwen2ForCausalLM.from_pretrained(options.base, dtype=torch.float32), options, seed)
        plan, begun = batches(rows, options, seed), time.time()
        train(model, plan, options)
        print(f"seed {seed}: {len(plan)} steps, {time.time() - begun:.0f} s", flush=True)
        for name, captions in prompts.items():
            found = answers(model, tokenizer, captions)
            print(f"  {name}:", report(captions, found, references), flush=True)
        for asked, text in list(zip(captions, found, strict=True))[: options.show]:
            print(f"  {asked} -> {text}")


if __name__ == "__main__":
    main()
