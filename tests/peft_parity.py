"""Holds the release's adapter on its base model against Hugging Face peft: the same logits from `pipe-torch forward` and from
transformers + peft, to 1e-4.

    python tests/peft_parity.py BASE_DIR ADAPTER_DIR PIPE_TORCH

Needs torch, transformers, peft, safetensors. Exits 1 if the logits differ by more, or if peft warns of keys that do not fit.
"""

import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

TOLERANCE = 1e-4
CAPTIONS = [
    "a red house",
    "a green ball and a blue tree in a meadow",
    "a city with a white tower , a yellow car and a black figure",
]


def main() -> int:
    base, adapter, pipe_torch = sys.argv[1:]
    tokenizer = AutoTokenizer.from_pretrained(base)
    prompts = [f"Caption: {caption}\nDescription:" for caption in CAPTIONS]
    rows = [tokenizer(prompt, add_special_tokens=False)["input_ids"] for prompt in prompts]
    longest = max(map(len, rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for at, row in enumerate(rows):
        ids[at, longest - len(row) :] = torch.tensor(row)
        mask[at, longest - len(row) :] = 1

    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*adapter keys.*")  # peft only warns when keys do not fit
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter).eval()
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=mask).logits
        with model.disable_adapter():
            bare = model(input_ids=ids, attention_mask=mask).logits

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.safetensors"), Path(folder, "out.safetensors")
        save_file({"input_ids": ids, "attention_mask": mask}, source)
        command = [pipe_torch, "forward", base, "--adapter", adapter, "--input", source, "--output", target]
        subprocess.run(command, check=True)
        ours = load_file(target)["logits"]

    counts = mask.bool()
    difference = (ours - expected)[counts].abs().max().item()
    effect = (bare - expected)[counts].abs().max().item()
    print(f"max |pipe - peft| = {difference:.2e} (the adapter itself moves logits by up to {effect:.2f})")
    return 0 if difference <= TOLERANCE and effect > 100 * TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
