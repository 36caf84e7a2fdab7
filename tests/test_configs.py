"""The files of `configs/`, by accelerate's own reader and by the models that they are for."""

from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.dataclasses import DistributedType
from cases import bert_config, transformer_config

import bertlite

FOLDER = Path(__file__).parents[1] / "configs"
FILES = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_accelerate_reads_it(path):
    config = load_config_from_file(str(path))
    assert config.num_processes >= config.num_machines >= 1
    assert config.distributed_type in set(DistributedType)
    assert not config.use_cpu


def test_one_gpu_to_two_nodes():
    """As many processes as the names say."""
    counts = {path.stem: load_config_from_file(str(path)).num_processes for path in FILES}
    expected = {"one_gpu": 1, "eight_gpus": 8, "eight_gpus_fsdp2": 8, "two_nodes": 16}
    assert counts == expected


def wrapped(model, names: str) -> list[str]:
    """The modules that accelerate would shard by themselves."""
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=names.split(","),
    )
    plugin.set_auto_wrap_policy(model)
    classes = plugin.auto_wrap_policy.keywords["transformer_layer_cls"]
    return [name for name, module in model.named_modules() if type(module) in classes]


def test_fsdp2_shards_the_layers_that_there_are():
    given = yaml.safe_load((FOLDER / "eight_gpus_fsdp2.yaml").read_text())["fsdp_config"]
    names = given["fsdp_transformer_layer_cls_to_wrap"]
    model = bertlite.BertLiteForPreTraining(bert_config())
    assert wrapped(model, names) == ["bert.encoder.layer.0", "bert.encoder.layer.1"]
    writer = bertlite.TransformerLiteForConditionalGeneration(transformer_config())
    found = wrapped(writer, "EncoderLayer,DecoderLayer")
    assert found == [
        f"model.{side}.layers.{number}" for side in ("encoder", "decoder") for number in (0, 1)
    ]


@pytest.mark.parametrize("name", ["BertLiteForMaskedLM", "TransformerLiteModel"])
def test_blocks_that_a_device_map_keeps_whole_are_classes_of_the_model(name):
    config = (transformer_config if name.startswith("Transformer") else bert_config)()
    model = getattr(bertlite, name)(config)
    present = {type(module).__name__ for module in model.modules()}
    kept = set(type(model)._no_split_modules)
    assert {"EncoderLayer"} <= kept & present
    if name.startswith("Transformer"):
        assert "DecoderLayer" in kept & present
