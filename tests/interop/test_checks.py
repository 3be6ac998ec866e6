"""What is said about packets, on packets made for it; tshark's columns stand for themselves."""

from pathlib import Path

import pytest

from interop import checks, trace
from interop.cases import CASES
from interop.checks import CheckFailed, Evidence, NotCheckable
from interop.tools import follows_paths
from interop.trace import Datagram

CLIENT, SERVER = ("10.0.0.1", "50000"), ("10.0.0.2", "443")


def datagram(source, destination, *, size=1200, ecn=0, **columns):
    """A row as tshark gives it; columns by their names, with _ for the dots."""
    row = {name: [] for name in trace._FIELDS}
    row |= {
        "frame.time_epoch": ["1.0"],
        "ip.src": [source[0]],
        "ip.dst": [destination[0]],
        "udp.srcport": [source[1]],
        "udp.dstport": [destination[1]],
        "udp.length": [str(size + 8)],
        "ip.dsfield.ecn": [str(ecn)],
    }
    names = {name.replace(".", "_"): name for name in trace._FIELDS}
    row |= {names[name]: values for name, values in columns.items()}
    return Datagram(row)


def initial(source, destination, *, scid="aa", version="0x00000001", **columns):
    return datagram(
        source,
        destination,
        quic_long_packet_type=["0"],
        quic_version=[version],
        quic_scid=[scid],
        **columns,
    )


class Packets:
    """A trace that was not captured."""

    def __init__(self, *datagrams):
        self.datagrams = list(datagrams)
        self.from_server = [d for d in datagrams if d.from_server]
        self.from_client = [d for d in datagrams if not d.from_server]


def seen(*datagrams, folder=Path()):
    """Evidence of a run in which both captures show the same."""
    packets = Packets(*datagrams)
    return Evidence(folder / "www", folder / "downloads", packets, packets)


def fails(check, *datagrams):
    with pytest.raises(CheckFailed) as failure:
        check(seen(*datagrams))
    return str(failure.value)


# -- files --------------------------------------------------------------------------------------


def test_files_have_to_come_and_to_be_the_same(tmp_path):
    for name in ("www", "downloads"):
        (tmp_path / name).mkdir()
    (tmp_path / "www" / "file").write_bytes(b"content")
    evidence = seen(folder=tmp_path)
    with pytest.raises(CheckFailed, match="not downloaded"):
        checks.files_are_identical(evidence)
    (tmp_path / "downloads" / "file").write_bytes(b"Content")
    with pytest.raises(CheckFailed, match="differs: 7 bytes of 7"):
        checks.files_are_identical(evidence)
    (tmp_path / "downloads" / "file").write_bytes(b"content")
    checks.files_are_identical(evidence)


# -- versions and handshakes --------------------------------------------------------------------


def test_version_1_is_that_of_the_servers_initials():
    checks.version_1_only(seen(initial(SERVER, CLIENT)))
    assert "0x6b3343cf" in fails(
        checks.version_1_only, initial(SERVER, CLIENT, version="0x6b3343cf")
    )
    assert "none" in fails(checks.version_1_only, initial(CLIENT, SERVER))


def unknown(**columns):
    return datagram(
        CLIENT, SERVER, quic_version=["0x1a2a3a4a"], quic_scid=["aa"], quic_dcid=["bb"], **columns
    )


def offer(*versions, scid="bb"):
    return datagram(
        SERVER,
        CLIENT,
        quic_version=["0x00000000"],
        quic_supported_version=list(versions),
        quic_scid=[scid],
        quic_dcid=["aa"],
    )


def test_an_unknown_version_is_answered_with_the_known_ones():
    check = checks.versions_were_offered
    check(seen(unknown(), offer("0x6b3343cf", "0x00000001")))
    assert "0x6b3343cf" in fails(check, unknown(), offer("0x6b3343cf"))
    assert "no Version Negotiation" in fails(check, unknown())
    assert "no Version Negotiation" in fails(check, unknown(), offer("0x00000001", scid="cc"))
    assert "no Version Negotiation" in fails(check, initial(CLIENT, SERVER), offer("0x00000001"))


