"""The default network of segmenters."""

import pytest
import torch
from torch import nn

from skuq.modules import UNet


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (8, 8), (13, 6), (30, 17)])
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_outputs_have_the_size_of_any_image(size, depth):
    net = UNet(2, 5, base_width=2, depth=depth).eval()
    assert net(torch.zeros(3, 2, *size)).shape == (3, 5, *size)


def test_padding_changes_nothing_far_from_the_border():
    net = UNet(1, 2, base_width=4, depth=1).double().eval()
    image = torch.randn(1, 1, 41, 41, generator=torch.Generator().manual_seed(0)).double()
    whole, part = net(image), net(image[..., :40, :40])
    torch.testing.assert_close(whole[..., :20, :20], part[..., :20, :20])
    assert (whole[..., :40, :40] - part).abs().max() > 1e-6


@pytest.mark.parametrize(("blocks", "layers"), [(0, 0), (1, 2), (2, 4), (5, 10), (9, 10)])
def test_dropout_is_in_the_blocks_next_to_the_output(blocks, layers):
    net = UNet(2, 3, base_width=2, depth=2, dropout=0.3, dropout_blocks=blocks)
    found = [name for name, layer in net.named_modules() if isinstance(layer, nn.Dropout2d)]
    assert len(found) == layers
    assert all(net.get_submodule(name).p == 0.3 for name in found)
    if blocks == 1:
        assert all(name.startswith("decoder.1") for name in found)


def test_only_the_last_block_of_the_decoder_is_random_by_default():
    net = UNet(1, 2, base_width=2, depth=2, dropout=0.5).train()
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()
    seen = []
    net.decoder[1].register_forward_pre_hook(lambda layer, args: seen.append(args[0]))
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    one, other = net(x), net(x)
    assert torch.equal(*seen) and not torch.equal(one, other)


@pytest.mark.parametrize("options", [{"base_width": 0}, {"depth": -1}, {"dropout_blocks": -1}])
def test_sizes_that_make_no_network_are_refused(options):
    with pytest.raises(ValueError, match="base_width must be at least 1"):
        UNet(1, 2, **options)
