"""The fast loop at `generate`'s own extension point, and what is left to the library.

Shapes: `B` sources, `K` beams a source, `S` source length.
"""

from typing import Any

import torch
from transformers.generation import (
    GenerateBeamEncoderDecoderOutput,
    GenerateEncoderDecoderOutput,
    GenerationMode,
)
from transformers.generation.logits_process import RepetitionPenaltyLogitsProcessor
from transformers.generation.stopping_criteria import MaxLengthCriteria
from transformers.generation.utils import GENERATION_MODES_MAPPING

from .decoder_engine import DTYPES, engine_of, padding_without_position, why_not
from .decoding import DecodingState
from .generation_rules import ACTS, Processors, RowLimits, Stops
from .search import BeamOptions, BeamSearch, greedy_search

# Arguments that the library drops where a callable decodes: only plain `generate` can serve them.
DROPPED = (
    "streamer",
    "assistant_model",
    "assistant_tokenizer",
    "tokenizer",
    "synced_gpus",
    "custom_generate",
)
PLAIN_ONLY = ("prompt_lookup_num_tokens", "assistant_early_exit", "stop_strings")
MODES = (GenerationMode.GREEDY_SEARCH, GenerationMode.BEAM_SEARCH)
OUTPUTS = ("output_attentions", "output_hidden_states", "output_scores", "output_logits")
KNOWN: tuple[str, ...] = (
    "encoder_outputs",
    "attention_mask",
    "past_key_values",
    "use_cache",
    "logits_to_keep",
    "token_type_ids",
)
KNOWN += ("token_type_ids", "output_attentions", "output_hidden_states")


def generate(model: Any, *args: Any, dtype: str = "fp32", **kwargs: Any) -> Any:
    """`model.generate`, by the fast loop where that can do what is asked, else by the library's
    own.

    Args:
        model: an encoder-decoder.
        args: for `model.generate`.
        dtype: as `fast_generate`.
        kwargs: for `model.generate`, whatever it takes.

    Returns:
        What `model.generate` returns.

    Raises:
        ValueError: a dtype that there is not, or that this model or these arguments cannot have.
    """
    check_dtype(dtype)
    reason = against(model, kwargs)
    if reason is None:
        return model.generate(*args, custom_generate=fast_generate, decoder_dtype=dtype, **kwargs)
    only_fp32(dtype, reason)
    return model.generate(*args, **kwargs)


def against(model: Any, arguments: dict[str, Any]) -> str | None:
    """Why `model.generate(**arguments)` is the library's own, or None."""
    config = arguments.get("generation_config") or model.generation_config
    for name in DROPPED:
        if arguments.get(name):
            return f"{name} was given"
    for name in PLAIN_ONLY:
        if arguments.get(name, getattr(config, name, None)) is not None:
            return f"{name} was given"
    return why_not(model)


def check_dtype(dtype: str) -> None:
    """Refuse what the engine does not know."""
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")


def only_fp32(dtype: str, reason: str) -> None:
    """The library's loop knows no int8: never return another precision than was asked for."""
    if dtype != "fp32":
        raise ValueError(
            f"dtype must be 'fp32' where the library's loop decodes, got {dtype!r}, and {reason}"
        )


def fast_generate(
    model: Any,
    input_ids: torch.Tensor,
    logits_processor: Any = None,
    stopping_criteria: Any = None,
    generation_config: Any = None,
    decoder_dtype: str = "fp32",
    **model_kwargs: Any,
) -> Any:
    """Decode for `model.generate(..., custom_generate=fast_generate)`, token for token as the
    library does.

    What it does not do itself it hands over to the library's loop: sampling, outputs of attentions,
    hidden states, scores or logits, a cache that is given, masks or positions of the decoder, other
    processors or stopping criteria than those in `rules`, models that `why_not` names. It never
    sees a streamer, an assistant or a tokenizer, which the library drops before: `generate` of this
    module looks at them first. With `return_dict_in_generate` there is no `past_key_values` in the
    result.

    Args:
        model: the model.
        input_ids: `(B * K, length)`, what each text begins with.
        logits_processor: the library's list.
        stopping_criteria: the library's list.
        generation_config: complete, with the special tokens as tensors.
        decoder_dtype: "fp32", or "int8": decoder and vocabulary products in 8 bits, with other
            results.
        model_kwargs: `encoder_outputs` and the rest of what the model's forward takes.

    Returns:
        `(B * num_return_sequences, length)` ids, or the library's output class.

    Raises:
        ValueError: an unknown dtype, int8 where the library has to decode, or a way of decoding
            that the library does not let a callable hand back.
    """
    check_dtype(decoder_dtype)
    asked = (input_ids, logits_processor, stopping_criteria, generation_config, model_kwargs)
    if reason := why_library(model, *asked):
        only_fp32(decoder_dtype, reason)
        method = GENERATION_MODES_MAPPING[generation_config.get_generation_mode()]
        if method not in ("_sample", "_beam_search"):
            raise ValueError(f"custom_generate must be left out, since {reason}; got fast_generate")
        arguments = (input_ids, logits_processor, stopping_criteria, generation_config)
        return getattr(type(model), method)(model, *arguments, **model_kwargs)
    beams = generation_config.num_beams
    engine, mask = engine_of(model, decoder_dtype), model_kwargs.get("attention_mask")
    source = model_kwargs["encoder_outputs"][0][::beams]  # (B, S, E): it comes once for each beam
    stops = Stops(stopping_criteria, len(source))
    mask = None if mask is None else mask[::beams]  # (B, S)
    state = DecodingState(engine, source, mask, beams, stops.max_length - 1)
    processors = Processors(logits_processor, engine.vocab_size)
    sequences: Any
    indices: Any
    if beams == 1:
        pad = None if stops.eos is None else int(generation_config._pad_token_tensor)
        sequences = greedy_search(state, input_ids, processors, stops, pad)
        return (
            GenerateEncoderDecoderOutput(sequences=sequences)
            if returns_dict(generation_config)
            else sequences
        )
    search = BeamSearch(model, state, processors, stops, beam_options(generation_config))
    sequences, indices = search(input_ids)
    if returns_dict(generation_config):
        return GenerateBeamEncoderDecoderOutput(sequences=sequences, beam_indices=indices)
    return sequences


