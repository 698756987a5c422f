"""The house rules that a machine can check; every message names the cure (in the manner of TigerBeetle's tidy)."""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from redsim.refs import refs

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "redsim").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 400
ARGUED_LINES_MAX = 620
ARGUED = {
    "redsim/dataplane/clients.py": "arrivals, connections and the client machine share one order of events",
    "redsim/dataplane/loop.py": "ae.c, networking.c and before_sleep are one recursion; the order is the model",
    "tests/test_redis_conf.py": "a table of directives, one claim a row",
}
TOP_LEVEL = {
    ".ci", ".github", ".gitignore", "CHANGES", "LICENSE", "README.md", "docs", "notebooks", "pyproject.toml", "redsim", "reports",
    "scenarios", "tests",
}  # fmt: skip
TIMEOUT_S = 300


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def docstrings(path: Path) -> Iterator[str]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    yield from (ast.get_docstring(node) or "" for node in ast.walk(tree(path)) if isinstance(node, kinds))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    yield from (node for node in ast.walk(tree(path)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


def tracked() -> list[str]:
    """Files git keeps or would keep; skips where this is no checkout."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    return [name for name in done.stdout.splitlines() if (ROOT / name).exists()]


def dotted(node: ast.AST) -> str:
    """`np.random.default_rng` of an attribute chain, "" of anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


# ---- other people's tools ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["lint-imports --no-cache", "ruff check --no-cache .", "mypy redsim"])
def test_import_floors_lint_and_types_are_clean(command: str) -> None:
    """DESIGN 4: floors kept by an import contract; pyproject.toml holds the configuration of all three."""
    words = command.split()
    tool = Path(sys.executable).parent / words[0]
    if not tool.exists():
        pytest.skip(f"no {words[0]} beside this Python; pip install .[test]")
    done = subprocess.run([str(tool), *words[1:]], cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, f"{command} says:\n{done.stdout[-3000:]}{done.stderr[-1000:]}"


# ---- words -------------------------------------------------------------------------------------------------------


def test_every_module_opens_with_its_design_note() -> None:
    """STYLE rule 2: what it is in one line."""
    bare = [name_of(path) for path in MODULES if path.read_text(encoding="utf-8").strip() and not ast.get_docstring(tree(path))]
    assert not bare, f"{bare}: open with a docstring, what the module is in one line, what it mirrors, what is not modelled"


def test_every_module_of_redis_says_what_it_mirrors_and_what_it_leaves_out() -> None:
    """STYLE rule 2 and DESIGN 1: `ls redsim/redis/` looks like `ls redis/src/`."""
    for path in (ROOT / "redsim" / "redis").glob("*.py"):
        note = ast.get_docstring(tree(path)) or ""
        if path.name != "__init__.py":
            assert "Mirrors" in note, f"{name_of(path)}: add 'Mirrors <file>.c …' to its design note"
            assert "not modelled" in note.lower(), f"{name_of(path)}: add 'Not modelled: …' to its design note"


def test_every_key_in_brackets_is_in_refs_and_every_ref_is_used() -> None:
    """STYLE rule 5: every number has a birth certificate."""
    key = re.compile(r"\[((?:facts [0-9.]+)|[a-z][a-z0-9]*(?:-[a-z0-9]+)+)\]")
    cited = {found: name_of(path) for path in [*MODULES, *TESTS] for text in docstrings(path) for found in key.findall(text)}
    written = "\n".join(path.read_text(encoding="utf-8") for path in MODULES)
    unknown = {f"[{found}] in {place}" for found, place in cited.items() if found not in refs() and place.startswith("redsim/")}
    assert not unknown, f"{sorted(unknown)}: add the key to redsim/refs.toml, or correct it"
    used = set(cited) | {name for name in refs() if f"[{name}" in written}
    for path in [*(ROOT / "redsim").rglob("*.yaml"), *(ROOT / "scenarios").rglob("*.yaml")]:
        text = path.read_text(encoding="utf-8")
        used |= set(re.findall(r"\bref: ([a-z0-9-]+)", text))
        used |= {word.strip() for line in re.findall(r"^refs: \[(.+)\]$", text, flags=re.MULTILINE) for word in line.split(",")}
    idle = set(refs()) - used
    assert not idle, f"{sorted(idle)} in redsim/refs.toml is cited nowhere; cite it or take it out"


def test_every_path_a_readme_names_is_there() -> None:
    """Redis' own README does not hold to that; ours does."""
    folders = "redsim|tests|scenarios|notebooks|docs|reports|learn|plan|incident"
    pattern = re.compile(rf"(?:`|\]\()((?:{folders})/[\w./-]*\w/?)(?:`|\))")
    for readme in (ROOT / "README.md", ROOT / "scenarios" / "README.md", ROOT / "notebooks" / "README.md"):
        named = pattern.findall(readme.read_text(encoding="utf-8"))
        gone = [name for name in named if not any((base / name).exists() for base in (ROOT, readme.parent))]
        gone = [name for name in gone if not name.startswith("reports/")]  # made by a run
        assert not gone, f"{name_of(readme)} names {gone}, which is not there; correct the path"


# ---- names and calls ---------------------------------------------------------------------------------------------


BANNED_CALLS = {
    r"random\..*": "a named stream of redsim.rng",
    r"(np|numpy)\.random\.(?!Generator$|PCG64$|SeedSequence$).*": "redsim.rng.generator(seed, *names)",
    r"time\.time|datetime\.(datetime\.)?(now|today|utcnow)": "simulated time in ns, or time.perf_counter for wall time",
    r"(eval|exec|print|input|breakpoint)": "nothing of the kind; typer.echo in cli",
    r"os\.system|pickle\.loads?": "subprocess.run with a list; JSON",
}


def test_no_banned_call_is_in_the_simulator() -> None:
    """STYLE rule 4: luck has a name; one clock."""
    found = []
    for path in MODULES:
        for node in ast.walk(tree(path)):
            called = dotted(node.func) if isinstance(node, ast.Call) else ""
            for pattern, cure in BANNED_CALLS.items():
                if re.fullmatch(pattern, called) and name_of(path) != "redsim/rng.py":
                    found.append(f"{name_of(path)}:{node.lineno}: {called} is banned; use {cure}")
    assert not found, "\n".join(found)


def test_no_module_imports_random() -> None:
    """STYLE rule 4: no global luck, not even imported."""
    for path in MODULES:
        for node in ast.walk(tree(path)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert "random" not in names, f"{name_of(path)}: `import random` is banned; use redsim.rng"


def test_no_exception_is_swallowed() -> None:
    """STYLE rule 8: never clamp, never swallow."""
    for path in [*MODULES, *TESTS]:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ExceptHandler):
                where = f"{name_of(path)}:{node.lineno}"
                assert node.type is not None, f"{where}: bare `except:`; name the exception"
                is_silent = all(isinstance(line, ast.Pass) for line in node.body)
                assert not is_silent, f"{where}: `except …: pass`; handle it or let it rise"


def test_names_say_what_they_are_now() -> None:
    """STYLE rules 1 and 9: one way to do a thing, no `utils`; Linux is `host`, the compiled loop is `dataplane`."""
    bad = re.compile(r"(_v2|_new|_old|_tmp|_temp)$|^(utils?|helpers?|misc|common)$|kernel", re.IGNORECASE)
    found = [name_of(path) for path in [*MODULES, *TESTS] if bad.search(path.stem)]
    for path in MODULES:
        defined = [n for n in ast.walk(tree(path)) if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
        found += [f"{name_of(path)}:{node.lineno}: {node.name}" for node in defined if bad.search(node.name)]
        stored = [n for n in ast.walk(tree(path)) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
        found += [f"{name_of(path)}:{node.lineno}: {node.id}" for node in stored if bad.search(node.id)]
    assert not found, f"{found}: name it by what it is (host, dataplane, the noun); delete the older way"


def test_no_comment_puts_work_off() -> None:
    """What is not there is told in 'Not modelled', not in a comment."""
    later = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    for path in [*MODULES, *TESTS]:
        for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
            found = token.type == tokenize.COMMENT and later.search(token.string)
            assert not found, f"{name_of(path)}:{token.start[0]}: {token.string}; do it, or write it under 'Not modelled'"


def test_all_is_exact() -> None:
    """As httpx keeps it: what __all__ names exists; ruff (RUF022) keeps the order."""
    for path in MODULES:
        if any(isinstance(node, ast.Assign) and dotted(node.targets[0]) == "__all__" for node in tree(path).body):
            parts = path.relative_to(ROOT).with_suffix("").parts
            module = import_module(".".join(part for part in parts if part != "__init__"))
            gone = [name for name in module.__all__ if not hasattr(module, name)]
            assert not gone, f"{name_of(path)}: __all__ names {gone}, which is not there"
            assert len(module.__all__) == len(set(module.__all__)), f"{name_of(path)}: __all__ names something twice"


# ---- sizes -------------------------------------------------------------------------------------------------------


def test_a_function_fits_a_screen() -> None:
    """STYLE rule 9: 70 lines at most; the parent decides, the leaves compute."""
    long = [
        f"{name_of(path)}:{node.lineno}: {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for path in [*MODULES, *TESTS]
        for node in functions(path)
        if node.end_lineno is not None and node.end_lineno - node.lineno + 1 > FUNCTION_LINES_MAX
    ]
    assert not long, f"{long}: at most {FUNCTION_LINES_MAX}; move a part that has a name of its own into a function"


def test_a_module_is_short_or_argued() -> None:
    """STYLE: SimPy's size; 400 lines, argued if more, never over 620."""
    for path in [*MODULES, *TESTS]:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        most = ARGUED_LINES_MAX if name_of(path) in ARGUED else MODULE_LINES_MAX
        assert lines <= most, f"{name_of(path)}: {lines} lines, at most {most}; cut it where the nouns change, or argue in ARGUED"


def test_public_functions_of_a_module_have_a_docstring() -> None:
    """Shapes, units, errors, source: the name alone does not tell them. Checks speak in the sentences they yield; the data
    plane's leaves are told by the module's picture and by what the parent says."""
    bare = [
        f"{name_of(path)}:{node.lineno}: {node.name}"
        for path in MODULES
        if path.name != "check.py" and "dataplane" not in path.parts
        for node in tree(path).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and not ast.get_docstring(node)
    ]
    assert not bare, f"{bare}: say what it returns, in which unit"


# ---- the checkout ------------------------------------------------------------------------------------------------


def test_the_top_level_has_nothing_extra() -> None:
    """One look at the root tells the whole project."""
    extra = {name.split("/")[0] for name in tracked()} - TOP_LEVEL
    assert not extra, f"{sorted(extra)}: not at the top level; put it where its kind is, or into TOP_LEVEL with a reason"


def test_no_tracked_file_names_a_path_of_anybodys_machine() -> None:
    """A checkout runs anywhere."""
    own = re.compile(r"(?<![\w.$:])/(?:home|root|Users|work)/[a-z]\w*")
    found = []
    for name in tracked():
        path = ROOT / name
        if path.suffix in (".py", ".md", ".yaml", ".toml", ".ipynb", ".txt", ".csv", ".j2", "") and path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            found += [f"{name}: {match}" for match in own.findall(text)]
    assert not found, f"{sorted(set(found))}: write a path relative to the checkout"
