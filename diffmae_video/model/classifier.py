"""The encoder with a linear head, for fine-tuning and testing."""

from __future__ import annotations

from torch import Tensor, nn

from diffmae_video.errors import UserError
from diffmae_video.model.encoder import POOLS, SpacetimeViT


class VideoClassifier(nn.Module):
    """Class scores of whole clips: encoder, pooling, LayerNorm, dropout, linear head.

    Args:
        encoder: the (pre-trained) encoder. Its final norm follows the pooling.
        num_classes: outputs of the head.
        pool: "mean" over the cubes, or "class" token.
        head_dropout: dropout before the head.
        head_init_scale: the head starts as a truncated normal of 0.02 times this (0.001 in MAE-ST).

    Raises:
        UserError: for another pool, or "class" without a class token.
    """

    def __init__(
        self,
        encoder: SpacetimeViT,
        *,
        num_classes: int,
        pool: str = "mean",
        head_dropout: float = 0.0,
        head_init_scale: float = 0.001,
    ) -> None:
        super().__init__()
        if pool not in POOLS[:2]:
            raise UserError(f"a classifier pools by 'mean' or 'class', not {pool!r}")
        if pool == "class" and encoder.class_token is None:
            raise UserError("pool 'class' needs a class token; set model.class_token, or pool 'mean'")
        self.encoder = encoder
        self.pool = pool
        self.dropout = nn.Dropout(head_dropout)
        self.head = nn.Linear(encoder.width, num_classes)
        nn.init.trunc_normal_(self.head.weight, std=0.02 * head_init_scale)
        nn.init.zeros_(self.head.bias)

    def forward(self, video: Tensor) -> Tensor:
        """Scores (B, num_classes) of clips (B, frames, 3, height, width), normalised floats."""
        return self.head(self.dropout(self.encoder.features(video, pool=self.pool)))

    def no_weight_decay(self) -> set[str]:
        """The encoder's, under this module's names."""
        return {f"encoder.{name}" for name in self.encoder.no_weight_decay()}

    def layer_of(self, parameter_name: str) -> int:
        """Depth of a parameter for layer decay, 0...L + 1; the head and the final norm are the last."""
        if parameter_name.startswith("encoder."):
            return self.encoder.layer_of(parameter_name.removeprefix("encoder."))
        return self.encoder.depth + 1
