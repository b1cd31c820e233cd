"""Makes the tiny random models of this directory, and what the reference computes with them.

    pip install torch==2.11.0 torchvision==0.26.0 transformers==5.23.0 peft==0.21.2 safetensors numpy pillow
    python make.py

Every model is re-randomised after construction: the reference initialises norms to one, biases and BLIP-2's queries to
zero and its image encoder to nearly nothing, so that a comparison on the raw model would pass whatever they do.
"""

import json
import pathlib
import shutil

import numpy
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    Blip2Config, Blip2ForConditionalGeneration, Blip2QFormerConfig, Blip2VisionConfig, OPTConfig, OPTForCausalLM,
    Qwen2Config, Qwen2ForCausalLM, get_scheduler,
)
from transformers.models.blip.image_processing_blip import BlipImageProcessor

HERE = pathlib.Path(__file__).parent
VOCABULARY = 96


def randomise(model, seed, std=0.3):
    generator = torch.Generator().manual_seed(seed)
    for name, p in sorted(model.named_parameters()):
        noise = torch.randn(p.shape, generator=generator)
        centre = 1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0
        p.data.copy_(centre + noise * std)
    for module in model.modules():
        if hasattr(module, "qkv") and module.qkv.bias is not None:
            d = module.qkv.bias.numel() // 3
            module.qkv.bias.data[d : 2 * d] = 0.0  # the reference's keys have no bias
    return model.eval()


def save(model, name, **options):
    directory = HERE / name
    shutil.rmtree(directory, ignore_errors=True)
    model.save_pretrained(directory, **options)
    return directory


def edit_config(directory, change):
    path = directory / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def token_rows(seed, lengths):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, VOCABULARY, (n,), generator=generator) for n in lengths]


def left_padded(rows):
    longest = max(len(row) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, longest - len(row) :] = row
        mask[i, longest - len(row) :] = 1
    return ids, mask


@torch.no_grad()
def causal_expectations(model):
    """Logits of rows on their own and left-padded, and greedy continuations in several settings."""
    out = {}
    rows = token_rows(11, [9, 5, 7])
    for i, row in enumerate(rows):
        out[f"row{i}"] = row
        out[f"logits{i}"] = model(input_ids=row[None]).logits[0]
    ids, mask = left_padded(rows)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    padded = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits
    for i, row in enumerate(rows):
        out[f"padded{i}"] = padded[i, -len(row) :].contiguous()
    count = 12
    settings = dict(max_new_tokens=count, do_sample=False, pad_token_id=0)

    def continued(**more):
        return model.generate(input_ids=ids, attention_mask=mask, **{**settings, **more})[:, ids.shape[1] :]

    free = continued(eos_token_id=None)
    # Not all rows say it, and none says it first.
    stop = next(t for t in free.flatten().tolist() if (free == t).any(1).sum() < 3 and (free[:, 0] != t).all())
    out["stop"] = torch.tensor([stop])
    out["free"] = free
    out["stopped"] = continued(eos_token_id=stop)
    out["at_least"] = continued(eos_token_id=stop, min_new_tokens=9)
    # The reference counts filling as seen; on rows without filling there is no difference.
    out["penalised"] = model.generate(
        input_ids=rows[0][None], eos_token_id=None, repetition_penalty=1.7, **settings
    )[:, len(rows[0]) :]
    return {k: v.contiguous() for k, v in out.items()}


def lora_examples():
    """Two windows' worth of micro-batches: rows of different lengths, prompts not learned."""
    rows = token_rows(23, [10, 7, 12, 8])
    examples = []
    for i, row in enumerate(rows):
        labels = row.clone()
        labels[: 3 + i % 2] = -100
        examples.append((row, labels))
    return [examples[:2], examples[2:]]


def write_train_rows():
    rows = [[row.tolist(), labels.tolist()] for batch in lora_examples() for row, labels in batch]
    (HERE / "train-rows.json").write_text(json.dumps(rows) + "\n")


