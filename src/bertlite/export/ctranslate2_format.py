"""CTranslate2's own folders: encoders for vectors, and encoder-decoders.

Its converter reads transformers' classes by the names of their modules, which ours have too, so it
is given our models. Where it takes more for granted than is so, we say it ourselves: Marian's
loader cuts the last row off the vocabulary, which is padding in Marian's files alone.

Shapes: `B` batch, `T` length.
"""

import copy
import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..backends.engines.onnx_graph import needed
from ..inference.encode import finished
from ..inference.pooling import pool
from .checking import Compared, Compute, check_batches, expected_outputs
from .formats import Format
from .plans import Batch
from .sources import Source

HINT = 'install it with: pip install "bertlite[ctranslate2]"'
FOLDER, VOCABULARY = "model", "tokens.json"


class CTranslate2(Format):
    """Folders for CTranslate2, which leaves padding out by the lengths of the rows."""

    name, engine, packages = "ctranslate2", "engine_ctranslate2", ("ctranslate2",)

    def refuse(self, source: Source, int8: bool) -> None:
        config, task = source.model.config, source.task.name
        if task not in ("embed", "translate"):
            raise ValueError(
                f"format ctranslate2 holds no heads, got a ...{source.head} in {source.folder}; "
                "use onnx, openvino or torch"
            )
        if task == "embed" and config.is_encoder_decoder:
            raise ValueError("format ctranslate2 holds the vectors of a BERT, got an encoder's")
        if config.norm_first:
            raise ValueError("format ctranslate2 needs post-norm, got norm_first=True")
        if source.recipe.layers:
            raise ValueError("format ctranslate2 holds no layers behind the pooling; use onnx")
        if task == "translate" and config.family != "marian":
            raise ValueError(f"format ctranslate2 needs Marian's layers, got {config.family}'s")
        if task == "translate" and not config.share_encoder_decoder_embeddings:
            raise ValueError(
                "format ctranslate2 needs one vocabulary, got share_encoder_decoder_embeddings="
                "False"
            )

    def write(self, source: Source, folder: Path) -> None:
        convert(source, folder, None)

    def to_int8(self, source: Source, folder: Path) -> None:
        convert(source, folder, "int8")

    def compared(self, source: Source, folder: Path) -> Compared:
        """Outputs at real tokens of rows padded on the right; of texts, log-probabilities."""
        if source.task.name == "translate":
            yield from scores(source, folder)
            return
        compute = self.compute(source, folder)
        for batch in check_batches(source):
            real = batch["attention_mask"].bool().numpy()
            if not real[:, 0].all():
                continue  # it pads on the right alone
            found = compute({name: each.numpy() for name, each in batch.items()})
            states, vectors = (each.numpy() for each in expected_outputs(source, batch))
            yield "last_hidden_state", found[0][real], states[real]
            yield "sentence_embedding", found[1], vectors

    def compute(self, source: Source, folder: Path) -> Compute:
        ctranslate2 = needed("ctranslate2", HINT)
        encoder = ctranslate2.Encoder(str(folder / FOLDER), compute_type="default")

        def run(given: dict[str, np.ndarray]) -> list[np.ndarray]:
            ids = ctranslate2.StorageView.from_array(given["input_ids"].astype(np.int32))
            counts = given["attention_mask"].sum(1).astype(np.int32)
            types = given.get("token_type_ids")
            found = encoder.forward_batch(
                ids,
                ctranslate2.StorageView.from_array(counts),
                None if types is None else types.tolist(),
            )
            states = torch.from_numpy(np.array(found.last_hidden_state))
            return [states.numpy(), pooled(source, states, counts.tolist())]

        return run


def pooled(source: Source, states: torch.Tensor, counts: list[int]) -> np.ndarray:
    """Vectors of rows `(B, T, E)`, of which so many tokens are real."""
    mask = (torch.arange(states.shape[1])[None] < torch.tensor(counts)[:, None]).long()
    vectors = pool(states, mask, source.recipe.poolings)
    return finished(vectors, source.recipe, source.recipe.normalize).numpy()