def test_handshakes_are_told_apart_by_the_servers_connection_id():
    twice = initial(SERVER, CLIENT, scid="aa"), initial(SERVER, CLIENT, scid="aa")
    checks.handshakes(1, seen(*twice))
    assert "2 handshakes" in fails(
        lambda evidence: checks.handshakes(1, evidence), *twice, initial(SERVER, CLIENT, scid="bb")
    )


def test_a_retry_is_seen():
    retry = datagram(SERVER, CLIENT, quic_long_packet_type=["3"])
    fails(checks.no_retry, retry)
    checks.no_retry(seen(initial(SERVER, CLIENT)))


def test_a_retry_has_to_be_followed_by_its_token_and_higher_numbers():
    first = initial(CLIENT, SERVER, quic_packet_number=["0"], quic_token_length=["0"])
    retry = datagram(SERVER, CLIENT, quic_long_packet_type=["3"])

    def second(number):
        return initial(CLIENT, SERVER, quic_packet_number=[number], quic_token_length=["32"])

    checks.retry_was_followed(seen(first, retry, second("1")))
    assert "no Retry" in fails(checks.retry_was_followed, first, second("1"))
    assert "no Initial" in fails(checks.retry_was_followed, first, retry)
    assert "anew" in fails(checks.retry_was_followed, first, retry, second("0"))


def test_the_second_handshake_must_not_have_a_certificate():
    def handshake(scid, *types):
        return [
            initial(SERVER, CLIENT, scid=scid),
            datagram(SERVER, CLIENT, quic_scid=[scid], tls_handshake_type=list(types)),
        ]

    checks.second_has_no_certificate(seen(*handshake("aa", "8", "11"), *handshake("bb", "8")))
    fails(checks.second_has_no_certificate, *handshake("aa", "11"), *handshake("bb", "11"))
    fails(checks.second_has_no_certificate, *handshake("aa", "8"), *handshake("bb", "8"))


def test_version_2_begins_with_version_1():
    v2 = {"quic_long_packet_type_v2": ["3"], "quic_version": ["0x6b3343cf"]}
    rest = [
        datagram(SERVER, CLIENT, quic_long_packet_type_v2=["1"], quic_version=["0x6b3343cf"]),
        datagram(SERVER, CLIENT, **v2),
        datagram(CLIENT, SERVER, **v2),
    ]
    checks.version_2_was_negotiated(seen(initial(CLIENT, SERVER), *rest))
    fails(checks.version_2_was_negotiated, initial(CLIENT, SERVER, version="0x6b3343cf"), *rest)
    fails(checks.version_2_was_negotiated, initial(CLIENT, SERVER), initial(SERVER, CLIENT))


# -- what is inside -----------------------------------------------------------------------------


def test_only_one_cipher_suite_is_offered():
    checks.only_chacha20(seen(initial(CLIENT, SERVER, tls_handshake_ciphersuite=["0x1303"])))
    fails(
        checks.only_chacha20,
        initial(CLIENT, SERVER, tls_handshake_ciphersuite=["0x1301", "0x1303"]),
    )


def test_early_data_leaves_little_for_later():
    two = initial(SERVER, CLIENT, scid="aa"), initial(SERVER, CLIENT, scid="bb")
    early = datagram(CLIENT, SERVER, quic_long_packet_type=["1"])

    def late(size):
        return datagram(
            CLIENT,
            SERVER,
            quic_header_form=["1", "0"],
            quic_packet_length=["300", str(size)],
            quic_dcid=["00" * 8, "11" * 8],
        )

    checks.early_data_was_used(seen(*two, early, late(5009)))
    assert "5001 bytes" in fails(checks.early_data_was_used, *two, early, late(5010))
    assert "no 0-RTT" in fails(checks.early_data_was_used, *two, late(10))