def right_padded(examples):
    longest = max(len(row) for row, _ in examples)
    ids = torch.zeros(len(examples), longest, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for i, (row, label) in enumerate(examples):
        ids[i, : len(row)], mask[i, : len(row)], labels[i, : len(row)] = row, 1, label
    return dict(input_ids=ids, attention_mask=mask, labels=labels)


def adapted(model, config, seed):
    torch.manual_seed(seed)
    model = get_peft_model(model, config)
    generator = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        if "lora_B" in name:  # zero would hide A's gradient
            p.data.copy_(torch.randn(p.shape, generator=generator) * 0.1)
    return model.eval()  # the base's dropout off; the adapter has none


def lora_step(model, autocast=False):
    """Loss and gradient norm of one window, per the rules of transformers.Trainer."""
    window = [right_padded(batch) for batch in lora_examples()]
    tokens = sum((batch["labels"][:, 1:] != -100).sum() for batch in window)
    total = 0.0
    for batch in window:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = model(**batch, num_items_in_batch=tokens).loss
        loss.backward()
        total += loss.item()
    trained = [p for p in model.parameters() if p.requires_grad]
    return total, trained


def lora_run(load, config, name, steps=3):
    """Steps with warm-up, clipping and decay; the adapter before and after."""
    model = adapted(load(), config, 31)
    model.save_pretrained(HERE / name)
    (HERE / name / "README.md").unlink(missing_ok=True)
    path = HERE / name / "adapter_config.json"
    stored = json.loads(path.read_text())
    stored["base_model_name_or_path"] = None  # a path of this machine
    stored["target_modules"] = sorted(stored["target_modules"])  # a set, in no order
    path.write_text(json.dumps(stored, indent=2) + "\n")
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-2, weight_decay=0.1, betas=(0.9, 0.999), eps=1e-8, fused=True)
    schedule = get_scheduler("cosine", optimizer, num_warmup_steps=1, num_training_steps=6)
    losses, norms, rates = [], [], []
    for _ in range(steps):
        loss, _ = lora_step(model)
        norms.append(torch.nn.utils.clip_grad_norm_(trained, 0.5).item())
        rates.append(schedule.get_last_lr()[0])
        losses.append(loss)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    numbers = {"losses": losses, "norms": norms, "rates": rates}
    out = {name: torch.tensor(values, dtype=torch.float64) for name, values in numbers.items()}
    for key, p in model.named_parameters():
        if p.requires_grad:
            out["after." + key.removeprefix("base_model.model.").replace(".default", "")] = p.detach().clone()
    return out


def lora_numerics(load, config):
    """One window on a 16-bit base, in the two ways the reference has."""
    out = {}
    for name, autocast in (("peft_fp32", False), ("hf_autocast", True)):
        model = adapted(load().to(torch.bfloat16), config, 31)
        for key, p in model.named_parameters():
            if p.requires_grad:
                p.data = p.data.float()
        exact = adapted(load(), config, 31)
        model.load_state_dict({k: v for k, v in exact.state_dict().items() if "lora_" in k}, strict=False)
        loss, trained = lora_step(model, autocast)
        norm = torch.nn.utils.clip_grad_norm_(trained, 1e9)
        out[name] = torch.tensor([loss, norm.item()], dtype=torch.float64)
    return out


def make_qwen2(name, tied, seed):
    torch.manual_seed(seed)
    model = randomise(
        Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-5,
                rope_parameters={"rope_type": "default", "rope_theta": 3000.0}, tie_word_embeddings=tied,
                eos_token_id=2, pad_token_id=0, **({} if tied else {"head_dim": 12}),
            )
        ),
        seed,
    )
    directory = save(model, name, **({} if tied else {"max_shard_size": "40KB"}))
    expected = causal_expectations(model)
    load = lambda: Qwen2ForCausalLM.from_pretrained(directory, dtype=torch.float32)
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    if tied:
        expected |= lora_run(load, config, f"{name}-adapter")
        expected |= lora_numerics(load, config)
        with torch.no_grad():
            model = adapted(load(), config, 31)
            expected["adapted0"] = model(input_ids=expected["row0"][None]).logits[0].clone()
    else:
        edit_config(directory, as_written_by_version_4)
    save_file(expected, directory / "expected.safetensors")


