"""Every test runs on the CPU with eight fake devices, and never asks for the network unless it says so."""

import collections
import contextlib
import dataclasses
import functools
import importlib.metadata
import os
import pathlib

from packaging.version import Version

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Programs here run for milliseconds, so compiling them is most of the time: the backend's costly passes are off.
# Tests of bit-for-bit promises run real processes without these flags.
TEST_XLA_FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
if Version(importlib.metadata.version("jaxlib")) < Version("0.11.1"):  # later ones end at a flag that they do not know
    TEST_XLA_FLAGS += " --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = " ".join(
    [os.environ.get("XLA_FLAGS", ""), "--xla_force_host_platform_device_count=8", TEST_XLA_FLAGS]
)
# Workers write to one folder of compiled programs: with a bound on its size, JAX locks it while it reads and writes.
os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(8 << 30))
# Fewer threads than waiting collectives and eight devices on two cores wait for each other for ever.
os.environ.setdefault("NPROC", "32")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import hypothesis  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "highest")

from cuma_jax.config import Config, MeshConfig  # noqa: E402
from cuma_jax.config.presets import load_config  # noqa: E402
from cuma_jax.runtime.errors import run_main  # noqa: E402

ROOT = pathlib.Path(__file__).parent.parent

# The same cases every time, so that a run fails for what was changed; `--hypothesis-profile random` looks for new ones.
hypothesis.settings.register_profile("fixed", derandomize=True)
hypothesis.settings.register_profile("random")
hypothesis.settings.load_profile("fixed")


def pytest_collection_modifyitems(config, items):
    """Nightly tests only where `-m` names them; files with slow tests first, those with most of them before others."""
    if "nightly" not in config.option.markexpr:
        nightly = [item for item in items if item.get_closest_marker("nightly")]
        config.hook.pytest_deselected(items=nightly)
        items[:] = [item for item in items if item not in nightly]
    slow = collections.Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])  # stable: the tests of a file stay in their order


@pytest.fixture(scope="session")
def cache_folder(tmp_path_factory) -> str:
    """A cache folder of this session's own, one for all its workers and processes.

    Programs, surveys and profile tables are made once, and never stale.
    """
    folder = tmp_path_factory.getbasetemp()
    return str((folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "cache")


@pytest.fixture(scope="session", autouse=True)
def _compile_once_a_session(cache_folder):
    """Two tests that build the same program compile it once."""
    jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(cache_folder) / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def changed(config: Config, **sections) -> Config:
    """`config` with some fields of some sections changed: `changed(config, train={"steps": 3})`."""
    return dataclasses.replace(
        config, **{name: dataclasses.replace(getattr(config, name), **new) for name, new in sections.items()}
    )


def devices(mesh: MeshConfig) -> list[jax.Device]:
    """As many of the fake devices as the mesh names, instead of all."""
    return jax.devices()[: mesh.data * mesh.fsdp * mesh.tensor]


@contextlib.contextmanager
def devices_of(mesh: MeshConfig):
    """Lets a command, which takes all devices, see those that the mesh names."""
    from cuma_jax.run import build
    from cuma_jax.runtime.sharding import make_mesh

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "make_mesh", lambda config, _: make_mesh(config, devices(mesh)))
        yield


@pytest.fixture
def refused(capsys):
    """`refused(command, *args)`: what a command prints on stderr that ends as a user's mistake does."""

    def call(command, *args):
        with pytest.raises(SystemExit) as caught:
            run_main(command, *args)
        assert caught.value.code == 2
        out, error = capsys.readouterr()
        assert "Traceback" not in out + error
        return error

    return call


@pytest.fixture
def judge_key(monkeypatch) -> None:
    """The key of `scripted_judge.config` is in its variable."""
    from scripted_judge import KEY

    monkeypatch.setenv("TEST_JUDGE_KEY", KEY)


