"""Parity with `hyperlight`, the authors' own library of magnitude-invariant hypernetworks."""

import hyperlight
import pytest
import torch

from reprise.blocks.hypernetwork import StackedHypernetwork, encode

SHAPES = {"0.weight": (64, 8), "0.bias": (1, 8), "1.weight": (8, 10), "1.bias": (1, 10)}
ENCODINGS = {"cos|sin": "cos|sin", "complement": "z|1-z", "none": None}


def _pair(encoding, inputs, residual=True, seeds=(0, 1)):
    """Our stack, and per run one of theirs with copied weights (they hold weights as (outputs, inputs))."""
    ours = StackedHypernetwork(list(seeds), SHAPES, inputs, (16, 32), encoding=encoding, residual=residual)
    theirs = []
    for run in range(len(seeds)):
        peer = hyperlight.HyperNet({"g": (inputs,)}, SHAPES, [16, 32], encoding=ENCODINGS[encoding])
        own, layers = ours.params.run(run), peer.backbone
        with torch.no_grad():
            for name, layer in (("0", layers.block0_lin), ("1", layers.block1_lin), ("output", layers.output)):
                layer.weight.copy_(own[f"{name}.weight"].T)
                layer.bias.copy_(own[f"{name}.bias"][0])
        theirs.append(peer)
    return ours, theirs


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("inputs", [1, 3])
def test_generated_tensors_are_equal(encoding, inputs):
    ours, theirs = _pair(encoding, inputs)
    gamma = torch.rand(2, 5, inputs, generator=torch.Generator().manual_seed(0))
    generated = ours(gamma)
    for run, peer in enumerate(theirs):
        for name, tensor in peer(g=gamma[run]).items():
            torch.testing.assert_close(generated[name][run], tensor, rtol=1e-6, atol=1e-6)


def test_gradients_are_equal():
    ours, theirs = _pair("cos|sin", 1)
    gamma = torch.rand(2, 5, 1, generator=torch.Generator().manual_seed(1))
    sum(tensor.sin().sum() for tensor in ours(gamma).values()).backward()
    for run, peer in enumerate(theirs):
        sum(tensor.sin().sum() for tensor in peer(g=gamma[run]).values()).backward()
        layers = peer.backbone
        for name, layer in (("0", layers.block0_lin), ("1", layers.block1_lin), ("output", layers.output)):
            mine = ours.params[f"{name}.weight"].grad[run].T
            torch.testing.assert_close(mine, layer.weight.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["cos|sin", "complement"])
def test_encodings_are_equal(mode):
    from hyperlight.hypernet.encoding import encode_input

    gamma = torch.rand(7, 4, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(encode(gamma, mode), encode_input(gamma, ENCODINGS[mode]))


def test_initial_scales_are_those_of_the_library():
    # their draws come from another generator, so scales are compared, over many networks and by parameter tensor
    torch.manual_seed(0)
    ours = StackedHypernetwork(list(range(60)), SHAPES, 1, (16, 32))
    shapes = {name: (shape[1], shape[0]) if name.endswith("weight") else shape for name, shape in SHAPES.items()}
    peers = [hyperlight.HyperNet({"g": (1,)}, shapes, [16, 32]) for _ in range(60)]
    backbones = [peer.backbone for peer in peers]
    pairs = [
        (ours.params["0.weight"], [b.block0_lin.weight for b in backbones]),
        (ours.params["1.weight"], [b.block1_lin.weight for b in backbones]),
        (ours.params["output.weight"][..., :512], [b.output.weight[:512] for b in backbones]),
        (ours.params["output.weight"][..., 520:600], [b.output.weight[520:600] for b in backbones]),
        (ours.params["output.bias"][..., :512], [b.output.bias[:512] for b in backbones]),
        (ours.params["output.bias"][..., 520:600], [b.output.bias[520:600] for b in backbones]),
    ]
    for mine, other in pairs:
        assert mine.std().item() == pytest.approx(torch.stack(other).std().item(), rel=0.05)
    assert not ours.params["output.weight"][..., 512:520].any()
    assert not torch.stack([b.output.weight[512:520] for b in backbones]).any()