def test_both_sides_have_to_use_the_next_keys():
    ours = datagram(SERVER, CLIENT, quic_key_phase=["True"])
    theirs = datagram(CLIENT, SERVER, quic_key_phase=["1"])
    checks.keys_were_updated(seen(ours, theirs))
    assert "the client" in fails(checks.keys_were_updated, ours)
    assert "the server" in fails(checks.keys_were_updated, theirs)


def test_both_sides_have_to_mark_and_to_count():
    def side(source, destination, **columns):
        return datagram(source, destination, **{"ecn": 2, "quic_frame_type": ["0x03"]} | columns)

    checks.marks_were_echoed(seen(side(CLIENT, SERVER), side(SERVER, CLIENT)))
    for broken, reason in (
        ({"ecn": 0}, "no packet with ECT"),
        ({"ecn": 3}, "CE"),
        ({"quic_frame_type": ["0x02"]}, "no ACK_ECN"),
    ):
        assert reason in fails(
            checks.marks_were_echoed, side(CLIENT, SERVER), side(SERVER, CLIENT, **broken)
        )


def test_amplification_counts_what_arrived_until_the_address_is_valid():
    chain = {
        "quic_long_packet_type": ["2"],
        "quic_crypto_offset": ["7000"],
        "quic_crypto_length": ["1000"],
    }
    first = initial(CLIENT, SERVER, size=1200)
    valid = datagram(CLIENT, SERVER, quic_long_packet_type=["2"])
    checks.not_amplified(
        seen(first, datagram(SERVER, CLIENT, size=3600, **chain), valid, datagram(SERVER, CLIENT))
    )
    assert "3601 bytes after it got 1200" in fails(
        checks.not_amplified, first, datagram(SERVER, CLIENT, size=3601, **chain), valid
    )
    assert "too short" in fails(checks.not_amplified, first, valid)


# -- paths --------------------------------------------------------------------------------------

REBOUND = ("10.0.0.1", "50001")


def test_a_new_port_has_to_be_challenged_first_and_to_answer():
    challenge = datagram(SERVER, REBOUND, quic_path_challenge_data=["abcd"])
    answer = datagram(REBOUND, SERVER, quic_path_response_data=["abcd"])
    old = datagram(CLIENT, SERVER), datagram(SERVER, CLIENT)
    checks.port_changed(seen(*old, challenge, answer))
    assert "no challenge" in fails(
        checks.port_changed, *old, datagram(SERVER, REBOUND), challenge, answer
    )
    assert "not answered" in fails(checks.port_changed, *old, challenge)
    assert "one path only" in fails(checks.port_changed, *old)
    assert "address did not change" in fails(checks.address_changed, *old, challenge, answer)


def test_the_preferred_address_is_challenged_by_another_id():
    preferred = ("10.0.0.2", "4443")
    before = [
        datagram(CLIENT, SERVER, quic_dcid=["aa"]),
        datagram(SERVER, CLIENT),
    ]
    challenge = datagram(CLIENT, preferred, quic_dcid=["bb"], quic_path_challenge_data=["1234"])
    after = [datagram(preferred, CLIENT, quic_path_response_data=["1234"])]
    checks.server_address_was_left(seen(*before, challenge, *after))
    assert "stayed" in fails(checks.server_address_was_left, *before)
    assert "no challenge" in fails(
        checks.server_address_was_left, *before, datagram(CLIENT, preferred), *after
    )
    assert "did not answer" in fails(checks.server_address_was_left, *before, challenge)
    linked = datagram(CLIENT, preferred, quic_dcid=["aa"], quic_path_challenge_data=["1234"])
    assert "path before" in fails(checks.server_address_was_left, *before, linked, *after)
    many = [datagram(SERVER, CLIENT)] * 5
    assert "less than half" in fails(
        checks.server_address_was_left, *before, *many, challenge, *after
    )


