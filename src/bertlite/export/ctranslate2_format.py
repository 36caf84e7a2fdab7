"""CTranslate2's own folders: encoders for vectors, and encoder-decoders.

Its converter reads transformers' classes by the names of their modules, which ours have too, so it
is given our models. Where it takes more for granted than is so, we say it ourselves: Marian's
loader cuts the last row off the vocabulary, which is padding in Marian's files alone.

Shapes: `B` batch, `T` length.
"""

import copy
import dataclasses
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from ..backends.engines.onnx_graph import needed
from ..inference.encode import finished
from ..inference.language_codes import language_tokens, starts_with_language
from ..inference.pooling import pool
from ..models.transformer_families import FAMILIES
from .checking import Compared, Compute, check_batches, expected_outputs
from .decoding import start_token
from .formats import Format, check_start
from .plans import Batch
from .sources import Source

HINT = 'install it with: pip install "bertlite[ctranslate2]"'
# Its loader of each family's encoder: RoBERTa's reads the modules of those that have its names.
ENCODERS = {
    "bert": "BertLoader",
    "distilbert": "DistilBertLoader",
    **dict.fromkeys(("roberta", "xlm-roberta", "camembert"), "RobertaLoader"),
}
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
        if task == "embed":
            refuse_encoder(config)
        if source.recipe.layers:
            raise ValueError("format ctranslate2 holds no layers behind the pooling; use onnx")
        if task == "translate":
            refuse_writer(config, source)

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


def kind_of(config: Any) -> str:
    """The `model_type` of an encoder, as transformers calls it."""
    return "bert" if config.model_type == "bertlite" else config.model_type


def refuse_encoder(config: Any) -> None:
    """Refuse, with a ValueError, an encoder that CTranslate2 has no layers for."""
    if config.is_encoder_decoder or kind_of(config) not in ENCODERS:
        raise ValueError(
            f"format ctranslate2 holds vectors of {', '.join(ENCODERS)}, got those of "
            f"{config.model_type}; use onnx"
        )
    if config.norm_first:
        raise ValueError("format ctranslate2 needs post-norm, got norm_first=True")


def refuse_writer(config: Any, source: Source) -> None:
    """Refuse, with a ValueError, an encoder-decoder that CTranslate2 has no layers for."""
    loaders = needed("ctranslate2.converters.transformers", HINT)
    names = "MarianMTLoader", f"{FAMILIES[config.family].prefix}Loader"
    if not hasattr(loaders, names[config.family != "marian"]):
        raise ValueError(f"format ctranslate2 has no loader of {config.family}; use onnx")
    check_start(source)
    rules = source.model.generation_config
    ends = rules.eos_token_id if isinstance(rules.eos_token_id, list) else [rules.eos_token_id]
    if rules.repetition_penalty not in (None, 1.0) and start_token(source.model) in ends:
        raise ValueError(
            "format ctranslate2 does not penalise the token that a text begins with, which is its "
            f"end too in {source.folder}: generation_config.repetition_penalty must be 1.0, got "
            f"{rules.repetition_penalty}"
        )
    if is_changed(config):
        raise ValueError(
            f"format ctranslate2 needs the layers of {config.family} as transformers has them, got "
            f"others in {source.folder}"
        )
    if not config.share_encoder_decoder_embeddings:
        raise ValueError(
            "format ctranslate2 needs one vocabulary, got share_encoder_decoder_embeddings=False"
        )


def is_changed(config: Any) -> bool:
    """Whether an encoder-decoder's layers differ from those of its family."""
    if config.family == "marian":
        return config.norm_first or config.normalize_embedding
    return config.plain_model_type() is None


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
    """The model as CTranslate2's tree of weights, which are rounded where they lie."""
    if source.task.name == "embed" or source.model.config.family == "marian":
        source = dataclasses.replace(source, model=copy.deepcopy(source.model))
    loaders = needed("ctranslate2.converters.transformers", HINT)
    if source.task.name == "embed":
        loader = getattr(loaders, ENCODERS[kind_of(source.model.config)])()
        with borrowed(source.model.config, position_embedding_type="absolute"):
            spec = loader.get_model_spec(source.encoder)
            if (padding := source.model.config.position_padding) is not None:
                # Its loader cuts the rows before the first position where padding is not 0 alone.
                table = source.encoder.embeddings.position_embeddings.weight
                spec.encoder.position_encodings.encodings = table[padding + 1 :]
            spec.config.unk_token = source.tokenizer.unk_token
            spec.config.layer_norm_epsilon = source.model.config.layer_norm_eps
        return spec
    spec = marian_tree(source) if source.model.config.family == "marian" else family_tree(source)
    config, tokens = source.model.generation_config, tokens_of(source)
    ends = config.eos_token_id
    spec.config.eos_token = tokens[ends[0] if isinstance(ends, list) else ends]
    spec.config.unk_token = source.tokenizer.unk_token or spec.config.eos_token
    spec.config.bos_token = spec.config.eos_token
    # None: the target's language is told with each text.
    starts = starts_with_language(source.model, source.tokenizer)
    spec.config.decoder_start_token = None if starts else tokens[first_token(source)]
    return spec


def marian_tree(source: Source) -> Any:
    """Marian's, with all rows of the vocabulary, of which the loader would cut the last."""
    loaders = needed("ctranslate2.converters.transformers", HINT)
    with borrowed(source.model.config, normalize_before=False, normalize_embedding=False):
        return loaders.BartLoader().get_model_spec(source.model)


def family_tree(source: Source) -> Any:
    """Another family's, of transformers' own class, as CTranslate2's loader expects it."""
    prefix = FAMILIES[source.model.config.family].prefix
    loaders = needed("ctranslate2.converters.transformers", HINT)
    with tempfile.TemporaryDirectory() as folder:
        source.model.save_pretrained(folder)
        theirs = getattr(transformers, f"{prefix}ForConditionalGeneration").from_pretrained(folder)
    if source.model.config.family != "m2m_100":  # whose loader sets them itself
        theirs.config.normalize_before = source.model.config.norm_first
        theirs.config.normalize_embedding = source.model.config.normalize_embedding
    return getattr(loaders, f"{prefix}Loader")().get_model_spec(theirs.eval())


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
        if starts_with_language(source.model, source.tokenizer):
            targets = [[tokens[first_token(source)], *target] for target in targets]
        found = translator.score_batch(sources, targets)
        expected = log_probabilities(source, batch)
        size = expected.shape[1]
        yield "log_probabilities", np.array([each.log_probs[:size] for each in found]), expected


def first_token(source: Source) -> int:
    """What the target begins with; of mBART any language."""
    if starts_with_language(source.model, source.tokenizer):
        return next(iter(language_tokens(source.tokenizer).values()))
    start = start_token(source.model)
    assert start is not None  # `check_start` has seen to it
    return start


def log_probabilities(source: Source, batch: Batch) -> np.ndarray:
    """The model's of each token of `decoder_input_ids` `(B, T)`, after the start token."""
    targets = batch["decoder_input_ids"]
    start = torch.full_like(targets[:, :1], first_token(source))
    given = {**batch, "decoder_input_ids": torch.cat([start, targets[:, :-1]], 1)}
    with torch.no_grad():
        logits = source.model(**given).logits
    return logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0].numpy()
