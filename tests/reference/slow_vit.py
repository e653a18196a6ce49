"""The encoder and the decoders' blocks again, slowly: one clip, one head, one token at a time.

Written from the method's description with NumPy in float64. Weights come as a state dict; nothing of the package
is imported.
"""

from __future__ import annotations

import math

import numpy as np

Weights = dict[str, np.ndarray]


def layer_norm(x: np.ndarray, w: Weights, name: str) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    scale = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    return centred / scale * w[f"{name}.weight"] + w[f"{name}.bias"]


def linear(x: np.ndarray, w: Weights, name: str) -> np.ndarray:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def mlp(x: np.ndarray, w: Weights, name: str) -> np.ndarray:
    return linear(gelu(linear(x, w, f"{name}.fc1")), w, f"{name}.fc2")


def attend(queries: np.ndarray, keys: np.ndarray, values: np.ndarray, heads: int) -> np.ndarray:
    """Token by token and head by head: softmax(q k / sqrt(d)) v."""
    size = queries.shape[-1] // heads
    out = np.zeros_like(queries)
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        for i, query in enumerate(queries):
            scores = np.array([query[part] @ key[part] / math.sqrt(size) for key in keys])
            weights = np.exp(scores - scores.max())
            weights /= weights.sum()
            out[i, part] = sum(weight * value[part] for weight, value in zip(weights, values, strict=True))
    return out


def self_attention(x: np.ndarray, w: Weights, name: str, heads: int) -> np.ndarray:
    queries, keys, values = np.split(linear(x, w, f"{name}.qkv"), 3, axis=-1)
    return linear(attend(queries, keys, values, heads), w, f"{name}.proj")


def cross_attention(x: np.ndarray, context: np.ndarray, w: Weights, name: str, heads: int) -> np.ndarray:
    keys, values = np.split(linear(context, w, f"{name}.kv"), 2, axis=-1)
    return linear(attend(linear(x, w, f"{name}.q"), keys, values, heads), w, f"{name}.proj")


def block(x: np.ndarray, w: Weights, name: str, heads: int) -> np.ndarray:
    x = x + self_attention(layer_norm(x, w, f"{name}.norm1"), w, f"{name}.attn", heads)
    return x + mlp(layer_norm(x, w, f"{name}.norm2"), w, f"{name}.mlp")


def cross_block(x: np.ndarray, latent: np.ndarray, w: Weights, name: str, heads: int) -> np.ndarray:
    context = layer_norm(latent, w, f"{name}.context_norm")
    x = x + cross_attention(layer_norm(x, w, f"{name}.norm1"), context, w, f"{name}.cross", heads)
    return x + mlp(layer_norm(x, w, f"{name}.norm2"), w, f"{name}.mlp")


def cross_self_block(x: np.ndarray, latent: np.ndarray, w: Weights, name: str, heads: int) -> np.ndarray:
    context = layer_norm(latent, w, f"{name}.context_norm")
    x = x + cross_attention(layer_norm(x, w, f"{name}.norm1"), context, w, f"{name}.cross", heads)
    x = x + self_attention(layer_norm(x, w, f"{name}.norm2"), w, f"{name}.attn", heads)
    return x + mlp(layer_norm(x, w, f"{name}.norm3"), w, f"{name}.mlp")


def cubes_of(video: np.ndarray, tubelet: int, patch: int) -> dict[tuple[int, int, int], np.ndarray]:
    """Each cube of a clip (frames, C, height, width) by its place; values in (frame, row, column, channel) order."""
    frames, _, height, width = video.shape
    cubes = {}
    for t in range(frames // tubelet):
        for y in range(height // patch):
            for x in range(width // patch):
                cubes[t, y, x] = np.array(
                    [
                        video[t * tubelet + f, c, y * patch + r, x * patch + q]
                        for f in range(tubelet)
                        for r in range(patch)
                        for q in range(patch)
                        for c in range(video.shape[1])
                    ]
                )
    return cubes


def encoder_taps(
    video: np.ndarray,
    places: list[tuple[int, int, int]],
    w: Weights,
    *,
    tubelet: int,
    patch: int,
    depth: int,
    heads: int,
) -> list[np.ndarray]:
    """Every block's output (V, D) for the cubes at ``places`` of one clip; the last one normalised."""
    cubes = cubes_of(video, tubelet, patch)
    table = w["positions.table"]
    x = np.stack([linear(cubes[place], w, "embed") + table[place] for place in places])
    if "class_token" in w:
        x = np.concatenate([w["class_token"][0], x])
    outputs = []
    for i in range(depth):
        x = block(x, w, f"blocks.{i}", heads)
        outputs.append(x)
    outputs[-1] = layer_norm(outputs[-1], w, "norm")
    return outputs