def test_a_stray_packet_behind_the_challenge_may_have_the_id_of_the_path_before():
    preferred = ("10.0.0.2", "4443")
    old = datagram(CLIENT, SERVER, quic_dcid=["aa"])
    challenge = datagram(CLIENT, preferred, quic_dcid=["bb"], quic_path_challenge_data=["1234"])
    stray = datagram(CLIENT, preferred, quic_dcid=["aa"])
    answer = datagram(preferred, CLIENT, quic_path_response_data=["1234"])
    checks.server_address_was_left(seen(old, challenge, stray, answer))
    later = datagram(CLIENT, SERVER, quic_dcid=["bb"])
    assert "path before" in fails(
        checks.server_address_was_left, old, challenge, later, stray, answer
    )


# -- what tshark cannot read ---------------------------------------------------------------------


def unread(source, destination):
    return datagram(source, destination, quic_header_form=["0"])


def phases(client_phase):
    return (
        datagram(
            CLIENT,
            SERVER,
            quic_header_form=["0"],
            quic_packet_number=["1"],
            quic_key_phase=[client_phase],
        ),
        datagram(
            SERVER, CLIENT, quic_header_form=["0"], quic_packet_number=["1"], quic_key_phase=["1"]
        ),
    )


@pytest.fixture
def tshark(monkeypatch):
    """Pretends that this version of tshark is here."""
    return lambda version: monkeypatch.setattr(checks, "version_of", lambda name: version)


def test_nothing_is_claimed_of_packets_that_an_old_tshark_could_not_read(tshark):
    tshark("4.0.17")
    with pytest.raises(NotCheckable, match=r"tshark 4\.0\.17 .* 1 packets; 4\.4 can"):
        checks.keys_were_updated(seen(*phases("0"), unread(CLIENT, SERVER)))


def test_what_could_be_read_is_judged_with_any_tshark(tshark):
    tshark("4.0.17")
    checks.keys_were_updated(seen(*phases("1"), unread(CLIENT, SERVER)))
    fails(checks.keys_were_updated, *phases("0"))


def test_a_newer_tshark_leaves_no_excuse(tshark):
    tshark("4.4.7")
    fails(checks.keys_were_updated, *phases("0"), unread(CLIENT, SERVER))


@pytest.mark.parametrize(
    ("version", "follows"),
    [
        ("4.0.17", False),
        ("4.2", False),
        ("4.4.0", True),
        ("4.10", True),
        ("5.0", True),
        ("", False),
    ],
)
def test_paths_are_followed_from_release_4_4_on(version, follows):
    assert follows_paths(version) is follows


# -- tshark's rows ------------------------------------------------------------------------------


def test_a_row_of_tshark_is_read():
    cells = {
        "frame.time_epoch": "12.5",
        "ipv6.src": "fd00::1",
        "ipv6.dst": "fd00::2",
        "udp.srcport": "4443",
        "udp.dstport": "50000",
        "udp.length": "108",
        "ipv6.tclass.ecn": "2",
        "quic.long.packet_type_v2": "1;3",
        "quic.version": "0x6b3343cf;0x6b3343cf",
    }
    d = trace._row("\t".join(cells.get(name, "") for name in trace._FIELDS))
    assert (d.time, d.size, d.ecn) == (12.5, 100, 2)
    assert d.from_server
    assert d.server == ("fd00::1", 4443)
    assert d.client == ("fd00::2", 50_000)
    assert d.types == [trace.INITIAL, trace.HANDSHAKE]
    assert d.versions == {trace.V2}
    assert not d.is_ipv4


# -- cases --------------------------------------------------------------------------------------


def test_every_case_of_the_runner_is_there_once():
    letters = ["H", "V", "DC", "LR", "C20", "M", "S", "R", "Z", "3", "B", "U", "E", "A"]
    letters += ["L1", "L2", "C1", "C2", "6", "V2", "BP", "BA", "CM", "G", "C"]
    assert [case.letter for case in CASES] == letters


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_check_says_what_it_shows(case):
    for check in case.all_checks:
        assert getattr(check, "func", check).__doc__
