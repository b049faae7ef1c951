"""The adapter to `transformers`: a tiny model with random weights must learn its pairs and sample what it learned."""

import math

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from reprise.blocks.reasoners import LanguageModel

WORDS = ["<end>", "<pad>", *"0123456789", "=", "a", "b"]
PAIRS = [("1 2 =", "a 1 b 3"), ("4 4 =", "b 4 a 8"), ("0 5 =", "a 0 b 5")]


def _language_model(**kwargs):
    torch.manual_seed(0)
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", pad_token="<pad>")
    config = GPT2Config(
        vocab_size=len(WORDS), n_positions=16, n_embd=32, n_layer=1, n_head=2, eos_token_id=0, bos_token_id=0,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    return LanguageModel(GPT2LMHeadModel(config), tokenizer, max_tokens=8, **kwargs)


def test_the_loss_counts_answers_and_their_end_but_no_prompt_and_no_padding():
    ours = _language_model()
    pairs = [PAIRS[0], ("4 =", "b 4")]  # of different lengths
    by_hand, count = 0.0, 0
    for prompt, answer in pairs:
        tokens = ours.tokenizer(f"{prompt} {answer} <end>", return_tensors="pt")["input_ids"]
        start = len(prompt.split())
        logits = ours.model(input_ids=tokens).logits[0, start - 1 : -1]
        by_hand += F.cross_entropy(logits, tokens[0, start:], reduction="sum")
        count += tokens.shape[1] - start
    torch.testing.assert_close(ours._loss(pairs), by_hand / count, rtol=1e-4, atol=1e-4)


def test_a_model_learns_its_pairs_and_ends_its_answers():
    ours = _language_model(learning_rate=1e-2, epochs=60, batch=2)
    first = ours._loss(PAIRS).item()
    assert first == pytest.approx(math.log(len(WORDS)), abs=0.5)  # random weights know nothing
    ours.finetune(PAIRS)
    assert ours._loss(PAIRS).item() < 0.05
    answers = ours.sample([prompt for prompt, _ in PAIRS], 0, 2)
    assert answers == [[answer] * 2 for _, answer in PAIRS]
    warm = ours.sample(["1 2 ="], 1.0, 20)[0]
    assert len(warm) == 20
    assert warm.count("a 1 b 3") > 15


def test_a_hot_sampler_varies_and_a_model_needs_a_tokenizer():
    ours = _language_model()
    assert len(set(ours.sample(["1 2 ="], 5.0, 10)[0])) > 5
    with pytest.raises(ValueError, match="needs its tokenizer"):
        LanguageModel(ours.model)
