"""The tiny transformer behind the interface of text must learn from pairs and answer as the stacked functions do."""

import importlib.util
import math

import pytest
import torch

from reprise.blocks import chain_sums as chains
from reprise.blocks.chain_sums import ChainSums
from reprise.blocks.reasoners import ChainReasoner, LanguageModel
from reprise.blocks.seeds import RunRNG
from reprise.blocks.transformer import Shape, StackedTransformer

TASK = ChainSums(modulus=5, operands=2)


def _reasoner(**kwargs):
    shape = Shape(width=16, heads=2, layers=1, mlp=32, norm="rms", vocabulary=TASK.vocabulary, context=8)
    return ChainReasoner(TASK, StackedTransformer([0], shape), **kwargs)


def _pairs():
    queries = TASK.queries()
    solutions = TASK.solve(queries, torch.tensor([0, 1]).expand(len(queries), -1))
    return [(TASK.write(TASK.prompts(q)), TASK.write(y)) for q, y in zip(queries, solutions)]


def test_a_reasoner_learns_the_pairs_it_is_given():
    reasoner, pairs = _reasoner(steps=200, learning_rate=1e-2), _pairs()[3:8]
    first = reasoner.finetune(pairs)
    again = reasoner.finetune(pairs)
    assert first < math.log(TASK.vocabulary)
    assert again < first / 10
    answers = reasoner.sample([prompt for prompt, _ in pairs], 0, 2)
    assert answers == [[answer] * 2 for _, answer in pairs]


def test_text_samples_are_those_of_the_stacked_sampler():
    reasoner = _reasoner(seed=4)
    prompts, queries = ["1 4 =", "0 3 ="], torch.tensor([[[1, 4], [0, 3]]])
    texts = reasoner.sample(prompts, 0.7, 5)
    tokens = chains.attempts(TASK, reasoner.model, queries, 5, 0.7, RunRNG([4], "reasoner"))[0]
    assert texts == [[TASK.write(one) for one in own] for own in tokens]


def test_stacks_malformed_prompts_and_empty_lessons_are_refused():
    shape = Shape(width=16, heads=2, vocabulary=TASK.vocabulary, context=8)
    with pytest.raises(ValueError, match="not a stack of 2"):
        ChainReasoner(TASK, StackedTransformer([0, 1], shape))
    with pytest.raises(ValueError, match="a prompt is 2 digits and '='"):
        _reasoner().sample(["1 2"], 1.0, 1)
    with pytest.raises(ValueError, match="nothing to learn"):
        _reasoner().finetune([])


@pytest.mark.skipif(importlib.util.find_spec("transformers") is not None, reason="transformers is installed")
def test_a_real_language_model_asks_for_its_library_in_one_sentence():
    with pytest.raises(ImportError, match="run `pip install transformers`"):
        LanguageModel("some-model")
