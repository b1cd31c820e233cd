"""Writes expected.json: what pycocoevalcap makes of captions.json.

Needs java and `pip install pycocoevalcap==1.2`. Every caption is tokenised with a neutral line behind it and with its line
breaks replaced by spaces, so that no caption can change the tokens of another.
"""

import json
import math
import pathlib
import subprocess
import tempfile

import pycocoevalcap.tokenizer.ptbtokenizer as ptb
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider_scorer import CiderScorer
from pycocoevalcap.rouge.rouge import Rouge

HERE = pathlib.Path(__file__).parent
JAR = pathlib.Path(ptb.__file__).parent / ptb.STANFORD_CORENLP_3_4_1_JAR
LINE_BREAKS = "\n\r\x0b\x0c\x85\u2028\u2029"


def all_tokens(captions):
    """The tokens of the jar, one line per caption."""
    lines = ["".join(" " if c in LINE_BREAKS else c for c in caption) for caption in captions]
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8", newline="\n") as file:
        file.write("".join(f"{line}\nneutral\n" for line in lines))
        file.flush()
        command = ["java", "-Dfile.encoding=UTF-8", "-cp", JAR, "edu.stanford.nlp.process.PTBTokenizer"]
        command += ["-preserveLines", "-lowerCase", file.name]
        out = subprocess.run(command, capture_output=True, check=True).stdout.decode("utf-8").split("\n")
    assert out[1 : 2 * len(lines) : 2] == ["neutral"] * len(lines), "a caption broke a line"
    return out[0 : 2 * len(lines) : 2]


def without_punctuation(line):
    """What coco-caption keeps of a line of tokens."""
    return " ".join(token for token in line.rstrip().split(" ") if token not in ptb.PUNCTUATIONS)


def cider_plain(hypotheses, references):
    """CIDEr as in the paper's equation, without clipping and length penalty, from the counts of CiderScorer."""
    scorer = CiderScorer(n=4)
    for hypothesis, texts in zip(hypotheses, references, strict=True):
        scorer += (hypothesis, texts)
    scorer.compute_doc_freq()
    log_documents = math.log(len(scorer.crefs))

    def vectors(counts):
        result = [{} for _ in range(4)]
        for gram, count in counts.items():
            weight = log_documents - math.log(max(1.0, scorer.document_frequency.get(gram, 0)))
            result[len(gram) - 1][gram] = count * weight
        return result

    def cosine(left, right):
        norm = math.sqrt(sum(v * v for v in left.values())) * math.sqrt(sum(v * v for v in right.values()))
        return sum(v * right.get(gram, 0.0) for gram, v in left.items()) / norm if norm else 0.0

    def score(hypothesis, texts):
        mine = vectors(hypothesis)
        cosines = [cosine(a, b) for text in texts for a, b in zip(mine, vectors(text), strict=True)]
        return 10.0 * sum(cosines) / len(cosines)

    return [score(hypothesis, texts) for hypothesis, texts in zip(scorer.ctest, scorer.crefs, strict=True)]


def cider_d(hypotheses, references):
    scorer = CiderScorer(n=4, sigma=6.0)
    for hypothesis, texts in zip(hypotheses, references, strict=True):
        scorer += (hypothesis, texts)
    return [float(score) for score in scorer.compute_score()[1]]


def main():
    items = json.loads((HERE / "captions.json").read_text(encoding="utf-8"))
    texts = [text for item in items for text in [item["hypothesis"], *item["references"]]]
    tokens = dict(zip(texts, all_tokens(texts), strict=True))
    hypotheses = [without_punctuation(tokens[item["hypothesis"]]) for item in items]
    references = [[without_punctuation(tokens[text]) for text in item["references"]] for item in items]

    by_id = lambda values: {item["id"]: value for item, value in zip(items, values, strict=True)}
    gts, res = by_id(references), by_id([[hypothesis] for hypothesis in hypotheses])
    bleu, bleu_items = Bleu(4).compute_score(gts, res, verbose=0)
    rouge, rouge_items = Rouge().compute_score(gts, res)
    scores = {f"bleu_{n + 1}": {"corpus": bleu[n], "items": bleu_items[n]} for n in range(4)}
    scores["rouge_l_coco"] = {"corpus": float(rouge), "items": [float(score) for score in rouge_items]}
    for name, values in (("cider_d", cider_d(hypotheses, references)), ("cider", cider_plain(hypotheses, references))):
        scores[name] = {"corpus": sum(values) / len(values), "items": values}
    out = json.dumps({"tokens": tokens, "scores": scores}, ensure_ascii=False, indent=1)
    (HERE / "expected.json").write_text(out + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
