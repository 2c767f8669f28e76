"""The default text: what every Python installation carries.

That is the language reference in ``pydoc_data.topics`` and the docstrings of the standard
library. Modules written in Python are read from their source with ``ast``, never imported, so
that reading has no side effects and every document has its line; built-in and extension modules,
which have no source here, are imported and inspected. Every docstring is a document of its own
under the public name that ``pydoc`` takes (``threading.Thread.join``), because a question usually
asks for one function and a page of a whole class would bury it.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import sysconfig
import types
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from importlib.machinery import ExtensionFileLoader, PathFinder
from pathlib import Path

from tokenspace.space.passages import Document

__all__ = ["documents", "sample"]

# Modules that do something when imported or read as a joke, test suites, other people's names for
# the same functions, and modules that Python has removed since 3.11.
_NOT_READ = """
antigravity this idlelib turtledemo test lib2to3 distutils ensurepip msilib pydoc_data audioop
nis ossaudiodev spwd readline nt ntpath posix posixpath genericpath sre_compile sre_constants
sre_parse asynchat asyncore smtpd imp cgi cgitb chunk crypt imghdr mailcap nntplib pipes
sndhdr sunau telnetlib uu xdrlib
"""
_SKIPPED = frozenset(_NOT_READ.split())
_ENTRY_WORDS = 3  # a docstring shorter than this says nothing that the name does not
_Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def sample(size: int) -> list[str]:
    """Return the first documents, of ``size`` bytes or more together."""
    texts, taken = [], 0
    for document in documents():
        texts.append(document.text)
        taken += len(document.text.encode())
        if taken >= size:
            break
    return texts


def documents() -> Iterator[Document]:
    """Yield the language reference and the standard library's docstrings, always in this order.

    ``source`` is ``topics/with`` for a topic and the qualified name for a docstring
    (``builtins.str.split``, ``asyncio.gather``); ``line`` is the line in the topic or in the
    module's source file, 1 where there is none. Text that stands in several topics is given once,
    in the shortest topic; a docstring repeated under the same last name is given once, under the
    shortest name.
    """
    yield from _topics()
    kept: dict[tuple[str, str], Document] = {}
    for document in _library():
        if len(document.text.split()) >= _ENTRY_WORDS:
            key = document.source.rpartition(".")[2], document.text
            former = kept.get(key, document)
            kept[key] = min(former, document, key=lambda one: len(one.source))
    yield from kept.values()


def _topics() -> Iterator[Document]:
    from pydoc_data.topics import topics

    seen: set[str] = set()
    found: list[Document] = []
    for name in sorted(topics, key=lambda name: (len(topics[name]), name)):
        headline = ""
        for line, title, text in _sections(topics[name]):
            headline = headline or title
            flat = " ".join(text.split())
            if flat and flat not in seen:
                seen.add(flat)
                above = headline if title == headline else f"{headline} > {title}"
                found.append(Document(f"topics/{name}", above, text, line))
    yield from sorted(found, key=lambda document: (document.source, document.line))


def _sections(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield (line, heading, text below it) of a topic."""
    rows = text.split("\n")
    marks = [
        index
        for index in range(len(rows) - 1)
        if re.fullmatch(r"([*=\-~^\"])\1{2,}", rows[index + 1]) and rows[index].strip()
    ]
    for mark, end in zip(marks, [*marks[1:], len(rows)], strict=True):
        body = rows[mark + 2 : end]
        lead = next((i for i, row in enumerate(body) if row.strip()), 0)
        title = re.sub(r"[*\"`]", "", rows[mark]).strip()
        yield mark + 3 + lead, title, "\n".join(body[lead:]).rstrip()
    if not marks:
        yield 1, "", text.strip("\n")


def _library() -> Iterator[Document]:
    shelf = _Shelf(Path(sysconfig.get_path("stdlib")))
    for name in sorted({*sys.stdlib_module_names, "os.path", "_thread"}):
        private = name.startswith("_") and name != "_thread"
        if not private and name not in _SKIPPED:
            yield from shelf.module(name)


