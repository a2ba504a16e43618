"""Nothing upstream imports anything downstream; no module imports torch; there are no cycles."""

import ast
import functools

import pytest
from conftest import ROOT

PACKAGE = ROOT / "cuma_jax"
# Room -> the rooms it may import. The house's one way; a new room is added here on purpose.
FLOOR = {"errors", "config_checks", "config_data", "config_preferences", "config", "cache", "memory"}
ALLOWED = {
    "errors": set(),
    "config_checks": {"errors"},
    "config_data": set(),
    "config_preferences": set(),
    "config": {"errors", "config_checks", "config_data", "config_preferences"},
    "cache": {"errors"},
    "memory": set(),
    "methods": {"config", "errors"},
    "config_compare": {"config", "errors", "methods"},
    "config_chain": {"config", "errors"},
    "machines": {"config", "errors"},
    "cli": {"config", "config_chain", "errors", "methods", "machines"},
    "jax_setup": FLOOR | {"clusters"},
    "clusters": {"errors"},
    "distributed": {"errors", "cli", "clusters"},
    "surveys": FLOOR,
    "preferences": FLOOR | {"surveys"},
    "sharding": FLOOR,
    # The text encoders read profiles and tokens: models stand on surveys, and on the tokenizer of data.
    "models": FLOOR | {"distributed", "sharding", "surveys", "data"},
    "data": FLOOR | {"surveys", "preferences", "models"},
    # Files of other programs.
    "formats": FLOOR | {"models"},
    "objectives": FLOOR | {"models"},
    # A judge behind HTTP, and what a reply is worth.
    "judging": FLOOR,
    "rewards": FLOOR | {"surveys", "judging"},
    "generation": FLOOR | {"sharding", "surveys", "data", "models"},
    "training": FLOOR
    | {"distributed", "sharding", "surveys", "preferences", "models", "data", "objectives", "formats"}
    | {"generation", "judging", "rewards"},
    "planning": FLOOR | {"machines", "sharding", "models", "objectives", "training"},
    "evaluation": FLOOR
    | {"sharding", "surveys", "preferences", "models", "data", "objectives", "training", "generation", "judging"},
    "exporting": FLOOR | {"sharding", "surveys", "models", "data", "formats", "training"},
    "analysis": FLOOR | {"surveys", "training", "evaluation"},
    "reporting": FLOOR | {"surveys", "evaluation", "analysis"},
    # Reads the folders of runs and what was scored in them; how a run is made is handed in by the main.
    "comparison": FLOOR | {"config_compare", "evaluation", "analysis", "training", "reporting"},
}
MAINS = {"train", "evaluate", "compare", "analyze", "generate", "export", "serve", "plan"}


def is_main(module):
    """A command: a main of the top floor, or what `python -m cuma_jax.ROOM` runs."""
    return module.split(".")[0] in MAINS or module.split(".")[-1] == "__main__"


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
        room = module.split(".")[0]
        if is_main(module) or room == "":
            continue
        assert room in ALLOWED, f"{room} has no place in the order of tests/test_imports.py"
        for target in own_imports(path, known):
            other = target.split(".")[0]
            if other != room and other not in ALLOWED[room]:
                wrong.append(f"{module} imports {target}")
    assert not wrong


def test_mains_are_imported_by_mains_only():
    known = modules()
    for module, path in known.items():
        if not is_main(module):
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


@pytest.mark.parametrize("banned", ["torch", "pickle", "nnx"])
def test_nothing_imports(banned):
    for path in modules().values():
        for name, taken in imports(path):
            assert banned not in name.split(".") and banned not in taken, path  # noqa: PT018


def test_code_from_the_hub_is_never_run():
    for path in modules().values():
        assert "trust_remote_code=True" not in path.read_text().replace(" ", ""), path


def test_config_needs_no_jax_and_no_numpy():
    for module in (
        "config",
        "config_checks",
        "config_data",
        "config_preferences",
        "config_compare",
        "config_chain",
        "errors",
        "methods",
        "machines",
    ):
        outside = {name.split(".")[0] for name, _ in imports(modules()[module])} - {"cuma_jax"}
        assert not outside & {"jax", "flax", "numpy", "pandas"}, module
