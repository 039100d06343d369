"""`pip install .` needs NumPy alone; what the commands and the tests need on top are extras."""

from setuptools import find_packages, setup

# what gpt/ and data/ import
train = ["rich", "matplotlib", "safetensors", "pooch", "regex", "tiktoken"]
data = ["zstandard", "pyarrow"]  # archives beyond the standard library's: .zst and .parquet
tensorboard, wandb = ["tensorboardX"], ["wandb"]  # where metrics can go, beside the run folder
lint = ["ruff", "mypy"]
# the judges: torch (expecttest is what its database of operators imports), tokenizers, transformers
test = [*train, *data, *tensorboard, "pytest", "pytest-xdist", "hypothesis", "scipy"]
test += ["torch==2.13.0", "expecttest", "tokenizers", "transformers"]
# CUDA without a GPU: bfloat16 for NumPy, the compiler of the kernels and the headers they include
test += ["ml_dtypes"]
test += [
    f"nvidia-cuda-{part}==13.0.*; platform_system == 'Linux' and platform_machine == 'x86_64'"
    for part in ("nvrtc", "runtime")
]

setup(
    name="tinytensor",
    version="0.1.0",
    description="A deep-learning engine to read, and a GPT trained with it",
    python_requires=">=3.11",
    packages=find_packages(
        include=["tinytensor*", "gpt*", "data", "data.*", "benchmarks", "benchmarks.*"]
    ),
    package_data={
        "gpt": ["presets/*.toml"],
        "tinytensor": ["kernels/cuda/*.cu", "kernels/cuda/*.h"],
    },
    install_requires=["numpy>=2.0"],
    extras_require={
        "train": train,
        "data": data,
        "tensorboard": tensorboard,
        "wandb": wandb,
        "test": test,
        "lint": lint,
        "cuda12": ["cupy-cuda12x[ctk]", "ml_dtypes"],
        "cuda13": ["cupy-cuda13x[ctk]", "ml_dtypes"],
    },
)
