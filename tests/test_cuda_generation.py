"""Generation with a static cache and compiled steps, as it will run on a GPU.

Here steps are compiled by the backend "eager" on a CPU: what is compiled, what stays in place and
what comes out is the same, only the kernels are not fused.
"""

import pytest
import torch
from cases import randomize, transformer_config
from cuda_stand_ins import StandInBackend
from transformers import CompileConfig, DynamicCache, EncoderDecoderCache, StaticCache

import bertlite
from bertlite.backends.cuda import generation
from bertlite.backends.generation import generate

LENGTHS = (7, 3, 5)


def writer():
    return randomize(bertlite.TransformerLiteForConditionalGeneration(transformer_config()))


def sources() -> dict:
    mask = (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]).long()
    ids = torch.randint(3, 60, mask.shape, generator=torch.Generator().manual_seed(3))
    return {"input_ids": ids, "attention_mask": mask}


def eagerly() -> CompileConfig:
    config = CompileConfig(backend="eager", mode=None)
    config._compile_all_devices = True
    return config


@pytest.mark.slow
@pytest.mark.parametrize("num_beams", [1, 3])
def test_tokens_are_those_of_the_library(num_beams):
    model, batch = writer(), sources()
    asked = {"num_beams": num_beams, "max_new_tokens": 9, "do_sample": False}
    expected = model.generate(**batch, **asked)
    calls = []
    compiled = model.get_compiled_call

    def counted(config):
        calls.append(config)
        return compiled(config)

    model.get_compiled_call = counted
    found = generation.generate(model, **batch, **asked, compile_config=eagerly())
    assert torch.equal(found, expected)
    assert calls  # its steps were compiled ones


def filled_cache(beams: int) -> tuple[EncoderDecoderCache, list[torch.Tensor]]:
    """A cache whose keys say which beam has written them."""
    config = transformer_config()
    own = StaticCache(config=config, max_cache_len=4)
    cross = DynamicCache(config=config)
    marks = torch.arange(float(beams)).view(beams, 1, 1, 1)
    for layer in range(config.decoder_layers):
        own.update(marks.expand(beams, 2, 1, 16), marks.expand(beams, 2, 1, 16) + 100, layer)
        cross.update(marks.expand(beams, 2, 5, 16), marks.expand(beams, 2, 5, 16), layer)
    cache = generation.SteadyCache(own, cross)
    return cache, [layer.keys for layer in own.layers]


def test_beams_change_places_where_they_are():
    """Each beam goes on from its ancestor; nothing moves in memory, and sources stay."""
    cache, before = filled_cache(4)
    addresses = [keys.data_ptr() for keys in before]
    cache.reorder_cache(torch.tensor([1, 1, 3, 0]))
    layers = cache.self_attention_cache.layers
    assert [layer.keys.data_ptr() for layer in layers] == addresses
    for layer in layers:
        assert layer.keys[:, 0, 0, 0].tolist() == [1, 1, 3, 0]
        assert layer.values[:, 0, 0, 0].tolist() == [101, 101, 103, 100]
    for layer in cache.cross_attention_cache.layers:
        assert layer.keys[:, 0, 0, 0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, None),
        ({"num_beams": 4}, None),
        ({"use_cache": False}, "no cache is wanted"),
        ({"cache_implementation": "dynamic"}, "cache_implementation was given"),
        ({"stop_strings": ["."]}, "stop_strings was given"),
        ({"assistant_model": object()}, "assistant_model was given"),
        ({"past_key_values": object()}, "past_key_values was given"),
    ],
)
def test_what_is_left_to_the_library(given, reason):
    assert generation.why_not(writer(), given) == reason


def test_a_watched_model_is_left_to_the_library():
    model = writer()
    model.model.decoder.layers[0].register_forward_hook(lambda *each: None)
    assert generation.why_not(model, {}) == "a hook watches DecoderLayer"
    assert generation.why_not(writer().train(), {}) == "it is in training mode"


def test_on_a_cpu_the_other_loop_decodes():
    model, batch = writer(), sources()
    asked = {"num_beams": 2, "max_new_tokens": 5, "do_sample": False}
    assert torch.equal(generate(model, **batch, **asked), model.generate(**batch, **asked))


def test_the_search_can_be_asked_for_by_the_librarys_own_argument():
    """Without a static cache it is the library's loop, sampling too."""
    model, batch = writer(), sources()
    for asked in ({"num_beams": 2}, {"do_sample": True}):
        torch.manual_seed(0)
        expected = model.generate(**batch, max_new_tokens=5, **asked)
        torch.manual_seed(0)
        found = model.generate(
            **batch, max_new_tokens=5, custom_generate=generation.static_generate, **asked
        )
        assert torch.equal(found, expected)


def test_model_generate_reaches_it_where_a_static_cache_is_asked_for():
    """By the seam, in the library's own words; without them the library's loop decodes."""
    model, backend = writer().eval(), StandInBackend()
    assert backend.unsupported("generate", model, arguments={}) == [
        "generation_config.cache_implementation is not 'static'"
    ]
    asked = {"cache_implementation": "static"}
    assert backend.unsupported("generate", model, arguments=asked) == []
    assert backend.decoding_method() is generation.static_generate
    reasons = backend.unsupported("generate", model, arguments={**asked, "streamer": object()})
    assert reasons == ["streamer was given"]
