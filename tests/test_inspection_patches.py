"""Pictures of patches, against transformers' own class and sums by hand."""

import pytest
import torch
from patch_cases import AST, cases, pair, theirs_of

import bertlite
from bertlite.inspection import attention_over_patches, occluded_patches


@pytest.mark.parametrize(("family", "own"), [("vit", 1), ("deit", 2)])
def test_attention_is_rolled_out(tmp_path, family, own):
    """Half attention, half residual, layer after layer: of transformers' weights, by hand."""
    theirs, ours = pair(family, "ForImageClassification", tmp_path)
    theirs.set_attn_implementation("eager")
    image = torch.randn(3, 8, 20, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = theirs(image[None], interpolate_pos_encoding=True, output_attentions=True)
    first, second = ((layer[0].mean(0) + torch.eye(10 + own)) / 2 for layer in found.attentions)
    expected = (second @ first)[0, own:].view(2, 5)
    torch.testing.assert_close(attention_over_patches(image, ours), expected)


def test_sounds_have_pictures_too():
    model = cases(AST)[0].model()
    picture = attention_over_patches(torch.randn(20, 12), model)
    assert picture.shape == (3, 6)  # patches of 4 every 3: of 12 bins, and of 20 frames
    assert 0 < picture.sum() < 1


def test_patches_are_painted_over(tmp_path):
    """One at a time, by transformers' class."""
    theirs, ours = pair("vit", "ForImageClassification", tmp_path)
    image = torch.randn(3, 12, 12, generator=torch.Generator().manual_seed(1))

    def odds(pixels: torch.Tensor) -> torch.Tensor:
        chance = theirs(pixels[None]).logits[0].softmax(-1)[1]
        return (chance / (1 - chance)).log()

    expected = torch.zeros(3, 3)
    with torch.no_grad():
        for down in range(3):
            for across in range(3):
                painted = image.clone()
                painted[:, 4 * down : 4 * down + 4, 4 * across : 4 * across + 4] = 0.5
                expected[down, across] = odds(image) - odds(painted)
        found = occluded_patches(image, ours, target=1, fill=0.5)
        best = int(theirs(image[None]).logits.argmax())
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(occluded_patches(image, ours), occluded_patches(image, ours, target=best))


def test_what_has_no_picture_is_refused():
    image, model = torch.zeros(3, 12, 12), cases("vit")[2].model()
    with pytest.raises(ValueError, match="target must be one of 3 classes, got 3"):
        occluded_patches(image, model, target=3)
    with pytest.raises(ValueError, match="patches that lie side by side"):
        occluded_patches(torch.zeros(20, 12), cases(AST)[2].model())
    with pytest.raises(ValueError, match="must be in evaluation mode"):
        attention_over_patches(image, model.train())
    bert = bertlite.BertLiteModel(bertlite.preset("bert-tiny"))
    with pytest.raises(ValueError, match="reads patches .*, got BertLiteModel"):
        attention_over_patches(image, bert)
    with pytest.raises(ValueError, match="got ViTModel"):  # theirs has other embeddings
        attention_over_patches(image, theirs_of("vit", "Model"))
