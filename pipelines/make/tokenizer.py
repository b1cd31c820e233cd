"""Byte-level BPE tokenizers, small and trained on the grammar, that can nevertheless encode any text."""

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers


def train_tokenizer(texts: Iterable[str], special_tokens: list[str], vocabulary: int) -> Tokenizer:
    """Trains merges until every common word is one token; special tokens get the first ids."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special_tokens,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def start_with(tokenizer: Tokenizer, token: str) -> None:
    """Makes the tokenizer put a special token before every text, as OPT's does."""
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{token} $A", pair=f"{token} $A {token} $B", special_tokens=[(token, tokenizer.token_to_id(token))]
    )


def save_tokenizer(tokenizer: Tokenizer, folder: Path, settings: dict) -> None:
    """Writes `tokenizer.json` and a `tokenizer_config.json` with the given settings."""
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
