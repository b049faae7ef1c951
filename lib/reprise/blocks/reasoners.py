"""Reasoners of text: anything that can answer prompts at a temperature and learn from pairs of prompt and answer.

`Reasoner` is the whole interface. `ChainReasoner` puts one tiny transformer of the course behind it;
`LanguageModel` does the same for a causal model of the `transformers` library, which the course does not install.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch.nn import functional as F

from reprise.blocks import chain_sums as chains
from reprise.blocks.chain_sums import ChainSums
from reprise.blocks.seeds import FlatAdam, RunRNG
from reprise.blocks.transformer import StackedTransformer

Pairs = Sequence[tuple[str, str]]


class Reasoner(Protocol):
    """What a self-taught reasoner needs of a model."""

    def sample(self, prompts: Sequence[str], temperature: float | int, n: int) -> list[list[str]]:
        """n answers to every prompt; a temperature of 0 is greedy."""

    def finetune(self, pairs: Pairs) -> float:
        """Learn from pairs of prompt and answer; returns the mean loss per answer token, in nats."""


class ChainReasoner:
    """One tiny transformer that writes chain sums.

    Args:
        task: of its prompts, e.g. "3 8 5 =".
        model: of one run.
        seed: of its samples and batches.
        steps: updates of one `finetune`.
        batch: pairs of one update.
        learning_rate: of Adam, whose moments are kept from one `finetune` to the next.
    """

    def __init__(
        self,
        task: ChainSums,
        model: StackedTransformer,
        seed: int = 0,
        steps: int = 30,
        batch: int = 32,
        learning_rate: float = 1e-3,
    ):
        if model.runs != 1:
            raise ValueError(f"a reasoner is one network, not a stack of {model.runs}; select a run first")
        self.task, self.model, self.steps, self.batch = task, model, steps, batch
        self.optimizer = FlatAdam(model.params, learning_rate)
        self._rng = RunRNG([seed], "reasoner", model.params.device)

    def sample(self, prompts: Sequence[str], temperature: float | int, n: int) -> list[list[str]]:
        queries = torch.stack([self._query(prompt) for prompt in prompts]).unsqueeze(0)
        heat = None if temperature == 0 else temperature
        drawn = chains.attempts(self.task, self.model, queries, n, heat, self._rng)[0]
        return [[self.task.write(one) for one in own] for own in drawn.cpu()]

    def finetune(self, pairs: Pairs) -> float:
        if not pairs:
            raise ValueError("there is nothing to learn from; pass at least one pair of prompt and answer")
        queries = torch.stack([self._query(prompt) for prompt, _ in pairs])
        answers = torch.stack([self.task.read(answer) for _, answer in pairs]).to(queries.device)
        total = 0.0
        for _ in range(self.steps):
            rows = self._rng.randint(len(pairs), self.batch)
            self.model.params.zero_grad()
            loss = chains.solution_loss(self.task, self.model, queries[rows], answers[rows])
            loss.sum().backward()
            self.optimizer.step()
            total += float(loss.detach()) / self.steps
        return total

    def _query(self, prompt: str) -> torch.Tensor:
        tokens = self.task.read(prompt)
        if len(tokens) != self.task.prompt_length or tokens[-1] != self.task.separator:
            raise ValueError(f"a prompt is {self.task.operands} digits and '=', not {prompt!r}")
        return tokens[:-1].to(self.model.params.device)


class LanguageModel:
    """A causal language model behind the same two functions; optional, and the only place that needs `transformers`.

    Args:
        model: a `transformers` causal model, or the name or folder of one.
        tokenizer: that belongs to it; loaded beside the model where `model` is a name.
        max_tokens: longest answer, in tokens.
        batch: pairs of one update.
        learning_rate: of AdamW, whose moments are kept from one `finetune` to the next.
        epochs: passes over the pairs in one `finetune`.
    Raises:
        ImportError: `transformers` is not installed.
    """

    def __init__(
        self, model, tokenizer=None, max_tokens: int = 256, batch: int = 8, learning_rate: float = 1e-5, epochs: int = 1
    ):
        try:
            import transformers
        except ImportError as error:
            raise ImportError(
                "a real language model needs the `transformers` package: run `pip install transformers` and try again"
            ) from error
        if isinstance(model, str):
            tokenizer = tokenizer or transformers.AutoTokenizer.from_pretrained(model)
            model = transformers.AutoModelForCausalLM.from_pretrained(model)
        if tokenizer is None or tokenizer.eos_token_id is None:
            raise ValueError("a language model needs its tokenizer, with a token that ends answers (eos_token)")
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.model, self.tokenizer = model, tokenizer
        self.max_tokens, self.batch, self.epochs = max_tokens, batch, epochs
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)

    @torch.no_grad()
    def sample(self, prompts: Sequence[str], temperature: float | int, n: int) -> list[list[str]]:
        self.model.eval()
        found = []
        for prompt in prompts:
            tokens = torch.tensor([self.tokenizer(prompt)["input_ids"]], device=self.model.device)
            how = {"do_sample": True, "temperature": float(temperature), "top_k": 0, "top_p": 1.0}
            drawn = self.model.generate(
                tokens.expand(n if temperature else 1, -1),
                attention_mask=torch.ones_like(tokens).expand(n if temperature else 1, -1),
                max_new_tokens=self.max_tokens,
                pad_token_id=self.tokenizer.pad_token_id,
                **(how if temperature else {"do_sample": False}),
            )
            answers = self.tokenizer.batch_decode(drawn[:, tokens.shape[1] :], skip_special_tokens=True)
            found.append(answers if temperature else answers * n)
        return found

    def finetune(self, pairs: Pairs) -> float:
        if not pairs:
            raise ValueError("there is nothing to learn from; pass at least one pair of prompt and answer")
        self.model.train()
        losses = []
        for _ in range(self.epochs):
            for start in range(0, len(pairs), self.batch):
                loss = self._loss(pairs[start : start + self.batch])
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                losses.append(float(loss.detach()))
        return sum(losses) / len(losses)

    def _loss(self, pairs: Pairs) -> torch.Tensor:
        """Mean cross-entropy of the answers' tokens, the one that ends them included; prompts are not learned."""
        ids = lambda text, **how: self.tokenizer(text, **how)["input_ids"]  # noqa: E731
        both = [(ids(p), ids(a, add_special_tokens=False) + [self.tokenizer.eos_token_id]) for p, a in pairs]
        longest = max(len(p) + len(a) for p, a in both)
        tokens = torch.full((len(both), longest), self.tokenizer.pad_token_id)
        labels, mask = torch.full_like(tokens, -100), torch.zeros_like(tokens)
        for row, (prompt, answer) in enumerate(both):
            end = len(prompt) + len(answer)
            tokens[row, :end], mask[row, :end] = torch.tensor(prompt + answer), 1
            labels[row, len(prompt) : end] = torch.tensor(answer)
        tokens, labels, mask = (t.to(self.model.device) for t in (tokens, labels, mask))
        logits = self.model(input_ids=tokens, attention_mask=mask).logits
        return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