@dataclass
class _Module:
    """A module's source: what it defines, in order, and what it takes from elsewhere."""

    name: str
    package: str
    rows: list[str]
    tree: ast.Module

    @cached_property
    def public(self) -> frozenset[str] | None:
        """The names of ``__all__`` where it is a literal, otherwise None."""
        names: frozenset[str] | None = None
        for node in self.statements():
            target = node.targets[0] if isinstance(node, ast.Assign) else None
            if isinstance(node, ast.AugAssign | ast.AnnAssign):
                target = node.target
            elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
                target = getattr(node.value.func, "value", None)  # __all__.extend(...)
            if isinstance(target, ast.Name) and target.id == "__all__":
                value = getattr(node, "value", None)
                constant = isinstance(node, ast.Assign) and isinstance(value, ast.List | ast.Tuple)
                items = [getattr(item, "value", None) for item in getattr(value, "elts", [])]
                if not constant or not all(isinstance(item, str) for item in items):
                    return None
                names = frozenset(map(str, items))
        return names

    @cached_property
    def instances(self) -> dict[str, ast.ClassDef]:
        """The module-level names that hold an instance of one of the module's classes."""
        classes = {node.name: node for node in self.tree.body if isinstance(node, ast.ClassDef)}
        return {
            _target(node): classes[node.value.func.id]
            for node in self.tree.body
            if isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Call)
            and isinstance(node.value.func, ast.Name)
            and node.value.func.id in classes
        }

    @property
    def named(self) -> frozenset[str]:
        """The names of a literal ``__all__``, none without one."""
        return self.public or frozenset()

    def is_public(self, name: str) -> bool:
        return name in self.public if self.public is not None else not name.startswith("_")

    def statements(self) -> Iterator[ast.stmt]:
        """Yield the statements of the module, those inside ``if`` and ``try`` included."""
        yield from _flat(self.tree.body)

    def origin(self, node: ast.ImportFrom) -> str:
        """Return the absolute name of the module that an import statement takes from."""
        if not node.level:
            return node.module or ""
        parts = self.package.split(".")
        parts = parts[: len(parts) - node.level + 1]
        return ".".join([*parts, *filter(None, [node.module])])


