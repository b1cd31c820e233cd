"""Makes `models/scenes-blip2`: a BLIP-2 of 0.8 million parameters that captions scenes.

It is the reference's architecture (transformers' `Blip2ForConditionalGeneration` with OPT), trained from nothing on
rendered scenes. Two things make that possible in minutes: an initialisation that lets gradients flow (the reference
leaves positions and queries to a pre-training that a small model does not get), and an auxiliary loss under which
query i must know the i-th object from the left. The heads of that loss are thrown away.
"""

import argparse
import json
import math
import os
import random
import time
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from tokenizers import Tokenizer
from torch import nn
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    GenerationConfig,
    OPTConfig,
)

from grammar import BACKGROUNDS, COLOURS, SHAPES, SIZES, Scene, caption, is_caption, named_background, phrase_pairs
from renderer import padded, training_view
from split import held_out_scenes, training_scene
from tokenizer import save_tokenizer, start_with, train_tokenizer

FOLDER = Path(__file__).parent.parent / "models" / "scenes-blip2"
SPECIAL_TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "<image>"]
PAD, BOS, IMAGE = 1, 2, 4
QUERIES, WIDTH, SIDE, PATCH = 8, 96, 64, 8
MEAN, STD = (0.46, 0.51, 0.52), (0.30, 0.31, 0.32)
NEW_TOKENS = 40

SCENES, STEPS, BATCH, WARM_UP, RATE, AUXILIARY = 64_000, 6_000, 32, 100, 1e-3, 0.5


def make_tokenizer():
    """The captioner's tokenizer; like OPT's it starts a text with `</s>`, and a line feed ends a caption."""
    rng = random.Random(1)
    tokenizer = train_tokenizer((caption(training_scene(rng), rng) for _ in range(4_000)), SPECIAL_TOKENS, 512)
    start_with(tokenizer, "</s>")
    return tokenizer


def make_config(vocabulary: int, eos: int) -> Blip2Config:
    """The shape of the model."""
    vision = Blip2VisionConfig(
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=PATCH,
    )
    qformer = Blip2QFormerConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=2 * WIDTH,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        cross_attention_frequency=1,
        encoder_hidden_size=WIDTH,
        max_position_embeddings=64,
    )
    text = OPTConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        word_embed_proj_dim=WIDTH,
        ffn_dim=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        dropout=0.0,
        attention_dropout=0.0,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=eos,
    )
    return Blip2Config(
        vision_config=vision.to_dict(),
        qformer_config=qformer.to_dict(),
        text_config=text.to_dict(),
        num_query_tokens=QUERIES,
        image_token_index=IMAGE,
    )


