"""The whole method at work: each decoder learns two clips by heart, and inpaints them to above 30 dB."""

from __future__ import annotations

import math

import pytest
import torch

from diffmae_video.diffusion import DiffMAE, Schedule
from diffmae_video.inpainting import inpaint, pixel_limits
from diffmae_video.model import Mask, SpacetimeViT, draw_masks
from diffmae_video.seeding import generator
from tests.reference.tiny import DECODERS

MEAN, STD = (0.45,) * 3, (0.225,) * 3


def two_clips():
    """A disc and a bar that move on coloured grounds: (2, 4, 3, 16, 16) in 0...1."""
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    clips = torch.empty(2, 4, 3, 16, 16)
    for t in range(4):
        disc = torch.sigmoid(12 - 1.2 * ((rows - 5 - t) ** 2 + (columns - 4 - 2 * t) ** 2))
        bar = torch.sigmoid(4 - 2 * (columns - 12 + 2 * t).abs())
        clips[0, t] = torch.stack([disc, 0.3 + 0.4 * columns / 15, 0.8 - 0.6 * disc])
        clips[1, t] = torch.stack([0.2 + 0.5 * rows / 15, bar, 0.1 + 0.7 * bar])
    return clips


def train(model, video, *, steps, lr):
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0, betas=(0.9, 0.95))
    ramp = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)
    batch = video.repeat(4, 1, 1, 1, 1)
    model.train()
    for step in range(steps):
        drawn = model.draw([generator("t", step, i) for i in range(8)], mask_kind="tube", mask_ratio=0.5)
        loss = model(batch, drawn).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ramp.step()
    return model.eval()


def psnr(one, other):
    return -10 * math.log10((one - other).square().mean().item())


@pytest.mark.parametrize("kind", DECODERS)
def test_two_clips_learned_by_heart_are_inpainted_above_30_db(kind):
    shape = {"num_frames": 4, "crop_size": 16, "patch_size": 4, "position_base": 10.0}  # a small grid
    encoder = SpacetimeViT(**shape, width=64, depth=2, num_heads=2)
    decoder = DECODERS[kind](encoder, width=64, depth=2, num_heads=2)
    pixels = two_clips()
    video = (pixels - MEAN[0]) / STD[0]
    model = DiffMAE(encoder, decoder, schedule=Schedule())
    train(model, video, steps=700, lr=3e-3)
    mask = Mask.stack([draw_masks("tube", encoder.grid, ratio=0.5, generators=[generator("new", 5)])] * 2)
    filled = inpaint(model, video, mask, num_steps=10, generator=generator("sample"), limits=pixel_limits(MEAN, STD))
    hidden = mask.hidden()
    truth, guess = encoder.patchify(pixels)[hidden], encoder.patchify(filled * STD[0] + MEAN[0])[hidden]
    flat = pixels.mean((1, 3, 4), keepdim=True).expand_as(pixels)
    assert psnr(truth, encoder.patchify(flat)[hidden]) < 20  # the clips' mean colours are no answer
    assert psnr(truth, guess) > 30
