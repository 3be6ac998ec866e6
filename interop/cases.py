"""The test cases: what is served, over which network, and what has to be seen."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from interop import checks
from interop.checks import Evidence
from interop.lab import SERVER4, SERVER6, SERVER46
from interop.simulator.scenario import Scenario

KIB = 1024
MIB = 1024 * KIB

Check = Callable[[Evidence], None]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One test case. `server` and `client` are the values of TESTCASE."""

    name: str
    letter: str
    """How the runner's tables call it."""
    server: str
    client: str = ""
    """Empty: that of the server."""
    files: tuple[int, ...]
    """Sizes in bytes."""
    name_length: int = 10
    scenario: Scenario = field(default_factory=Scenario)
    timeout: float = 60.0
    host: str = SERVER4
    chain: int = 1
    """Certificates that the server sends, the leaf included."""
    checks: tuple[Check, ...] = ()
    version_1: bool = True
    connections: int | None = 1
    """Handshakes; None if a check of its own counts them."""
    measured: bool = False
    """Whether its result is a bit rate."""
    cross_traffic: bool = False
    waits: bool = False
    """Whether it takes long, because the scenario does."""
    downloads: bool = True
    """Whether the files have to come; else the client may end as it likes."""
    quic_only: bool = True
    """Whether it needs hq-interop, and can tell nothing about an HTTP/3 client."""

    @property
    def client_testcase(self) -> str:
        """TESTCASE of the client."""
        return self.client or self.server

    @property
    def all_checks(self) -> tuple[Check, ...]:
        """Those of every test case, and its own."""
        every: list[Check] = [checks.files_are_identical] if self.downloads else []
        if self.version_1:
            every.append(checks.version_1_only)
        if self.connections is not None:
            every.append(partial(checks.handshakes, self.connections))
        return (*every, *self.checks)


def _many_handshakes(name: str, letter: str, scenario: Scenario) -> Case:
    """Fifty connections, one after the other, over a network that makes each of them hard."""
    return Case(
        name=name,
        letter=letter,
        server="multiconnect",
        files=(KIB,) * 50,
        scenario=scenario,
        timeout=300.0,
        connections=50,
        waits=True,
    )


CASES = (
    Case(name="handshake", letter="H", server="handshake", files=(KIB,), checks=(checks.no_retry,)),
    Case(
        name="versionnegotiation",
        letter="V",
        server="versionnegotiation",
        files=(KIB,),
        downloads=False,
        version_1=False,
        connections=None,
        checks=(checks.versions_were_offered,),
    ),
    Case(name="transfer", letter="DC", server="transfer", files=(2 * MIB, 3 * MIB, 5 * MIB)),
    Case(
        name="longrtt",
        letter="LR",
        server="handshake",
        files=(KIB,),
        scenario=Scenario(delay=0.75),
        checks=(checks.hello_was_repeated,),
    ),
    Case(
        name="chacha20",
        letter="C20",
        server="chacha20",
        files=(3 * MIB,),
        checks=(checks.only_chacha20,),
    ),
    Case(
        name="multiplexing",
        letter="M",
        server="transfer",
        files=(32,) * 1999,
        checks=(checks.few_streams,),
    ),
    Case(
        name="retry",
        letter="S",
        server="retry",
        files=(10 * KIB,),
        checks=(checks.retry_was_followed,),
    ),
    Case(
        name="resumption",
        letter="R",
        server="resumption",
        files=(5 * KIB, 10 * KIB),
        connections=None,
        checks=(checks.second_has_no_certificate,),
    ),
    Case(
        name="zerortt",
        letter="Z",
        server="zerortt",
        files=(32,) * 40,
        name_length=250,
        connections=None,
        checks=(checks.early_data_was_used,),
    ),
    Case(
        name="http3",
        letter="3",
        server="http3",
        files=(5 * KIB, 10 * KIB, 500 * KIB),
        quic_only=False,
    ),
    Case(
        name="blackhole",
        letter="B",
        server="transfer",
        files=(10 * MIB,),
        scenario=Scenario(blackhole=(5.0, 2.0)),
        waits=True,
    ),
    Case(
        name="keyupdate",
        letter="U",
        server="transfer",
        client="keyupdate",
        files=(3 * MIB,),
        checks=(checks.keys_were_updated,),
    ),
    Case(
        name="ecn",
        letter="E",
        server="ecn",
        files=(100 * KIB,),
        checks=(checks.marks_were_echoed,),
    ),
    Case(
        name="amplificationlimit",
        letter="A",
        server="transfer",
        files=(5 * KIB,),
        scenario=Scenario(drops_to_server=(2, 3, 4, 5, 6, 7)),
        chain=9,
        checks=(checks.not_amplified,),
    ),
    _many_handshakes("handshakeloss", "L1", Scenario(loss=0.3)),
    Case(
        name="transferloss",
        letter="L2",
        server="transfer",
        files=(2 * MIB,),
        scenario=Scenario(loss=0.02),
    ),
    _many_handshakes("handshakecorruption", "C1", Scenario(corruption=0.3)),
    Case(
        name="transfercorruption",
        letter="C2",
        server="transfer",
        files=(2 * MIB,),
        scenario=Scenario(corruption=0.02),
    ),
    Case(
        name="ipv6",
        letter="6",
        server="transfer",
        files=(5 * KIB, 10 * KIB),
        host=SERVER6,
        checks=(checks.no_ipv4,),
    ),
    Case(
        name="v2",
        letter="V2",
        server="v2",
        files=(KIB,),
        version_1=False,
        checks=(checks.version_2_was_negotiated,),
    ),
    Case(
        name="rebind-port",
        letter="BP",
        server="transfer",
        files=(10 * MIB,),
        scenario=Scenario(rebind=(1.0, 5.0)),
        checks=(checks.port_changed,),
        waits=True,
    ),
    Case(
        name="rebind-addr",
        letter="BA",
        server="transfer",
        files=(10 * MIB,),
        scenario=Scenario(rebind=(1.0, 5.0), rebind_address=True),
        checks=(checks.address_changed,),
        waits=True,
    ),
    Case(
        name="connectionmigration",
        letter="CM",
        server="connectionmigration",
        client="transfer",
        files=(2 * MIB,),
        host=SERVER46,
        checks=(checks.server_address_was_left,),
    ),
    Case(
        name="goodput",
        letter="G",
        server="transfer",
        files=(10 * MIB,),
        measured=True,
        waits=True,
    ),
    Case(
        name="crosstraffic",
        letter="C",
        server="transfer",
        files=(25 * MIB,),
        timeout=180.0,
        measured=True,
        cross_traffic=True,
        waits=True,
    ),
)