def as_written_by_version_4(config):
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    config["rope_scaling"] = None
    config["torch_dtype"] = config.pop("dtype")
    config["sliding_window"] = 16
    del config["layer_types"]


def make_opt():
    torch.manual_seed(5)
    config = OPTConfig(
        vocab_size=VOCABULARY, hidden_size=32, word_embed_proj_dim=32, ffn_dim=64, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=64,
    )
    model = randomise(OPTForCausalLM(config), 5)
    directory = save(model, "opt")
    expected = causal_expectations(model)
    load = lambda: OPTForCausalLM.from_pretrained(directory, dtype=torch.float32)
    lora = LoraConfig(
        r=3, lora_alpha=6, target_modules=["v_proj", "fc1", "q_proj"], use_rslora=True, task_type="CAUSAL_LM"
    )
    expected |= lora_run(load, lora, "opt-adapter")
    save_file(expected, directory / "expected.safetensors")


def make_opt_post():
    """As OPT-350M: norms after, narrow embeddings; and neither biases nor learned norms."""
    torch.manual_seed(7)
    config = OPTConfig(
        vocab_size=VOCABULARY, hidden_size=32, word_embed_proj_dim=24, ffn_dim=48, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=64, do_layer_norm_before=False, enable_bias=False,
        layer_norm_elementwise_affine=False, activation_function="gelu",
    )
    model = randomise(OPTForCausalLM(config), 7)
    directory = save(model, "opt-post")
    save_file(causal_expectations(model), directory / "expected.safetensors")


