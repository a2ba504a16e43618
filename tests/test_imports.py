"""Nothing upstream imports anything downstream; no module imports torch; there are no cycles."""

import ast
import functools

import pytest
from conftest import ROOT

PACKAGE = ROOT / "cuma_jax"
# The house's one way: a room imports rooms that stand before it. A new room is added here on purpose. A room of two
# names is a folder of its own rank.
ORDER = (
    "runtime",
    "config",
    "tables",
    "surveys",
    "preferences",
    "hub",
    "tokenization",
    "models",
    "profile_encoders",
    "data",
    "losses",
    "interop.formats",  # files of other programs
    "generation",
    "judging",
    "rewards",
    "run",
    "training",
    "objectives",
    "planning",
    "evaluation",
    "interop.export",
    "analysis",
    "reporting",
    "comparison",
    "serving",
    "commands",
)
MAINS = {"train", "evaluate", "compare", "analyze", "generate", "export", "plan", "predict", "serve"}
MOST_FILES, MOST_LINES, MAIN_LINES = 14, 350, 30


def room_of(module):
    parts = module.split(".")
    two = ".".join(parts[:2])
    return two if two in ORDER else parts[0]


def is_main(module):
    """A command: a main of the top floor, or what `python -m cuma_jax.ROOM` runs."""
    return module in MAINS or module.split(".")[-1] == "__main__"


def modules():
    """Dotted name without the package -> path."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        if "configs" in path.parts[len(PACKAGE.parts) :]:
            continue
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@functools.cache
def imports(path):
    """(absolute dotted name, names taken from it) of every import of a file, those inside functions too."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            found.append((node.module, tuple(alias.name for alias in node.names)))
    return found


def own_imports(path, known):
    """Modules of this package that a file imports."""
    for name, taken in imports(path):
        if name == "cuma_jax":
            yield from (t for t in taken if t in known)
        elif name.startswith("cuma_jax."):
            module = name.removeprefix("cuma_jax.")
            submodules = [f"{module}.{t}" for t in taken if f"{module}.{t}" in known]
            yield from submodules or [module]


def test_the_house_has_one_way_through():
    known = modules()
    wrong = []
    for module, path in known.items():
        if is_main(module) or not module:
            continue
        room = room_of(module)
        if path.name != "__init__.py" or room in ORDER:
            assert room in ORDER, f"{room} has no place in the order of tests/test_imports.py"
            for target in own_imports(path, known):
                other = room_of(target)
                if other != room and (other not in ORDER or ORDER.index(other) > ORDER.index(room)):
                    wrong.append(f"{module} imports {target}")
    assert not wrong


def test_nobody_imports_a_main():
    known = modules()
    for module, path in known.items():
        assert not [target for target in own_imports(path, known) if is_main(target)], module


def test_no_module_imports_itself_through_others():
    known = modules()
    graph = {m: set(own_imports(p, known)) for m, p in known.items()}
    done: set[str] = set()

    def visit(module, trail):
        assert module not in trail, " -> ".join([*trail[trail.index(module) :], module])
        if module in done:
            return
        for target in graph.get(module, ()):
            visit(target, [*trail, module])
        done.add(module)

    for module in graph:
        visit(module, [])


def test_files_and_folders_are_easy_to_enter():
    for folder in {path.parent for path in modules().values()}:
        if folder != PACKAGE:
            assert len([p for p in folder.iterdir() if p.is_file()]) <= MOST_FILES, folder
    for path in modules().values():
        assert len(path.read_text().splitlines()) <= MOST_LINES, path
    loose = {path.stem for path in PACKAGE.glob("*.py")} - MAINS - {"__init__", "__main__"}
    assert not loose, "only mains stand at the package's root"
    for path in [*(PACKAGE / f"{name}.py" for name in (*MAINS, "__main__")), PACKAGE / "data" / "__main__.py"]:
        assert len(path.read_text().splitlines()) <= MAIN_LINES, path


@pytest.mark.parametrize("banned", ["torch", "pickle", "nnx"])
def test_nothing_imports(banned):
    for path in modules().values():
        for name, taken in imports(path):
            assert banned not in name.split(".") and banned not in taken, path  # noqa: PT018


def test_code_from_the_hub_is_never_run():
    for path in modules().values():
        assert "trust_remote_code=True" not in path.read_text().replace(" ", ""), path


def test_config_needs_no_jax_and_no_numpy():
    for module, path in modules().items():
        if room_of(module) == "config" or module == "runtime.errors":
            outside = {name.split(".")[0] for name, _ in imports(path)} - {"cuma_jax"}
            assert not outside & {"jax", "flax", "numpy", "pandas"}, module