def convert(source: Source, folder: Path, quantization: str | None) -> None:
    """Write CTranslate2's files, and the tokens in the order of their numbers."""
    parent: Any = needed("ctranslate2.converters.converter", HINT).Converter
    tokens = tokens_of(source)

    class Own(parent):
        """Of a model in memory."""

        def _load(self) -> Any:
            spec = specification(source)
            for register in ("register_source_vocabulary", "register_target_vocabulary"):
                getattr(spec, register, lambda _: None)(tokens)
            if hasattr(spec, "register_vocabulary"):
                spec.register_vocabulary(tokens)
            return spec

    with torch.no_grad():
        Own().convert(str(folder / FOLDER), quantization=quantization, force=True)
    text = json.dumps(tokens, ensure_ascii=False)
    (folder / VOCABULARY).write_text(text, encoding="utf-8")


def specification(source: Source) -> Any:
    """A copy of the model as CTranslate2's tree of weights, which are rounded where they lie."""
    source = dataclasses.replace(source, model=copy.deepcopy(source.model))
    loaders = needed("ctranslate2.converters.transformers", HINT)
    if source.task.name == "embed":
        loader = loaders.BertLoader()
        with borrowed(source.model.config, position_embedding_type="absolute"):
            spec = loader.get_model_spec(source.encoder)
            spec.config.unk_token = source.tokenizer.unk_token
            spec.config.layer_norm_epsilon = source.model.config.layer_norm_eps
        return spec
    loader = loaders.BartLoader()
    fields = {"normalize_before": False, "normalize_embedding": False}
    with borrowed(source.model.config, **fields):
        spec = loader.get_model_spec(source.model)
    config, tokens = source.model.config, tokens_of(source)
    ends = source.model.generation_config.eos_token_id
    spec.config.eos_token = tokens[ends[0] if isinstance(ends, list) else ends]
    spec.config.unk_token = source.tokenizer.unk_token or spec.config.eos_token
    spec.config.bos_token = spec.config.eos_token
    spec.config.decoder_start_token = tokens[config.decoder_start_token_id]
    return spec


def tokens_of(source: Source) -> list[str]:
    """The token of each row of the embeddings; names of its own for rows without one."""
    known = {number: token for token, number in source.tokenizer.get_vocab().items()}
    return [known.get(n, f"<unused{n}>") for n in range(source.encoder.config.vocab_size)]


@contextmanager
def borrowed(config: Any, **fields: Any) -> Iterator[None]:
    """A config with further fields, for as long as the block lasts."""
    vars(config).update(fields)
    try:
        yield
    finally:
        for name in fields:
            vars(config).pop(name)


def scores(source: Source, folder: Path) -> Compared:
    """Log-probabilities of random targets, and those of the model."""
    ctranslate2 = needed("ctranslate2", HINT)
    translator = ctranslate2.Translator(str(folder / FOLDER), compute_type="default")
    tokens = np.array(tokens_of(source), dtype=object)
    for batch in check_batches(source):
        real = batch["attention_mask"].bool()
        if not bool(real[:, 0].all()):
            continue
        sources = [
            tokens[row[kept].numpy()].tolist()
            for row, kept in zip(batch["input_ids"], real, strict=True)
        ]
        targets = tokens[batch["decoder_input_ids"].numpy()].tolist()
        found = translator.score_batch(sources, targets)
        expected = log_probabilities(source, batch)
        size = expected.shape[1]
        yield "log_probabilities", np.array([each.log_probs[:size] for each in found]), expected


def log_probabilities(source: Source, batch: Batch) -> np.ndarray:
    """The model's of each token of `decoder_input_ids` `(B, T)`, after the start token."""
    targets = batch["decoder_input_ids"]
    start = torch.full_like(targets[:, :1], source.model.config.decoder_start_token_id)
    given = {**batch, "decoder_input_ids": torch.cat([start, targets[:, :-1]], 1)}
    with torch.no_grad():
        logits = source.model(**given).logits
    return logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0].numpy()