def initialise(model: Blip2ForConditionalGeneration) -> None:
    """Xavier weights, distinct queries, and 2-D sine positions in place of the reference's near-zero ones."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.startswith(("vision_model", "qformer", "language_projection")) and weight.dim() == 2:
                nn.init.xavier_uniform_(weight)
        embeddings = model.vision_model.embeddings
        nn.init.xavier_uniform_(embeddings.patch_embedding.weight.view(WIDTH, -1))
        nn.init.normal_(embeddings.class_embedding, std=0.02)
        embeddings.position_embedding.zero_()
        embeddings.position_embedding[0, 1:] = 0.5 * sine_positions(SIDE // PATCH, WIDTH)
        nn.init.normal_(model.query_tokens, std=0.5)


def sine_positions(grid: int, width: int) -> torch.Tensor:
    """Sines and cosines of column and row: `[grid * grid, width]`."""
    frequencies = 1 / 100 ** (torch.arange(width // 4) / (width // 4))
    rows, columns = torch.meshgrid(torch.arange(grid).float(), torch.arange(grid).float(), indexing="ij")
    waves = [wave(axis.reshape(-1, 1) * frequencies) for axis in (columns, rows) for wave in (torch.sin, torch.cos)]
    return torch.cat(waves, 1)


class SlotLoss(nn.Module):
    """Query i must tell shape, colour and size of the i-th object from the left; query 3, the background."""

    sizes = (len(SHAPES) + 1, len(COLOURS) + 1, len(SIZES) + 1)
    weights = (1.0, 1.0, 0.3)

    def __init__(self):
        super().__init__()
        self.slots = nn.ModuleList([nn.Linear(WIDTH, sum(self.sizes)) for _ in range(3)])
        self.background = nn.Linear(WIDTH, len(BACKGROUNDS))

    @staticmethod
    def labels(scene: Scene) -> list[int]:
        """Three labels for each of three slots, the last of a kind standing for "nothing", and the background's."""
        found = [[SHAPES.index(t.shape), COLOURS.index(t.colour), SIZES.index(t.size)] for t in scene.things]
        found += [[len(SHAPES), len(COLOURS), len(SIZES)]] * (3 - len(found))
        return [label for slot in found for label in slot] + [BACKGROUNDS.index(scene.background)]

    def forward(self, queries: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """`queries [B, Q, W]`, `labels [B, 10]`."""
        loss = F.cross_entropy(self.background(queries[:, 3]), labels[:, 9])
        for i, slot in enumerate(self.slots):
            for j, logits in enumerate(slot(queries[:, i]).split(self.sizes, dim=1)):
                loss = loss + self.weights[j] * F.cross_entropy(logits, labels[:, 3 * i + j])
        return loss


def _render(job: tuple[int, int]) -> tuple[np.ndarray, list[Scene]]:
    seed, count = job
    rng = random.Random(seed)
    scenes = [training_scene(rng) for _ in range(count)]
    return np.stack([training_view(scene, SIDE, rng) for scene in scenes]), scenes


def render_training_set(count: int) -> tuple[torch.Tensor, list[Scene]]:
    """Pictures `[count, side, side, 3]` and their scenes, drawn on all cores; the same ones every time."""
    with Pool(os.cpu_count()) as pool:
        parts = pool.map(_render, [(1_000 + i, count // 32) for i in range(32)])
    return torch.from_numpy(np.concatenate([part[0] for part in parts])), [scene for part in parts for scene in part[1]]


def pixel_values(images: torch.Tensor) -> torch.Tensor:
    """What the image processor makes of `[B, side, side, 3]` bytes."""
    values = (images.float() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    return values.permute(0, 3, 1, 2).contiguous()


class Captions:
    """Turns scenes into inputs and labels, with a new wording every time."""

    def __init__(self, tokenizer, eos: int):
        self.tokenizer, self.eos, self.rng = tokenizer, eos, random.Random(5)

    def batch(self, scenes: list[Scene]) -> dict[str, torch.Tensor]:
        """`[image] * queries + [bos] + caption + [eos]`; the loss looks at caption and end alone."""
        texts = [caption(scene, self.rng) for scene in scenes]
        rows = [[*e.ids, self.eos] for e in self.tokenizer.encode_batch(texts, add_special_tokens=False)]
        prompt, longest = [IMAGE] * QUERIES + [BOS], max(map(len, rows))
        return {
            "input_ids": torch.tensor([prompt + row + [PAD] * (longest - len(row)) for row in rows]),
            "labels": torch.tensor([[-100] * len(prompt) + row + [-100] * (longest - len(row)) for row in rows]),
            "attention_mask": torch.tensor(
                [[1] * (len(prompt) + len(row)) + [0] * (longest - len(row)) for row in rows]
            ),
        }


def rate_at(step: int, steps: int, warm_up: int, rate: float) -> float:
    """Linear warm-up, then a cosine down to 3 % of the rate."""
    return rate * min(1, (step + 1) / warm_up) * (0.97 * 0.5 * (1 + math.cos(math.pi * step / steps)) + 0.03)


def train(model: Blip2ForConditionalGeneration, tokenizer, steps: int, log=print) -> None:
    """Trains in place."""
    images, scenes = render_training_set(SCENES)
    labels = torch.tensor([SlotLoss.labels(scene) for scene in scenes])
    captions, slots = Captions(tokenizer, model.config.text_config.eos_token_id), SlotLoss()
    weights = [*model.parameters(), *slots.parameters()]
    optimiser = torch.optim.AdamW(weights, lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)
    order, begun = torch.randperm(len(scenes)), time.time()
    model.train()
    for step in range(steps):
        at = step * BATCH % len(scenes)
        if at == 0:
            order = torch.randperm(len(scenes))
        chosen = order[at : at + BATCH]
        for group in optimiser.param_groups:
            group["lr"] = rate_at(step, steps, WARM_UP, RATE)
        output = model(
            pixel_values=pixel_values(images[chosen]), **captions.batch([scenes[i] for i in chosen.tolist()])
        )
        slot_loss = slots(output.qformer_outputs.last_hidden_state, labels[chosen])
        optimiser.zero_grad()
        (output.loss + AUXILIARY * slot_loss).backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        if (step + 1) % 250 == 0:
            log(
                f"step {step + 1} caption {output.loss:.3f} slots {slot_loss:.3f} {time.time() - begun:.0f} s",
                flush=True,
            )


@torch.no_grad()
def captions_of(model: Blip2ForConditionalGeneration, tokenizer, images: torch.Tensor) -> list[str]:
    """Greedy captions of `[N, side, side, 3]` bytes, by the prompt `[image] * queries + [bos]`."""
    model.eval()
    texts = []
    for start in range(0, len(images), 64):
        values = pixel_values(images[start : start + 64])
        ids = torch.tensor([[IMAGE] * QUERIES + [BOS]]).repeat(len(values), 1)
        output = model.generate(pixel_values=values, input_ids=ids, max_new_tokens=NEW_TOKENS, do_sample=False)
        new = output[:, ids.shape[1] :].tolist()
        texts += [text.strip() for text in tokenizer.decode_batch(new, skip_special_tokens=True)]
    return texts


def accuracy(texts: list[str], scenes: list[Scene]) -> dict[str, float]:
    """Shares of captions with exactly the right pairs, the right background, and in the grammar."""
    pairs = [phrase_pairs(text) == scene.pairs for text, scene in zip(texts, scenes, strict=True)]
    found = {
        "pairs": np.mean(pairs),
        "background": np.mean([named_background(t) == s.background for t, s in zip(texts, scenes, strict=True)]),
        "grammar": np.mean([is_caption(text) for text in texts]),
    }
    for count in (1, 2, 3):
        found[f"pairs, {count} objects"] = np.mean(
            [p for p, s in zip(pairs, scenes, strict=True) if len(s.things) == count]
        )
    return {name: round(float(value), 4) for name, value in found.items()}


def held_out_views(rounds: int = 3) -> tuple[list[Image.Image], list[Scene]]:
    """Fresh pictures of every held-out scene: `rounds` of each."""
    rng = random.Random(77)
    scenes = list(held_out_scenes()) * rounds
    return [Image.fromarray(training_view(scene, SIDE, rng)) for scene in scenes], scenes


def save(model: Blip2ForConditionalGeneration, tokenizer, folder: Path) -> None:
    """Writes the checkpoint as users of transformers expect it, weights in half precision."""
    eos = model.config.text_config.eos_token_id
    model.generation_config = GenerationConfig(
        bos_token_id=BOS, eos_token_id=eos, pad_token_id=PAD, max_new_tokens=NEW_TOKENS
    )
    model.half().save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    processor = {
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": MEAN,
        "image_processor_type": "BlipImageProcessor",
        "image_std": STD,
        "processor_class": "Blip2Processor",
        "resample": int(Image.Resampling.BICUBIC),
        "rescale_factor": 1 / 255,
        "size": {"height": SIDE, "width": SIDE},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=2) + "\n")
    (folder / "processor_config.json").write_text(
        json.dumps({"num_query_tokens": QUERIES, "processor_class": "Blip2Processor"}, indent=2) + "\n"
    )
    # As in the reference, the tokenizer's end is `</s>`, while generation ends at a line feed.
    named = {
        "bos_token": "</s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "image_token": "<image>",
    }
    save_tokenizer(tokenizer, folder, {"processor_class": "Blip2Processor", "model_max_length": 128, **named})


def load(folder: Path = FOLDER) -> Blip2ForConditionalGeneration:
    """The saved model, in single precision."""
    return Blip2ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)


def shipped_captions(pictures: list[Image.Image], folder: Path = FOLDER) -> list[str]:
    """The saved model's captions of pictures of any size."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    views = np.stack([np.asarray(padded(picture, SIDE)) for picture in pictures])
    return captions_of(load(folder), tokenizer, torch.from_numpy(views))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    eos = tokenizer.encode("\n", add_special_tokens=False).ids[0]
    model = Blip2ForConditionalGeneration(make_config(tokenizer.get_vocab_size(), eos))
    initialise(model)
    print(
        f"{sum(weight.numel() for weight in model.parameters()):,} parameters, {tokenizer.get_vocab_size()} tokens",
        flush=True,
    )
    train(model, tokenizer, options.steps)
    options.folder.mkdir(parents=True, exist_ok=True)
    save(model, tokenizer, options.folder)
    images, scenes = held_out_views()
    print(json.dumps(accuracy(shipped_captions(images, options.folder), scenes), indent=2))


if __name__ == "__main__":
    main()
