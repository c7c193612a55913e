"""TextEngine over a chat model of transformers in a local folder, many texts at once.

Each text draws from its own seed: Gumbel noise is added to the logits of its row and the largest is
taken, which is sampling from softmax (Gumbel 1954; Maddison et al. 2014), and needs no generator that a batch
would share. So a text does not hang on its neighbours in the batch, but for the rounding of batched arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LogitsProcessor, LogitsProcessorList

from voxmake.errors import Failure
from voxmake.writing.engine import EngineError, Text, TextRequest, finished


class Transformers:
    """A model with its chat template; nothing is downloaded and no code of the folder is run.

    Args:
        folder: as `save_pretrained` writes it, with safetensors.
        spec: keys of `TextModel`: temperature, top_p, max_tokens, tries.
    """

    def __init__(self, folder: str, spec: dict):
        self.spec = spec
        device = "cuda" if torch.cuda.is_available() else "cpu"
        options = {"local_files_only": True, "trust_remote_code": False}
        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left", **options)
        if not self.tokenizer.chat_template:
            raise Failure(f"{folder}: its tokenizer has no chat template; take an instruction-tuned model")
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        dtype = torch.bfloat16 if device == "cuda" else torch.float32
        self.model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, dtype=dtype, **options).to(
            device
        )
        self.model.eval()

    def generate(self, requests: Sequence[TextRequest]) -> list[Text | EngineError]:
        """One answer for each request. With a schema the prompt alone asks for it: its reader has to check."""
        answers: dict[int, Text | EngineError] = {}
        for number in range(self.spec["tries"]):
            open_ones = [at for at in range(len(requests)) if not isinstance(answers.get(at), Text)]
            # The likeliest words are the same at every try.
            if not open_ones or (number and not self.spec["temperature"]):
                break
            for at, answer in zip(open_ones, self._batch([requests[at] for at in open_ones], number), strict=True):
                answers[at] = answer
        return [answers[at] for at in range(len(requests))]

    def _batch(self, requests: list[TextRequest], number: int) -> list[Text | EngineError]:
        prompts = [
            self.tokenizer.apply_chat_template(
                [{"role": "system", "content": one.system}, {"role": "user", "content": one.prompt}],
                tokenize=False,
                add_generation_prompt=True,
            )
            for one in requests
        ]
        inputs = self.tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False).to(
            self.model.device
        )
        room = getattr(self.model.config, "max_position_embeddings", None)
        length = inputs["input_ids"].shape[1]
        if room is not None and length + self.spec["max_tokens"] > room:
            if len(requests) > 1:  # only the long ones are to blame
                return [self._batch([one], number)[0] for one in requests]
            return [EngineError("no_text", f"prompt of {length} tokens and max_tokens do not fit the model's {room}")]
        noise = SeededSampling([one.seed + number for one in requests], self.spec["temperature"], self.spec["top_p"])
        with torch.inference_mode():
            made = self.model.generate(
                **inputs,
                max_new_tokens=self.spec["max_tokens"],
                do_sample=False,
                num_beams=1,
                logits_processor=LogitsProcessorList([noise]),
                pad_token_id=self.tokenizer.pad_token_id,
            )
        ends = self.model.generation_config.eos_token_id
        ends = set(ends) if isinstance(ends, list) else {ends}
        answers = []
        for row in made[:, length:].tolist():
            stop = next((at for at, token in enumerate(row) if token in ends), None)
            text = self.tokenizer.decode(row[:stop], skip_special_tokens=True)
            answers.append(finished(text, complete=stop is not None))
        return answers


class SeededSampling(LogitsProcessor):
    """Temperature and top-p, then noise from each row's own generator: the largest logit is a sample.

    Args:
        seeds: one for each row.
        temperature: 0 leaves the logits as they are.
        top_p: share of the probability that is drawn from.
    """

    def __init__(self, seeds: list[int], temperature: float, top_p: float):
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.temperature, self.top_p = temperature, top_p

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """scores: shape (rows, vocabulary)."""
        if self.temperature == 0:
            return scores
        scores = scores.float() / self.temperature
        ordered, places = torch.sort(scores, descending=True, stable=True)
        before = torch.cumsum(torch.softmax(ordered, dim=-1), dim=-1) - torch.softmax(ordered, dim=-1)
        dropped = torch.zeros_like(scores, dtype=torch.bool).scatter(1, places, before >= self.top_p)
        uniform = torch.stack([torch.rand(scores.shape[1], generator=one) for one in self.generators])
        gumbel = -torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7)))
        return (scores + gumbel.to(scores.device)).masked_fill(dropped, -torch.inf)