def _flat(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        if isinstance(node, ast.If):
            yield from _flat(node.body)
            yield from _flat(node.orelse)
        elif isinstance(node, ast.Try):
            for part in (node.body, *(handler.body for handler in node.handlers), node.orelse):
                yield from _flat(part)
        else:
            yield node


@dataclass
class _Shelf:
    """Finds modules by name: sources under ``root``, and what only an import can show."""

    root: Path
    sources: dict[str, _Module | None] = field(default_factory=dict)
    compiled: dict[str, types.ModuleType | None] = field(default_factory=dict)

    def source(self, name: str) -> _Module | None:
        """Parse the source of a module; None if it has none."""
        if name not in self.sources:
            self.sources[name] = self._parse(name)
        return self.sources[name]

    def _parse(self, name: str) -> _Module | None:
        file = "posixpath" if name == "os.path" and sys.platform != "win32" else name
        file = "ntpath" if file == "os.path" else file
        stem = self.root.joinpath(*file.split("."))
        package = (stem / "__init__.py").is_file()
        path = stem / "__init__.py" if package else stem.with_name(stem.name + ".py")
        if not path.is_file():
            return None
        try:
            text = path.read_text("utf-8")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(text)
        except (SyntaxError, ValueError, OSError):
            return None
        return _Module(name, name if package else name.rpartition(".")[0], text.split("\n"), tree)

    def extension(self, name: str) -> types.ModuleType | None:
        """Import a built-in or extension module; None if it is not one of these."""
        if name not in self.compiled:
            spec = None if "." in name else PathFinder.find_spec(name)
            shared = spec is not None and isinstance(spec.loader, ExtensionFileLoader)
            self.compiled[name] = None
            if name in sys.builtin_module_names or shared:
                try:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        self.compiled[name] = import_module(name)
                except ImportError:
                    pass
        return self.compiled[name]

    def module(self, name: str) -> Iterator[Document]:
        """Yield the documents of a module and of its public submodules."""
        source = self.source(name)
        if source is None:
            if (compiled := self.extension(name)) is not None:
                yield from _inspected(compiled, name)
            return
        yield from _docstring(source, source.tree, name)
        yield from self.names(source, name, set(), None)
        if source.package == name:
            for path in sorted((self.root.joinpath(*name.split("."))).iterdir()):
                inner = path.stem if path.suffix == ".py" else path.name
                package = (path / "__init__.py").is_file()
                plain = not inner.startswith("_") and "test" not in inner.split("_")
                if plain and inner != "tests" and (path.suffix == ".py" or package):
                    yield from self.module(f"{name}.{inner}")

    def names(
        self, source: _Module, home: str, done: set[str], wanted: dict[str, str] | None
    ) -> Iterator[Document]:
        """Yield what a module offers as ``home.name``; ``wanted`` maps its names to public ones."""
        aliases: dict[str, tuple[str, str]] = {}
        for node in source.statements():
            if isinstance(node, _Definition):
                for name in self._offered(source, node.name, wanted, done):
                    done.add(name)
                    yield from _defined(source, node, f"{home}.{name}")
            elif isinstance(node, ast.ImportFrom):
                yield from self._imported(source, node, home, done, wanted, aliases)
            elif isinstance(node, ast.Assign) and (method := _bound(source, node.value)):
                for name in self._offered(source, _target(node), wanted, done):
                    done.add(name)
                    yield from _docstring(source, method, f"{home}.{name}")
            elif isinstance(node, ast.Assign) and (found := _alias(node.value, aliases)):
                for target in node.targets:
                    if isinstance(target, ast.Name):
                        aliases[target.id] = found
                        yield from self._compiled(source, target.id, found, home, done, wanted)

    def _offered(
        self, source: _Module, name: str, wanted: dict[str, str] | None, done: set[str]
    ) -> list[str]:
        if wanted is None:
            public = name if source.is_public(name) else None
        else:
            public = wanted.get(name) or (
                name if "*" in wanted and source.is_public(name) else None
            )
        return [public] if public and public not in done else []

    def _imported(
        self,
        source: _Module,
        node: ast.ImportFrom,
        home: str,
        done: set[str],
        wanted: dict[str, str] | None,
        aliases: dict[str, tuple[str, str]],
    ) -> Iterator[Document]:
        """Follow an import from a private, a compiled or one's own package's module."""
        origin = source.origin(node)
        private = any(part.startswith("_") for part in origin.split("."))
        names = {item.name: item.asname or item.name for item in node.names}
        compiled = self.extension(origin) if self.source(origin) is None else None
        if compiled is not None:
            if "__doc__" in names and home == source.name:  # csv takes its page from _csv
                yield Document(home, home, inspect.cleandoc(compiled.__doc__ or ""))
            if "*" in names:
                names = {name: name for name in vars(compiled) if not name.startswith("_")}
            elif not private:  # `from itertools import islice` does not make islice one's own
                names = {name: local for name, local in names.items() if local in source.named}
            for name, local in names.items():
                aliases[local] = origin, name
                yield from self._compiled(source, local, (origin, name), home, done, wanted)
            return
        inner = self.source(origin)
        if inner is None or not (private or origin.startswith(f"{source.package}.")):
            return
        chosen = {
            name: public
            for name, local in names.items()
            for public in (["*"] if name == "*" else self._offered(source, local, wanted, done))
        }
        if chosen:
            yield from self.names(inner, home, done, chosen)

    def _compiled(
        self,
        source: _Module,
        local: str,
        place: tuple[str, str],
        home: str,
        done: set[str],
        wanted: dict[str, str] | None,
    ) -> Iterator[Document]:
        module = self.extension(place[0])
        for name in self._offered(source, local, wanted, done):
            thing = getattr(module, place[1], None)
            if callable(thing):
                done.add(name)
                yield from _inspected(thing, f"{home}.{name}")


def _alias(value: ast.expr, aliases: dict[str, tuple[str, str]]) -> tuple[str, str] | None:
    """Resolve ``_thread.allocate_lock`` or the name of something that came from there."""
    if isinstance(value, ast.Name):
        return aliases.get(value.id)
    if isinstance(value, ast.Attribute) and isinstance(value.value, ast.Name):
        return value.value.id, value.attr
    return None


def _target(node: ast.Assign) -> str:
    return node.targets[0].id if isinstance(node.targets[0], ast.Name) else ""


def _bound(source: _Module, value: ast.expr) -> _Definition | None:
    """Resolve ``randint = _inst.randint`` where ``_inst = Random()``: a method of that class."""
    if not (isinstance(value, ast.Attribute) and isinstance(value.value, ast.Name)):
        return None
    kind = source.instances.get(value.value.id)
    methods = [node for node in kind.body if isinstance(node, _Definition)] if kind else []
    return next((node for node in methods if node.name == value.attr), None)


def _defined(source: _Module, node: _Definition, name: str) -> Iterator[Document]:
    yield from _docstring(source, node, name)
    if isinstance(node, ast.ClassDef):
        done: set[str] = set()
        for child in _flat(node.body):
            if isinstance(child, _Definition) and child.name not in done:
                done.add(child.name)
                if not child.name.startswith("_"):
                    yield from _defined(source, child, f"{name}.{child.name}")


def _docstring(source: _Module, node: ast.Module | _Definition, name: str) -> Iterator[Document]:
    raw = ast.get_docstring(node, clean=False)
    if raw and raw.strip():
        line = node.body[0].lineno
        opening = source.rows[line - 1].rstrip()
        line += opening.endswith(('"""\\', "'''\\"))  # the text begins on the next line
        rows = raw.split("\n")
        line += next(index for index, row in enumerate(rows) if row.strip())
        yield Document(name, name, inspect.cleandoc(raw), line)


def _inspected(thing: object, name: str) -> Iterator[Document]:
    """Yield the docstrings of a compiled module, type or function, and of its public members."""
    text = inspect.getdoc(thing) if isinstance(thing, type | types.ModuleType) else None
    text = text or getattr(thing, "__doc__", None)
    if isinstance(text, str) and text.strip():
        yield Document(name, name, inspect.cleandoc(text))
    if not isinstance(thing, type | types.ModuleType):
        return
    for member, value in sorted(vars(thing).items()):
        own = not isinstance(thing, types.ModuleType) or getattr(
            value, "__module__", thing.__name__
        ) in (thing.__name__, "builtins", None)
        if member.startswith("_") or not own:
            continue
        if isinstance(value, type) and not (
            isinstance(thing, type) or value.__module__ == thing.__name__
        ):
            continue
        if isinstance(value, type) or (
            not isinstance(value, types.ModuleType) and _function(value)
        ):
            yield from _inspected(value, f"{name}.{member}")


def _function(value: object) -> bool:
    return callable(value) or inspect.isgetsetdescriptor(value) or inspect.ismemberdescriptor(value)
