"""The import rules of the architecture, read from the source with `ast`."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "tercel"

# Who may import whom: only what stands at the same height or lower. The longest prefix counts.
HEIGHTS = {
    "tercel": 9,
    "tercel.__main__": 9,
    "tercel.cli": 8,
    "tercel.entry": 7,
    "tercel.install": 7,
    "tercel.banner": 7,
    "tercel.serve": 6,
    "tercel.server": 5,
    "tercel.binding": 5,
    "tercel.identity": 5,
    "tercel.h1": 4,
    "tercel.quic": 4.3,
    "tercel.quic.http3": 4.2,
    "tercel.quic.driver": 4.1,
    "tercel.quic.transport": 4,
    "tercel.shared.apps": 3,
    "tercel.shared.websocket": 3,
    "tercel.shared.accesslog": 2,
    "tercel.shared.bytestream": 2,
    "tercel.shared.connection": 2,
    "tercel.shared.connection_info": 2,
    "tercel.shared.content": 2,
    "tercel.shared.flow": 2,
    "tercel.shared.listener": 2,
    "tercel.shared.response_fields": 2,
    "tercel.shared.stream": 2,
    "tercel.shared.tasks": 2,
    "tercel.shared.upgrade": 2,
    "tercel.certs": 1,
    "tercel.options": 1,
    "tercel.shared.control_data": 1,
    "tercel.other_servers": 1,
    "tercel.shared.errors": 1,
    "tercel.shared.events": 1,
    "tercel.shared.goodbye": 1,
    "tercel.shared.loop": 1,
    "tercel.shared.messages": 1,
    "tercel.shared.request_fields": 1,
    "tercel.shared.settings": 1,
    "tercel.shared.signals": 1,
    "tercel.shared.sockets": 1,
    "tercel.shared": 1,
    "tercel.version": 0,
}

# Where each third party may be imported: modules, or packages with all that is in them.
THIRD_PARTIES = {
    "aioquic": ("tercel.quic",),
    "pylsqpack": ("tercel.quic",),
    "click": ("tercel.cli", "tercel.options", "tercel.other_servers"),
    "cryptography": (
        "tercel.certs",
        "tercel.quic.transport.tls_flight",
        "tercel.quic.transport.keys",
        "tercel.quic.transport.protection",
        "tercel.quic.transport.tokens",
    ),
    "httptools": ("tercel.h1.llhttp",),
    "sanic": ("tercel.shared.apps.sanic",),
    "uvloop": ("tercel.shared.loop",),
    "websockets": (
        "tercel.shared.websocket",
        "tercel.shared.apps.sanic",
        "tercel.h1.websocket",
    ),
}

# What decides about a protocol: bytes in, events out, never a loop.
SANS_IO = (
    "tercel.h1.chunked",
    "tercel.h1.events",
    "tercel.h1.heads",
    "tercel.h1.llhttp",
    "tercel.h1.parser",
    "tercel.h1.syntax",
    "tercel.h1.writer",
    "tercel.quic.http3.errors",
    "tercel.quic.http3.fields",
    "tercel.quic.http3.frames",
    "tercel.quic.http3.connection",
    "tercel.quic.transport.packet_header",
    "tercel.quic.transport.client_hello",
    "tercel.quic.transport.protection",
    "tercel.quic.http3.request_parser",
    "tercel.quic.http3.qpack",
    "tercel.quic.http3.control_streams",
    "tercel.shared.content",
    "tercel.shared.control_data",
    "tercel.shared.errors",
    "tercel.shared.messages",
    "tercel.shared.request_fields",
    "tercel.shared.response_fields",
    "tercel.shared.settings",
)

LIBRARY_PRIVATES = (
    "tercel.quic.compatibility",
    "tercel.quic.transport.handshake_receive",
    "tercel.quic.transport.handshake_send",
    "tercel.quic.transport.connection",
    "tercel.quic.transport.ecn",
    "tercel.quic.transport.tls_flight",
    "tercel.quic.transport.hardening",
    "tercel.quic.transport.tls_server",
    "tercel.quic.transport.keys",
    "tercel.quic.transport.handshake_state",
    "tercel.quic.transport.pacing",
    "tercel.quic.transport.packet_builder",
    "tercel.quic.transport.parameters",
    "tercel.quic.transport.migration",
    "tercel.quic.transport.preferred_address",
    "tercel.quic.transport.initial_state",
    "tercel.quic.transport.protection",
    "tercel.quic.transport.path_mtu_probes",
    "tercel.quic.qlog",
    "tercel.quic.transport.stream_receiver",
    "tercel.quic.transport.resumption",
    "tercel.quic.transport.sent_packets",
    "tercel.quic.transport.send_queue",
    "tercel.quic.transport.fast_receive",
    "tercel.quic.transport.fast_ack",
    "tercel.quic.transport.fast_send",
    "tercel.quic.transport.key_usage",
)


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in MODULES.items()}

every_module = pytest.mark.parametrize("module", MODULES)


def imported(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Each imported module, wherever the import stands, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            for alias in node.names:
                submodule = f"{source}.{alias.name}"
                yield (submodule if submodule in MODULES else source, node.lineno)


def within(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(prefix + ".")


def height(module: str) -> float:
    known = [prefix for prefix in HEIGHTS if module == prefix or prefix != "tercel"]
    return HEIGHTS[max((prefix for prefix in known if within(module, prefix)), key=len)]


def problems(found: list[tuple[str, int]], module: str) -> list[str]:
    return [f"{MODULES[module].name}:{line}: {what}" for what, line in found]


@every_module
def test_every_module_has_its_height(module: str) -> None:
    assert height(module) >= 0


@every_module
def test_imports_go_downwards_only(module: str) -> None:
    upwards = [
        (target, line)
        for target, line in imported(TREES[module])
        if within(target, "tercel") and height(target) > height(module)
    ]
    assert problems(upwards, module) == []


@every_module
def test_h1_and_quic_do_not_know_each_other(module: str) -> None:
    strangers = {"tercel.h1": "tercel.quic", "tercel.quic": "tercel.h1"}
    crossing = [
        (target, line)
        for target, line in imported(TREES[module])
        for own, other in strangers.items()
        if within(module, own) and within(target, other)
    ]
    assert problems(crossing, module) == []


def circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """The modules that import one another, in groups; TYPE_CHECKING makes no difference."""
    reached = {module: {module} for module in imports}
    for module, found in reached.items():
        waiting = [module]
        while waiting:
            new = imports[waiting.pop()] - found
            found |= new
            waiting += new
    groups = {
        tuple(sorted(other for other in found if module in reached[other]))
        for module, found in reached.items()
    }
    return sorted(list(group) for group in groups if len(group) > 1)


def test_no_modules_import_one_another() -> None:
    imports = {
        module: {target for target, _ in imported(tree) if target in MODULES and target != module}
        for module, tree in TREES.items()
    }
    assert circles(imports) == []


def test_a_circle_of_imports_is_seen() -> None:
    chain = {"a": {"b"}, "b": {"c"}, "c": set(), "d": {"a"}}
    assert circles(chain) == []
    assert circles(chain | {"c": {"a"}}) == [["a", "b", "c"]]


@every_module
def test_a_module_says_what_it_imports_by_its_full_name(module: str) -> None:
    relative = [
        ("relative import", node.lineno)
        for node in ast.walk(TREES[module])
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert problems(relative, module) == []


@every_module
def test_each_third_party_has_its_place(module: str) -> None:
    misplaced = []
    for target, line in imported(TREES[module]):
        top = target.partition(".")[0]
        if top == "tercel" or top in sys.stdlib_module_names:
            continue
        if not any(within(module, place) for place in THIRD_PARTIES.get(top, ())):
            misplaced.append((target, line))
    assert problems(misplaced, module) == []


@pytest.mark.parametrize("module", [name for name in SANS_IO if name in MODULES])
def test_protocol_decisions_know_no_loop(module: str) -> None:
    loops = [
        (target, line)
        for target, line in imported(TREES[module])
        if target.partition(".")[0] in ("asyncio", "socket", "threading")
    ]
    assert problems(loops, module) == []


@every_module
def test_only_task_sets_create_tasks(module: str) -> None:
    if module == "tercel.shared.tasks":
        return
    created = [
        (name, node.lineno)
        for node in ast.walk(TREES[module])
        for name in ("create_task", "ensure_future", "TaskGroup")
        if isinstance(node, ast.Attribute) and node.attr == name
    ]
    assert problems(created, module) == []


@every_module
def test_a_library_s_private_names_stay_in_few_files(module: str) -> None:
    if not within(module, "tercel.quic") or module in LIBRARY_PRIVATES:
        return
    found = []
    from_library = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.ImportFrom) and within(node.module or "", "aioquic"):
            from_library.update(alias.asname or alias.name for alias in node.names)
            found += [(a.name, node.lineno) for a in node.names if a.name.startswith("_")]
        elif isinstance(node, ast.Attribute) and is_private(node.attr):
            # Of its own, or of its own class, a name with an underscore is no library's: such a
            # class inherits from none of the library's, see below.
            owner = node.value
            if not (isinstance(owner, ast.Name) and owner.id in ("self", "cls")):
                found.append((node.attr, node.lineno))
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.ClassDef):
            found += [
                (f"class {node.name}({ast.unparse(base)})", node.lineno)
                for base in node.bases
                if ast.unparse(base).partition(".")[0] in from_library
            ]
    assert problems(found, module) == []


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


@every_module
def test_a_module_opens_with_what_it_is(module: str) -> None:
    assert ast.get_docstring(TREES[module]), f"{module} has no docstring"


def test_the_rules_see_imports_inside_functions() -> None:
    tree = ast.parse(
        "def late():\n    import aioquic.h3\n    from tercel.quic.http3 import protocol\n"
    )
    assert list(imported(tree)) == [("aioquic.h3", 2), ("tercel.quic.http3.protocol", 3)]
