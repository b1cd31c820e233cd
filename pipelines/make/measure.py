"""Measures descriptions: how rich, how faithful to their captions, how close to the references."""

from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from grammar import count_adjectives, phrase_pairs


def pairs_kept(captions: list[str], descriptions: list[str]) -> float:
    """The share of descriptions with exactly the (colour, noun) pairs of their captions: what richness may not cost."""
    kept = [phrase_pairs(c) == phrase_pairs(d) for c, d in zip(captions, descriptions, strict=True)]
    return sum(kept) / len(kept)


def cider_d(descriptions: list[str], references: list[list[str]]) -> float:
    """CIDEr-D of the COCO caption evaluation (PTB tokens; needs Java), on its scale of 0 to 10."""
    wanted = {i: [{"caption": text} for text in texts] for i, texts in enumerate(references)}
    found = {i: [{"caption": text}] for i, text in enumerate(descriptions)}
    tokenizer = PTBTokenizer()
    return float(Cider().compute_score(tokenizer.tokenize(wanted), tokenizer.tokenize(found))[0])


def report(captions: list[str], descriptions: list[str], references: list[list[str]]) -> dict[str, float]:
    """The three numbers that every table shows."""
    return {
        "adjectives": round(sum(map(count_adjectives, descriptions)) / len(descriptions), 2),
        "pairs kept": round(pairs_kept(captions, descriptions), 4),
        "CIDEr-D": round(cider_d(descriptions, references), 3),
    }
