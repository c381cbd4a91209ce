"""How the house is built: modules, lines, long functions and circles of imports, per package.

`python tools/house.py` prints the table, `--list` what is behind the numbers, `--json` both.
`--check` exits with 1 where a module, a function or an import breaks the rules of `nox -s lint`. A
folder may be named, to look at another checkout: `python tools/house.py ../before`.

Lines of a function are those of its code: neither its docstring nor decorators count. Imports
within functions count, those for type checkers alone do not.
"""

import argparse
import ast
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

FUNCTION_LINES = 40
MODULE_LINES = 400

LONG: dict[str, str] = {
    "netllm_adapt.lora.triton_kernels.gemm": "one program of a GPU, whose steps share its tiles",
}
"""Functions that may be longer, and why."""


@dataclass(frozen=True)
class Function:
    """A function or method."""

    name: str
    """Its module, class and name, with dots."""
    lines: int
    """Of its code, without the docstring."""


@dataclass
class Package:
    """What one package consists of."""

    name: str
    modules: int = 0
    lines: int = 0
    functions: list[Function] = field(default_factory=list)
    long_modules: list[str] = field(default_factory=list)
    circles: list[list[str]] = field(default_factory=list)

    def long_functions(self) -> list[Function]:
        """Functions over the limit, the longest first."""
        long = (one for one in self.functions if one.lines > FUNCTION_LINES)
        return sorted(long, key=lambda one: -one.lines)


def sources(root: Path) -> dict[str, dict[str, Path]]:
    """The modules of each package of a checkout, by dotted name."""
    packages: dict[str, dict[str, Path]] = {}
    for folder in sorted([*root.glob("packages/*/src/*"), *root.glob("integration/src/*")]):
        if (folder / "__init__.py").is_file():
            packages[folder.name] = {
                _dotted(file.relative_to(folder.parent)): file for file in folder.rglob("*.py")
            }
    return packages


def _dotted(file: Path) -> str:
    parts = file.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def functions(tree: ast.AST, name: str) -> Iterator[Function]:
    """All functions of a module, those within classes and functions too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = f"{name}.{node.name}"
            if not isinstance(node, ast.ClassDef):
                yield Function(inner, _code_lines(node))
            yield from functions(node, inner)
        else:
            yield from functions(node, name)


def _code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if ast.get_docstring(node, clean=False) is None:
        return lines
    first = node.body[0]
    return lines - ((first.end_lineno or first.lineno) - first.lineno + 1)


def imports(tree: ast.AST, name: str, modules: Iterable[str]) -> set[str]:
    """The modules among `modules` that a module imports when it runs."""
    known = set(modules)
    wanted: set[str] = set()
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            wanted |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            wanted |= whole & known
            if whole - known:
                wanted.add(node.module)
        waiting += ast.iter_child_nodes(node)
    return (wanted & known) - {name}


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import one another, directly or through others (Tarjan's)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    path: list[str] = []
    groups: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        path.append(module)
        for other in sorted(graph[module]):
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in path:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            at = path.index(module)
            group = path[at:]
            del path[at:]
            if len(group) > 1:
                groups.append(sorted(group))

    for module in sorted(graph):
        if module not in index:
            visit(module)
    return groups


def measure(name: str, modules: Mapping[str, Path]) -> Package:
    """All figures of a package."""
    package = Package(name, modules=len(modules))
    graph: dict[str, set[str]] = {}
    for module, file in sorted(modules.items()):
        text = file.read_text(encoding="utf-8")
        tree = ast.parse(text)
        lines = text.count("\n")
        package.lines += lines
        if lines > MODULE_LINES:
            package.long_modules.append(f"{module} ({lines} lines)")
        package.functions += functions(tree, module)
        graph[module] = imports(tree, module, modules)
    package.circles = circles(graph)
    return package


def table(packages: Iterable[Package]) -> str:
    """The figures, a line a package."""
    head = (
        f"| package | modules | lines | functions | longest | > {FUNCTION_LINES} lines | circles |"
    )
    rows = [head, "|---|---|---|---|---|---|---|"]
    total = [0, 0, 0, 0, 0, 0]
    for one in packages:
        longest = max((function.lines for function in one.functions), default=0)
        long = len(one.long_functions())
        figures = [one.modules, one.lines, len(one.functions), longest, long, len(one.circles)]
        total = [
            max(sum_, new) if at == 3 else sum_ + new
            for at, (sum_, new) in enumerate(zip(total, figures, strict=True))
        ]
        rows.append(f"| {one.name} | " + " | ".join(f"{number:,}" for number in figures) + " |")
    rows.append("| all | " + " | ".join(f"{number:,}" for number in total) + " |")
    return "\n".join(rows)


def faults(packages: Iterable[Package]) -> list[str]:
    """What breaks the rules, a sentence each."""
    said = []
    for one in packages:
        said += [f"{module}: at most {MODULE_LINES}." for module in one.long_modules]
        said += [
            f"{function.name}: {function.lines} lines of code, at most {FUNCTION_LINES}. Divide it."
            for function in one.long_functions()
            if function.name not in LONG
        ]
        said += [f"circle of imports: {', '.join(circle)}." for circle in one.circles]
    return said


def main() -> int:
    """Print what was asked for; the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    root = Path(__file__).resolve().parents[1]
    parser.add_argument("root", nargs="?", type=Path, default=root, help="a checkout")
    parser.add_argument("--only", nargs="+", metavar="PACKAGE", help="of these packages")
    parser.add_argument("--list", action="store_true", help="name long functions and circles")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a rule is broken")
    options = parser.parse_args()
    known = sources(options.root)
    if strangers := set(options.only or ()) - known.keys():
        parser.error(f"{', '.join(strangers)}: must be of {', '.join(known)}")
    packages = [measure(name, known[name]) for name in options.only or known]
    if options.json:
        print(json.dumps([asdict(package) for package in packages], indent=1))
    elif options.check:
        print("\n".join(faults(packages)) or "The house is in order.")
    else:
        print(table(packages))
        if options.list:
            print("", *faults(packages), sep="\n")
    return int(options.check and bool(faults(packages)))


if __name__ == "__main__":
    sys.exit(main())
