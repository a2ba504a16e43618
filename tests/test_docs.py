"""What the documents name is there: files, modules, commands, flags, fields, presets, links; and the site builds."""

import contextlib
import dataclasses
import functools
import importlib
import importlib.util
import io
import os
import re
import runpy
import subprocess
import sys
import typing

import pytest
from conftest import ROOT
from test_imports import ORDER, modules

import cuma_jax
from cuma_jax.config import METHOD_NAMES, Config, DataConfig
from cuma_jax.config.machines import MACHINES
from cuma_jax.config.presets import comparisons, presets

SECTIONS = {f.name: f.type for f in dataclasses.fields(Config) if dataclasses.is_dataclass(f.type)}
FIELDS = {f"{name}.{f.name}" for name, section in SECTIONS.items() for f in dataclasses.fields(section)}
FOLDERS = ("cuma_jax", "configs", "tests", "launch", "benchmarks", "examples", "docs")
# Files of other people's repositories; and names that stand for any name.
FOREIGN = re.compile(r"process_datasets/|utils/dataset/|dataset_construction/|NAME|/x/")
COMMAND = re.compile(r"python -m cuma_jax\.(\w+(?: (?:build|show|check|export)\b)?)((?:[^`\n|#>]|\\\n)*)")


def documents():
    """(path, text) of every document; of the changelog the newest version only."""
    paths = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
    paths += [path for folder in ("docs", "launch", "examples") for path in sorted((ROOT / folder).rglob("*.md"))]
    for path in paths:
        text = path.read_text(encoding="utf-8")
        yield pytest.param(
            path, "\n## ".join(text.split("\n## ")[:2]) if path.name == "CHANGELOG.md" else text,
            id=str(path.relative_to(ROOT)),
        )  # fmt: skip


every_document = pytest.mark.parametrize(("path", "text"), list(documents()))


def resolves(dotted):
    """Whether a dotted name is a module of the package or something in one, or a module that tells where it went."""
    known, parts = {f"cuma_jax.{module}" for module in modules()}, dotted.split(".")
    if len(parts) == 2 and hasattr(cuma_jax, parts[1]):
        return True
    folders = {name.rpartition(".")[0] for name in known}
    module = next((m for n in range(len(parts), 1, -1) if (m := ".".join(parts[:n])) in known | folders), None)
    if module is None:
        with pytest.raises(ModuleNotFoundError) as error:
            importlib.import_module(".".join(parts[:2]))
        return "has moved" in str(error.value)
    names = parts[len(module.split(".")) :]
    return not names or hasattr(importlib.import_module(module), names[0])


@functools.cache
def help_of(command, *argv):
    """What `python -m cuma_jax.COMMAND --help-all` prints, or what it prints for other words."""
    module, *words = command.split()
    printed, before = io.StringIO(), sys.argv
    sys.argv = [module, *words, *(argv or ["--help-all"])]
    try:
        with contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as end:
            runpy.run_module(f"cuma_jax.{module}", run_name="__main__")
    finally:
        sys.argv = before
    assert not end.value.code, command
    return printed.getvalue()


def flags(text):
    """The flags in a text, spelt with underscores."""
    return {flag.replace("-", "_") for flag in re.findall(r"(?<!\w)--([a-z][\w.-]*\w)", text)}


@every_document
def test_files_and_modules_that_are_named_exist(path, text):
    named = re.findall(rf"(?<![\w/.-])((?:{'|'.join(FOLDERS)})/[\w./-]*\w\.\w+)", text)
    short = re.findall(r"`([\w./-]+/\w+\.py)`", text)  # `run/build.py` is cuma_jax/run/build.py
    missing = [n for n in (*named, *short) if not (ROOT / n).exists() and not (ROOT / "cuma_jax" / n).exists()]
    missing += [n for n in re.findall(r"(?:from|import|:::|`) ?(cuma_jax(?:\.\w+)+)", text) if not resolves(n)]
    assert not [name for name in missing if not FOREIGN.search(name)], path


@every_document
def test_relative_links_resolve(path, text):
    links = [link for link in re.findall(r"\]\(([^)\s#]+)", text) if "://" not in link]
    assert not [link for link in links if not (path.parent / link).exists()], path


@every_document
def test_commands_take_the_flags_that_are_shown(path, text):
    for command, rest in COMMAND.findall(text):
        assert not sorted(flags(rest) - flags(help_of(command)) - {"help", "help_all"}), f"{path}: {command}"


@every_document
def test_fields_that_are_named_exist(path, text):
    named = re.findall(rf"(?:--|`)((?:{'|'.join(SECTIONS)})\.(?!(?:md|py|json|csv)\b)[a-z]\w*)", text)
    assert not sorted(set(named) - FIELDS), path


@every_document
def test_presets_methods_and_machines_that_are_named_exist(path, text):
    known = {"config": {*presets(), *comparisons()}, "method": set(METHOD_NAMES), "machine": set(MACHINES)}
    for flag, names in known.items():
        named = set(re.findall(rf"--{flag} ([a-z0-9][\w-]*)(?![\w./-])", text))
        assert not sorted(named - names), f"{path}: --{flag}"


def test_the_code_names_documents_that_exist():
    for folder in FOLDERS:
        for source in (ROOT / folder).rglob("*"):
            if source.suffix in {".py", ".sh", ".html"}:
                named = re.findall(r"(?<![\w/.-])docs/[\w./-]*\w\.\w+", source.read_text(encoding="utf-8"))
                assert not [name for name in named if not (ROOT / name).exists()], source


def test_architecture_names_every_room_in_the_order_of_the_house():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert tuple(re.findall(r"^\| `([\w.]+)` \|", text, re.MULTILINE)) == ORDER


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("methods.md", METHOD_NAMES),
        ("sources.md", typing.get_args(typing.get_type_hints(DataConfig)["source"])),
        ("index.md", (*presets(), *comparisons())),
    ],
)
def test_lists_in_the_documents_are_whole(page, names):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert not [name for name in names if f"`{name}`" not in text]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="needs pip install -e '.[docs]'")
def test_the_site_builds_and_fetches_nothing(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"})
    pages, styles = list(tmp_path.rglob("*.html")), list(tmp_path.rglob("*.css"))
    assert len(pages) > 20
    for page in pages:
        tags = re.findall(r"<(?:script|link|img|iframe|source)\b[^>]*>", page.read_text(encoding="utf-8"))
        assert not [tag for tag in tags if re.search(r"(?:src|srcset|href)=[\"']?(?:https?:)?//", tag)], page
    for style in styles:
        assert not re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//", style.read_text(encoding="utf-8")), style