def make_blip2():
    torch.manual_seed(6)
    text = OPTConfig(
        vocab_size=VOCABULARY, hidden_size=32, word_embed_proj_dim=32, ffn_dim=64, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=48, eos_token_id=90,
    )
    config = Blip2Config(
        vision_config=Blip2VisionConfig(
            hidden_size=24, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, image_size=28,
            patch_size=14,
        ).to_dict(),
        qformer_config=Blip2QFormerConfig(
            hidden_size=24, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48, encoder_hidden_size=24
        ).to_dict(),
        text_config=text.to_dict(), num_query_tokens=6, image_token_index=VOCABULARY - 1,
    )
    model = randomise(Blip2ForConditionalGeneration(config), 6).to(torch.float16)
    directory = save(model, "blip2")
    model = model.float()
    processor = BlipImageProcessor(size={"height": 28, "width": 28})
    processor.save_pretrained(directory)
    expected = {}
    generator = numpy.random.default_rng(8)
    images = []
    for i, (height, width) in enumerate([(40, 52), (28, 28), (17, 23)]):
        noise = generator.integers(0, 256, (height, width, 3), dtype=numpy.uint8)
        ramp = numpy.linspace(0, 200, width, dtype=numpy.uint8)[None, :, None]
        images.append(numpy.maximum(noise // 2, ramp))
        expected[f"image{i}"] = torch.from_numpy(images[-1].copy())
    pixels = processor([Image.fromarray(image) for image in images], return_tensors="pt")["pixel_values"]
    expected["pixels"] = pixels
    prompt = torch.tensor([10, 11, 12])
    expected["prompt"] = prompt
    ids = torch.cat([torch.full((6,), VOCABULARY - 1), torch.tensor([2]), prompt]).repeat(3, 1)
    settings = dict(max_new_tokens=10, do_sample=False)
    with torch.no_grad():
        expected["logits"] = model(pixel_values=pixels, input_ids=ids).logits
        expected["captions"] = model.generate(pixel_values=pixels, input_ids=ids, **settings)[:, ids.shape[1] :]
        bare = model.generate(pixel_values=pixels, **settings)
        expected["bare"] = bare[:, 7:] if bare.shape[1] > 10 else bare
        # The older generation of checkpoints: no image token, the queries put before the text.
        features = model.get_image_features(pixels).pooler_output
        words = model.language_model.get_input_embeddings()(torch.cat([torch.tensor([2]), prompt])).repeat(3, 1, 1)
        joined = torch.cat([features, words], dim=1)
        expected["older_logits"] = model.language_model(inputs_embeds=joined).logits
        expected["older_captions"] = model.language_model.generate(inputs_embeds=joined, **settings)
    save_file({k: v.contiguous() for k, v in expected.items()}, directory / "expected.safetensors")
    older = {
        "model_type": "blip-2", "num_query_tokens": 6, "torch_dtype": "float16", "use_decoder_only_language_model": True,
        "text_config": {
            "model_type": "opt", "vocab_size": VOCABULARY, "hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 64,
            "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 48, "eos_token_id": 90,
        },
        "vision_config": {
            "hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
            "image_size": 28, "patch_size": 14, "num_channels": 3,
        },
        "qformer_config": {
            "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48,
            "encoder_hidden_size": 24, "classifier_dropout": None,
        },
    }
    (directory / "older-config.json").write_text(json.dumps(older, indent=2) + "\n")


def make_tokenizer():
    directory = HERE / "tokenizer"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<pad>", "<s>", "</s>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    text = "a red circle left of a blue square. an old engraving of a great ship on a calm sea at night"
    tokenizer.train_from_iterator([text] * 4, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.enable_padding(length=64)
    tokenizer.save(str(directory / "tokenizer.json"))
    tokenizer.no_padding()
    texts = ["a red ship at sea", "  two  spaces\n", "ខ្មែរ and 🙂", ""]
    cases = [{"text": t, "ids": tokenizer.encode(t, add_special_tokens=False).ids} for t in texts]
    for case in cases:
        case["with_special"] = tokenizer.encode(case["text"]).ids
        case["decoded"] = tokenizer.decode(case["with_special"])
    (directory / "cases.json").write_text(json.dumps(cases, ensure_ascii=False, indent=1) + "\n")


def make_schedules():
    cases = []
    for name in ("cosine", "linear", "constant_with_warmup"):
        for warmup, total in ((0, 7), (3, 10)):
            optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
            schedule = get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=total)
            rates = []
            for _ in range(total):
                rates.append(schedule.get_last_lr()[0])
                optimizer.step()
                schedule.step()
            cases.append(
                {"schedule": name.split("_")[0], "warmup": warmup, "total": total, "base": 0.3, "rates": rates}
            )
    (HERE / "schedules.json").write_text(json.dumps(cases, indent=1) + "\n")


def make_optimizer():
    """Five clipped steps of the fused AdamW on one large and one small tensor."""
    generator = torch.Generator().manual_seed(41)
    params = [torch.randn(33, 17, generator=generator), torch.randn(5, generator=generator)]
    out = {f"before.{i}": p.clone() for i, p in enumerate(params)}
    for p in params:
        p.requires_grad_()
    optimizer = torch.optim.AdamW(params, lr=3e-3, weight_decay=0.01, betas=(0.9, 0.999), eps=1e-8, fused=True)
    for step in range(5):
        for i, p in enumerate(params):
            p.grad = torch.randn(p.shape, generator=generator) * 10.0 ** -step
            out[f"grad.{step}.{i}"] = p.grad.clone()
        out[f"norm.{step}"] = torch.nn.utils.clip_grad_norm_(params, 0.9).clone()
        optimizer.step()
    for i, p in enumerate(params):
        out[f"after.{i}"] = p.detach().clone()
        out[f"exp_avg.{i}"] = optimizer.state[p]["exp_avg"]
        out[f"exp_avg_sq.{i}"] = optimizer.state[p]["exp_avg_sq"]
    save_file(out, HERE / "optimizer.safetensors")


def main():
    torch.set_num_threads(1)
    make_qwen2("qwen2-tied", True, 3)
    make_qwen2("qwen2-untied", False, 4)
    make_opt()
    make_opt_post()
    make_blip2()
    make_tokenizer()
    make_schedules()
    write_train_rows()
    make_optimizer()
    size = sum(path.stat().st_size for path in HERE.rglob("*") if path.is_file())
    print(f"{size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
