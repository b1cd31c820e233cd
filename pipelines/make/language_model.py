"""Makes `models/scenes-qwen2`: a Qwen2 of 0.7 million parameters that rewords captions, and is ready to be adapted.

The base answers `Caption: ...\\nDescription:` with a faithful paraphrase: a plain caption stays plain, and what
adjectives a caption has are kept. It has also read rich texts that answer no caption. So it knows the adjectives and
how to copy, and an adapter has only one thing to teach: to describe a plain caption richly.
"""

import argparse
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM

from captioner import rate_at
from grammar import (
    caption,
    decompose,
    describe,
    paraphrase,
    rich_phrase,
    rich_phrases,
    sentence,
    usage,
    word_richly,
)
from split import training_scene
from tokenizer import save_tokenizer, train_tokenizer

FOLDER = Path(__file__).parent.parent / "models" / "scenes-qwen2"
END = "<|endoftext|>"
VOCABULARY, POSITIONS = 700, 512
STEPS, BATCH, WARM_UP, RATE = 5_000, 32, 100, 2e-3


def prompt(text: str) -> str:
    """The prompt for a caption; an answer follows after a space."""
    return f"Caption: {text}\nDescription:"


def make_tokenizer():
    """The language model's tokenizer: every word of the grammar is one token."""
    return train_tokenizer(_corpus(random.Random(2), 6_000), [END], VOCABULARY)


def _corpus(rng: random.Random, scenes: int):
    for _ in range(scenes):
        scene = training_scene(rng)
        yield f"{prompt(caption(scene, rng))} {describe(scene, rng)}"
        yield f"{prompt(caption(scene, rng))} {paraphrase(scene, rng)}"
        yield f"{prompt(caption(scene, rng))} {decompose(scene, rng)}"
        yield f" {usage(rng.choice(scene.things), rng)}"


def make_model(vocabulary: int) -> Qwen2ForCausalLM:
    """A fresh model: grouped-query attention, tied embeddings."""
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    return Qwen2ForCausalLM(config)


class Lessons:
    """Draws what the base reads, as token ids and the place where the loss begins."""

    def __init__(self, tokenizer, rng: random.Random):
        self.tokenizer, self.rng = tokenizer, rng

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text).ids

    def draw(self) -> tuple[list[int], int]:
        """A caption with its paraphrase, plain or rich; or a text that stands alone."""
        scene, rng = training_scene(self.rng), self.rng
        kind = rng.choices(("plain", "rich", "alone"), (55, 20, 25))[0]
        if kind == "alone":
            return [*self._ids(self._alone(scene)), 0], 0
        if kind == "plain":
            question, answer = caption(scene, rng), paraphrase(scene, rng)
        else:
            phrases = rich_phrases(scene, rng, (0, 1, 2, 3))
            question, answer = word_richly(phrases, scene, rng), sentence(word_richly(phrases, scene, rng))
        asked = self._ids(prompt(question))
        return [*asked, *self._ids(f" {answer}"), 0], len(asked)

    def _alone(self, scene) -> str:
        kind = self.rng.choices(("phrase", "sentence", "decomposed", "usage"), (4, 3, 1, 2))[0]
        if kind == "usage":
            return f" {usage(self.rng.choice(scene.things), self.rng)}"
        if kind == "phrase":
            phrase = rich_phrase(self.rng.choice(scene.things), self.rng, self.rng.choice((1, 2, 3)))
            return f" {sentence(phrase)}"
        return f" {describe(scene, self.rng) if kind == 'sentence' else decompose(scene, self.rng)}"

    def batches(self, size: int, pool: int = 16) -> Iterator[dict[str, torch.Tensor]]:
        """Padded batches without end; each holds rows of about one length, which saves the padding."""
        while True:
            rows = sorted((self.draw() for _ in range(size * pool)), key=lambda row: len(row[0]))
            starts = [i * size for i in range(pool)]
            self.rng.shuffle(starts)
            for start in starts:
                yield collate(rows[start : start + size])


def collate(rows: list[tuple[list[int], int]]) -> dict[str, torch.Tensor]:
    """Pads rows of (ids, start of the loss) on the right; labels are -100 on prompts and padding."""
    longest = max(len(ids) for ids, _ in rows)
    spare = [longest - len(ids) for ids, _ in rows]
    return {
        "input_ids": torch.tensor([ids + [0] * n for (ids, _), n in zip(rows, spare, strict=True)]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * n for (ids, _), n in zip(rows, spare, strict=True)]),
        "labels": torch.tensor([[-100] * k + ids[k:] + [-100] * n for (ids, k), n in zip(rows, spare, strict=True)]),
    }


def train(model: Qwen2ForCausalLM, tokenizer, steps: int, log=print) -> None:
    """Trains in place."""
    batches = Lessons(tokenizer, random.Random(3)).batches(BATCH)
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)
    begun = time.time()
    model.train()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = rate_at(step, steps, WARM_UP, RATE)
        loss = model(**next(batches)).loss
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if (step + 1) % 250 == 0:
            log(f"step {step + 1} loss {loss:.3f} {time.time() - begun:.0f} s", flush=True)


@torch.no_grad()
def answers(model, tokenizer, captions: list[str], new_tokens: int = 96) -> list[str]:
    """Greedy answers to captions; captions of equal length go together, so that nothing is padded."""
    model.eval()
    asked = [tokenizer.encode(prompt(text)).ids for text in captions]
    found = [""] * len(captions)
    for length in sorted({len(ids) for ids in asked}):
        rows = [i for i, ids in enumerate(asked) if len(ids) == length]
        ids = torch.tensor([asked[i] for i in rows])
        output = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new_tokens,
            do_sample=False,
            eos_token_id=0,
            pad_token_id=0,
        )
        for row, text in zip(rows, tokenizer.decode_batch(output[:, length:].tolist()), strict=True):
            found[row] = text.strip()
    return found


def save(model: Qwen2ForCausalLM, tokenizer, folder: Path) -> None:
    """Writes the checkpoint as users of transformers expect it."""
    model.generation_config = GenerationConfig(eos_token_id=0, pad_token_id=0)
    model.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    save_tokenizer(tokenizer, folder, {"eos_token": END, "pad_token": END, "model_max_length": POSITIONS})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    model = make_model(tokenizer.get_vocab_size())
    print(
        f"{sum(weight.numel() for weight in model.parameters()):,} parameters, {tokenizer.get_vocab_size()} tokens",
        flush=True,
    )
    train(model, tokenizer, options.steps)
    options.folder.mkdir(parents=True, exist_ok=True)
    save(model, tokenizer, options.folder)


if __name__ == "__main__":
    main()
