"""A configuration's encoder, decoder, DiffMAE model and classifier."""

from __future__ import annotations

from diffmae_video.config import Config
from diffmae_video.config.rules import decoder_shape
from diffmae_video.diffusion import DiffMAE, FeatureTarget, Schedule, timm_teacher
from diffmae_video.diffusion.diffmae import target_dim
from diffmae_video.model import (
    CrossDecoder,
    Decoder,
    JointDecoder,
    SpacetimeViT,
    VideoClassifier,
)
from diffmae_video.sizes import SIZES


def build_encoder(config: Config, *, drop_path: float = 0.0) -> SpacetimeViT:
    """The encoder, freshly initialised from torch's global generator."""
    model, data = config.model, config.data
    return SpacetimeViT(
        num_frames=data.num_frames,
        crop_size=data.crop_size,
        tubelet=model.tubelet,
        patch_size=model.patch_size,
        class_token=model.class_token,
        positions=model.positions,
        position_base=model.position_base,
        drop_path=drop_path,
        checkpointing=model.checkpointing,
        **SIZES[model.size],
    )


def build_decoder(config: Config, encoder: SpacetimeViT) -> Decoder:
    """The decoder of the config's kind."""
    decoder, shape = config.model.decoder, decoder_shape(config)
    out_dim = target_dim(encoder, config.diffusion.target_frames)
    if decoder.kind == "joint":
        return JointDecoder(encoder, out_dim=out_dim, **shape)
    self_attention = decoder.kind == "cross_self"
    return CrossDecoder(encoder, self_attention=self_attention, taps=decoder.taps, out_dim=out_dim, **shape)


def build_diffmae(config: Config) -> DiffMAE:
    """Encoder, decoder and diffusion process, freshly initialised."""
    diffusion = config.diffusion
    encoder = build_encoder(config)
    return DiffMAE(
        encoder,
        build_decoder(config, encoder),
        schedule=Schedule(diffusion.schedule, num_steps=diffusion.num_steps, rho=diffusion.rho),
        objective=diffusion.objective,
        target=diffusion.target,
        pixels=diffusion.pixels,
        target_frames=diffusion.target_frames,
        predict_fraction=config.model.decoder.predict_fraction,
        features=build_feature_target(config, encoder),
    )


def build_feature_target(config: Config, encoder: SpacetimeViT) -> FeatureTarget | None:
    """The frozen teacher and its decoder, or None where the config names no teacher."""
    feature = config.diffusion.feature
    if not feature.teacher:
        return None
    return FeatureTarget(
        timm_teacher(feature.teacher, checkpoint=feature.checkpoint),
        encoder,
        taps=config.model.decoder.taps,
        weight=feature.weight,
        mean=config.data.mean,
        std=config.data.std,
        **decoder_shape(config),
    )


def build_classifier(config: Config, *, num_classes: int) -> VideoClassifier:
    """Encoder and head for fine-tuning and testing."""
    finetune = config.finetune
    return VideoClassifier(
        build_encoder(config, drop_path=finetune.drop_path),
        num_classes=num_classes,
        pool=finetune.pool,
        head_dropout=finetune.head_dropout,
        head_init_scale=finetune.head_init_scale,
    )