@pytest.fixture(scope="session")
def debug_config(cache_folder) -> Config:
    """configs/debug.py on one device, with nothing mirrored to TensorBoard."""
    config = load_config(str(ROOT / "configs" / "debug.py"))
    return changed(
        config,
        mesh={"data": 1, "fsdp": 1, "tensor": 1},
        run={"cache_dir": cache_folder, "tensorboard": False},
        data={"buckets": (256,)},
    )


@pytest.fixture(scope="session")
def tokenizer(cache_folder):
    """The tokenizer of random models."""
    from cuma_jax.hub.model_files import resolve
    from cuma_jax.tokenization.tokenizer import load_tokenizer

    return load_tokenizer(resolve("random:tiny", "", cache_folder))


@pytest.fixture(scope="session")
def run_on():
    """`run_on(config)`: the run of a config on the mesh that it names, put together once; do not change it."""
    from cuma_jax.run.build import build_run

    @functools.cache
    def build(config: Config):
        return build_run(config, progress=False, devices=devices(config.mesh))

    return build


@pytest.fixture(scope="session")
def debug_run(debug_config, run_on):
    """The debug preset put together on one device, one length bucket; do not change it."""
    return run_on(debug_config)


@pytest.fixture(scope="session")
def random_adapters():
    """`random_adapters(run, seed=0)`: adapters with nothing at zero, the same whatever the mesh."""

    def draw(run, seed=0):
        rng = np.random.default_rng(seed)
        values = jax.tree.map(lambda s: (rng.normal(size=s.shape) * 0.2).astype(s.dtype), run.adapter_shapes)
        return jax.device_put(values, run.adapter_shardings)

    return draw


@pytest.fixture(scope="session")
def loss_and_gradients():
    """`loss_and_gradients(run, adapters, batch, bucket, **train)`: (metrics, gradients) as numpy."""
    from cuma_jax.runtime.sharding import batch_sharding, put_batch, replicated
    from cuma_jax.training.step import loss_of_batch

    def compute(run, adapters, batch, bucket, **train):
        config = changed(run.config, train=train)

        def loss(adapters, base, tables, batch):
            total, (_, metrics) = loss_of_batch(
                run.decoder, config, adapters, base, tables, batch, jax.random.key(0), run.objective.sums
            )
            return total, metrics

        whole = replicated(run.mesh)
        shardings = (run.adapter_shardings, run.base_shardings, whole, batch_sharding(run.mesh))
        step = jax.jit(jax.value_and_grad(loss, has_aux=True), in_shardings=shardings)
        with jax.set_mesh(run.mesh):
            placed = put_batch(batch, run.mesh)
            (_, metrics), grads = step(adapters, run.base, run.training.tables[bucket], placed)
        return jax.device_get(metrics), jax.device_get(grads)

    return compute


@pytest.fixture(scope="session")
def train_batches():
    """`train_batches(run)`: the batches that training the run would draw."""
    from cuma_jax.data.pipeline import TrainBatches
    from cuma_jax.run.rows import rows_of

    def build(run, split="train"):
        train = run.config.train
        batcher = rows_of(run, split)
        return TrainBatches(batcher, train.batch_size, max(train.steps, 1), train.seed, slice(0, train.batch_size))

    return build


@pytest.fixture(scope="module")
def own_settings():
    """Runs are scored and opened with the tests' own settings of JAX."""
    with pytest.MonkeyPatch.context() as patch:
        for where in ("commands.score_run", "serving.asking.opening"):
            patch.setattr(f"cuma_jax.{where}.prepare_jax", lambda config: None)
        yield


@pytest.fixture(scope="module")
def served(own_settings, debug_config, run_on, random_adapters, tmp_path_factory):
    """A run with random adapters that is scored: (its folder, the run, the adapters)."""
    from served_runs import scored_run

    splits = ("unseen_respondent", "unseen_country", "unseen_question")
    evaluation = {"splits": splits, "max_profiles": 30, "bootstrap": 20}
    run = run_on(changed(debug_config, data={"unseen_questions": 0.2}, evaluation=evaluation))
    adapters = random_adapters(run)
    return scored_run(tmp_path_factory.mktemp("runs") / "run", run, adapters), run, adapters
