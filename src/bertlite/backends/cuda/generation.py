"""Generation on a GPU: a static cache, and decoding steps that are compiled and captured.

It is transformers' own way. With `cache_implementation="static"` the library's greedy loop runs
compiled steps (`mode="reduce-overhead"`: CUDA graphs) by itself. Its beam search does not, and
reorders the cache into new memory, which a captured step could not read: both are mended here, and
the search itself stays the library's, token for token.

Shapes: `B` sources, `K` beams a source.
"""

from typing import Any

import torch
from transformers import EncoderDecoderCache
from transformers.generation import GenerationMode
from transformers.generation.utils import GENERATION_MODES_MAPPING

from ...models.seam import hooked_module
from ..cpu.generation import DROPPED, PLAIN_ONLY


class SteadyCache(EncoderDecoderCache):
    """A static cache that stays where it is in memory when beams change places."""

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Let beam i go on from what beam `beam_idx[i]` has written; `(B * K,)`.

        The source's keys and values stay: beams change places within a source only.
        """
        layers: Any = self.self_attention_cache.layers
        for layer in layers:
            if layer.is_initialized:
                index = beam_idx.to(layer.keys.device)
                layer.keys.copy_(layer.keys.index_select(0, index))
                layer.values.copy_(layer.values.index_select(0, index))


class SteppedModel:
    """A model as the library's search sees it, whose steps after the first are compiled.

    Args:
        model: an encoder-decoder.
        step: its forward, compiled.
    """

    def __init__(self, model: Any, step: Any):
        self.model, self.step = model, step

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def __call__(self, **inputs: Any) -> Any:
        """A step: one token for each of B * K beams."""
        return self.step(**inputs)


def generate(model: Any, *args: Any, **kwargs: Any) -> Any:
    """`model.generate`, with a static cache and captured steps where the library allows them.

    Args:
        model: an encoder-decoder on a GPU.
        args: for `model.generate`.
        kwargs: for `model.generate`, whatever it takes.

    Returns:
        What `model.generate` returns.
    """
    if why_not(model, kwargs):
        return model.generate(*args, **kwargs)
    return model.generate(
        *args, custom_generate=static_generate, cache_implementation="static", **kwargs
    )


def why_not(model: Any, kwargs: dict[str, Any]) -> str | None:
    """Why only the library's usual loop can do what is asked, or None."""
    config = kwargs.get("generation_config") or model.generation_config
    if kwargs.get("cache_implementation", config.cache_implementation) is not None:
        return "cache_implementation was given"
    return against(model, kwargs)


def against(model: Any, kwargs: dict[str, Any]) -> str | None:
    """Why no loop with a static cache can do what is asked, or None."""
    config = kwargs.get("generation_config") or model.generation_config
    for name in (*DROPPED, "past_key_values", "decoder_inputs_embeds"):
        if kwargs.get(name) is not None:
            return f"{name} was given"
    for name in PLAIN_ONLY:
        if kwargs.get(name, getattr(config, name, None)) is not None:
            return f"{name} was given"
    if kwargs.get("use_cache", getattr(config, "use_cache", True)) is False:
        return "no cache is wanted"
    if model.training:
        return "it is in training mode"
    if watched := hooked_module(model):
        return f"a hook watches {watched}"
    return None


def against_static(model: Any, arguments: dict[str, Any]) -> str | None:
    """Why `model.generate(**arguments)` is the library's own loop, or None.

    A static cache costs a minute of compiling at first, so it is for those who ask for it, in the
    library's own words: `generation_config.cache_implementation = "static"`.
    """
    config = arguments.get("generation_config") or model.generation_config
    asked = arguments.get("cache_implementation", config.cache_implementation)
    if asked != "static":
        return "generation_config.cache_implementation is not 'static'"
    return against(model, arguments)


def static_generate(
    model: Any,
    input_ids: torch.Tensor,
    logits_processor: Any = None,
    stopping_criteria: Any = None,
    generation_config: Any = None,
    **model_kwargs: Any,
) -> Any:
    """Decode for `model.generate(..., custom_generate=static_generate)`.

    Arguments and result are those of the library's search, which runs here.

    Raises:
        ValueError: a way of decoding that the library does not let a callable hand back.
    """
    mode = generation_config.get_generation_mode()
    method = GENERATION_MODES_MAPPING[mode]
    if method not in ("_sample", "_beam_search"):
        raise ValueError(f"custom_generate must be left out for {mode.value}, got static_generate")
    search = getattr(type(model), method)
    cache: Any = model_kwargs.get("past_key_values")
    with_beams = mode == GenerationMode.BEAM_SEARCH and isinstance(cache, EncoderDecoderCache)
    if with_beams and model._valid_auto_compile_criteria(model_kwargs, generation_config):
        steady = SteadyCache(cache.self_attention_cache, cache.cross_attention_cache)
        model_kwargs["past_key_values"] = steady
        model = SteppedModel(model, model.get_compiled_call(generation_config.compile_config))
    arguments = (input_ids, logits_processor, stopping_criteria, generation_config)
    return search(model, *arguments, **model_kwargs)