def returns_dict(config: Any) -> bool:
    """Whether the library would return its output class."""
    return bool(config.return_dict_in_generate)


def beam_options(config: Any) -> BeamOptions:
    """What the generation config says about beams."""
    eos, pad, beams = config._eos_token_tensor, config._pad_token_tensor, config.num_beams
    fill = (
        -1 if eos is None else int(pad or eos[0])
    )  # the library's: a padding id of 0 gives way to the end token
    return BeamOptions(
        num_beams=beams,
        candidates=max(2, 1 + (0 if eos is None else len(eos))) * beams,
        length_penalty=config.length_penalty,
        early_stopping=config.early_stopping,
        num_return_sequences=config.num_return_sequences,
        fill=fill,
    )


def why_library(
    model: Any, input_ids, logits_processor, stopping_criteria, config, model_kwargs
) -> str | None:
    """Why the library's loop has to decode, or None where the fast one does the same."""
    mode = config.get_generation_mode()
    if mode not in MODES:
        return f"the mode is {mode.value}"
    if reason := why_not(model):
        return reason
    for name in OUTPUTS:
        if getattr(config, name):
            return f"{name} was asked for"
    if reason := why_arguments(config, model_kwargs):
        return reason
    padding = padding_without_position(model.model.decoder)
    if padding is not None and input_ids.shape[1] > 1 and bool((input_ids == padding).any()):
        return "the text begins with padding, which has no position"
    return why_rules(model, input_ids, logits_processor, stopping_criteria, config)


def why_arguments(config: Any, model_kwargs: dict[str, Any]) -> str | None:
    """Why the library's loop has to decode with these arguments of the model, or None."""
    mask, cache = model_kwargs.get("attention_mask"), model_kwargs.get("past_key_values")
    if (
        config.low_memory
        or config.cache_implementation is not None
        or not model_kwargs.get("use_cache", True)
    ):
        return "the cache is not the usual one"
    if cache is not None and (getattr(cache, "_is_user_defined", False) or cache.get_seq_length()):
        return "past_key_values was given"
    unknown = sorted(
        name for name, value in model_kwargs.items() if name not in KNOWN and value is not None
    )
    if unknown:
        return f"{unknown[0]} was given"
    if mask is not None and (mask.dim() != 2 or not mask.any(1).all()):
        return "a source has no token"
    return None


def why_rules(model: Any, input_ids, logits_processor, stopping_criteria, config) -> str | None:
    """Why the library's loop has to apply the processors or stopping criteria, or None."""
    for each in logits_processor:
        ignored = getattr(each, "prompt_ignore_length", None)
        if type(each) not in ACTS or (
            type(each) is RepetitionPenaltyLogitsProcessor and torch.is_tensor(ignored)
        ):
            return f"the processor {type(each).__name__} may look beyond a row"
    count, lengths = len(input_ids) // config.num_beams, []
    for each in stopping_criteria:
        if type(each) not in Stops.TYPES or (type(each) is RowLimits and len(each.limits) != count):
            return f"the stopping criterion {type(each).__name__} may look beyond a row"
        if type(each) is MaxLengthCriteria:
            lengths.append(each.max_length)
    positions = model.model.decoder.position_embeddings.num_embeddings
    if not lengths or min(lengths) != config.max_length or min(lengths) - 1 > positions:
        return "there may be more steps than positions"
    return None
