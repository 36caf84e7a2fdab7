"""Folders of image and audio models with what prepares their inputs: pipelines, lists, refusals."""

import numpy as np
import pytest
import transformers
from patch_cases import AST, IMAGES, SOUNDS
from PIL import Image

import bertlite
from bertlite.cli.main import main
from bertlite.models.families import FAMILIES


def image(height: int, width: int) -> Image.Image:
    drawn = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(drawn)


@pytest.fixture
def image_folder(tmp_path):
    """A ViT of ours with an image processor beside it."""
    model_class = FAMILIES["vit"].model("ForImageClassification")
    model_class(model_class.config_class(**IMAGES)).save_pretrained(tmp_path)
    processor = transformers.ViTImageProcessorPil(size={"height": 12, "width": 12})
    processor.save_pretrained(tmp_path)
    return tmp_path


def test_images_by_pipelines(image_folder):
    """Transformers' Auto class and ours, with the processor that the folder holds."""
    model = bertlite.load(image_folder, "image-classification")
    processor = transformers.AutoImageProcessor.from_pretrained(image_folder)
    auto = transformers.AutoModelForImageClassification.from_pretrained(image_folder)
    assert type(auto).__module__.startswith("transformers.")
    ours = transformers.pipeline("image-classification", model=model, image_processor=processor)
    theirs = transformers.pipeline("image-classification", model=str(image_folder))
    images = [image(20, 30), image(12, 9)]
    for found, expected in zip(ours(images), theirs(images), strict=True):
        assert [each["label"] for each in found] == [each["label"] for each in expected]
        scores = [[each["score"] for each in row] for row in (found, expected)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-6)


def test_a_processor_that_resizes_nothing_gives_a_list(image_folder):
    model = bertlite.load(image_folder)
    processor = transformers.AutoImageProcessor.from_pretrained(image_folder)
    images = [image(20, 30), image(12, 9)]
    inputs = processor(images, do_resize=False)
    logits = model(**inputs).logits
    for row, each in zip(logits, inputs["pixel_values"], strict=True):
        assert model([each]).logits[0].tolist() == pytest.approx(row.tolist(), abs=1e-6)


def test_sounds_by_pipelines(tmp_path):
    model_class = FAMILIES[AST].model("ForAudioClassification")
    fields = {**SOUNDS, "num_mel_bins": 16}
    model_class(model_class.config_class(**fields)).save_pretrained(tmp_path)
    extractor = transformers.ASTFeatureExtractor(num_mel_bins=16, max_length=40)
    extractor.save_pretrained(tmp_path)
    model = bertlite.load(tmp_path, "audio-classification")
    made = np.random.default_rng(0)
    sounds = [made.standard_normal(size).astype(np.float32) for size in (5000, 9000)]
    ours = transformers.pipeline("audio-classification", model=model, feature_extractor=extractor)
    theirs = transformers.pipeline("audio-classification", model=str(tmp_path))
    for found, expected in zip(ours(sounds), theirs(sounds), strict=True):
        assert [each["label"] for each in found] == [each["label"] for each in expected]
        scores = [[each["score"] for each in row] for row in (found, expected)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-6)


def test_what_reads_texts_refuses_images(image_folder, capsys):
    with pytest.raises(ValueError, match="encode: model must read texts, got model_type 'vit'"):
        bertlite.encode("a text", image_folder)
    with pytest.raises(ValueError, match="ForSequenceClassification, got ViTForImageClassifi"):
        bertlite.classify("a text", image_folder)
    assert main(["check", str(image_folder)]) == 2
    assert "a model that reads texts, got model_type 'vit'" in capsys.readouterr().err
