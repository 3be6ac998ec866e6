"""Which tests the quick run leaves out, and what a run says of itself."""

import gc
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import hypothesis  # noqa: F401  # see below
import pytest

# The pytest plugin of hypothesis imports it at the end of a run at the latest, and it is compiled
# for its assertions, at which Python 3.11.7 may then fail with a SystemError (recursion depth).

SLOW = (
    "tests/certs/test_selfsigned.py::test_processes_that_start_at_once_agree_on_one_leaf",
    "tests/contract/websocket/test_flow.py::test_an_idle_websocket_is_no_slow_request",
    "tests/contract/websocket/test_messages.py::test_many_messages_in_flight_come_back_in_order",
    "tests/contract/websocket/test_mistakes.py::test_a_mistake_in_messages_ends_the_websocket",
    "tests/contract/websocket/test_mistakes.py::"
    "test_whatever_leaves_an_application_is_logged_once_and_ends_its_websocket",
    "tests/e2e/test_browser_websocket.py",
    "tests/e2e/test_chromium.py",
    "tests/e2e/test_firefox.py",
    "tests/e2e/test_heavy_pages.py",
    "tests/e2e/test_large_bodies.py",
    "tests/e2e/test_stop.py::test_a_successor_serves_the_port_while_running_requests_are_finished",
    "tests/faults/test_deaths.py::test_nothing_is_left_of_a_client_that_is_killed",
    "tests/faults/test_network.py::test_forty_transfers_at_a_time_arrive_unchanged",
    "tests/fuzz/test_log_fuzz.py",
    "tests/fuzz/test_repeated_fields.py::"
    "test_what_a_websocket_depends_on_comes_once_and_right_or_is_refused",
    "tests/h1/test_protocol.py::test_reading_pauses_above_the_bound_for_pipelined_requests",
    "tests/hostile/test_costs.py::test_four_times_as_much_costs_no_more_per_byte",
    "tests/hostile/test_h3_rows.py::"
    "test_a_client_that_gives_no_credit_is_given_up_and_its_memory_freed",
    "tests/hostile/test_memory.py::"
    "test_a_server_whose_application_has_taken_all_memory_goes_on_serving",
    "tests/hostile/test_overload.py::"
    "test_a_handshake_that_does_not_come_counts_as_a_connection_until_it_is_given_up",
    "tests/hostile/test_retained.py::"
    "test_what_clients_wrote_is_not_kept_in_caches_when_they_have_gone",
    "tests/interop/test_endpoint.py::test_files_come_identical",
    "tests/interop/test_lab.py",
    "tests/oracle/test_real_clients.py",
    "tests/quic/transport/test_handshake_receive.py::test_connection_ids_are_kept_as_by_aioquic",
    "tests/quic/transport/test_handshake_receive.py::test_whatever_a_network_does",
    "tests/quic/transport/test_handshake_receive.py::test_whatever_byte_of_a_first_datagram_is_wrong",
    "tests/quic/transport/test_handshake_receive.py::test_whatever_follows_the_end_of_the_handshake",
    "tests/quic/transport/test_handshake_receive.py::test_whatever_is_in_a_packet_after_it",
    "tests/quic/transport/test_handshake_receive.py::test_whatever_is_in_a_packet_of_the_handshake",
    "tests/quic/transport/test_handshake_receive.py::test_whatever_is_in_early_data",
    "tests/quic/transport/test_handshake_receive.py::test_whatever_is_wrong_with_a_header",
    "tests/quic/transport/test_handshake_send.py::test_a_handshake_and_requests",
    "tests/quic/transport/test_migration.py::test_a_download_survives_other_addresses_and_losses",
    "tests/quic/http3/test_protocol.py::"
    "test_draining_does_not_wait_for_a_client_that_went_without_acknowledging",
    "tests/quic/http3/test_protocol.py::"
    "test_a_client_that_vanishes_is_given_up_when_it_has_been_idle_for_too_long",
    "tests/quic/transport/test_unacknowledged.py::"
    "test_20000_packets_of_a_client_that_acknowledges_nothing_keep_little_or_end_it",
    "tests/quic/transport/test_fast_receive.py::test_any_traffic_has_the_same_effects",
    "tests/quic/transport/test_fast_receive.py::test_every_frame_has_the_same_effect_alone_and_among_others",
    "tests/quic/transport/test_fast_receive.py::test_frames_in_any_order_have_the_same_effect",
    "tests/sanic/test_lifecycle.py::test_app_stop_stops_the_server",
    "tests/sanic/test_lifecycle.py::test_both_versions_prepared_in_one_program_share_a_port_and_tell_of_it",
    "tests/sanic/test_lifecycle.py::test_every_listener_runs_once_and_in_order",
    "tests/sanic/test_lifecycle.py::test_worker_processes_of_sanic_serve_with_tercel",
    "tests/sanic/test_shop.py::test_handler_that_takes_longer_than_response_timeout_is_503",
    "tests/shared/apps/test_loader.py::test_real_frameworks_are_recognised",
    "tests/shared/websocket/test_conversation.py",
    "tests/shared/test_watchdog.py::test_a_loop_that_is_idle_or_busy_is_not_told_of",
    "tests/soak",
    "tests/test_cli.py::test_a_mistake_in_the_file_is_told",
    "tests/test_cli.py::test_a_server_does_without_its_standard_streams",
    "tests/test_cli.py::test_the_banner_says_once_how_clients_trust_it_and_certs_says_it_always",
    "tests/test_install.py::"
    "test_a_program_may_run_the_loop_and_stop_the_server_when_it_was_interrupted",
    "tests/test_install.py::test_a_sanic_that_is_not_known_is_one_clear_error_and_nothing_is_replaced",
    "tests/test_logging_setups.py::"
    "test_logging_that_a_program_sets_up_shows_errors_before_and_after_the_import",
)
"""Directories, files and tests that are no part of the quick run (`-m "not slow"`, `make test`).

Each of them took seconds: for the number of cases that it looks at, or for a browser, a network or
a time that passes. What is left looks at every layer.
"""

_SLOW_NAMES = frozenset(SLOW)
_SLOW_PATHS = tuple(f"{entry}/" for entry in SLOW if "." not in entry)

_seconds: dict[str, float] = defaultdict(float)
_tests: dict[str, int] = defaultdict(int)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow."""
    for item in items:
        file, test = item.nodeid.split("::", 1)
        names = (file, f"{file}::{test.partition('[')[0]}")
        if not _SLOW_NAMES.isdisjoint(names) or file.startswith(_SLOW_PATHS):
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """Leave what was collected out of every later garbage collection."""
    # Tests and servers collect often; over ten thousand tests that took most of a second each time.
    gc.collect()
    gc.freeze()


def pytest_report_header(config: pytest.Config) -> str | None:
    """How long a run of everything takes, or of all that is quick."""
    if config.args != config.getini("testpaths"):
        return None
    if config.option.markexpr == "not slow":
        return "the quick tests: about four minutes on two cores; `make test-all` runs all"
    return "all tests: about twelve minutes on two cores; `make test` runs the quick ones"


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count a test and its time for its part of the suite."""
    part = "/".join(Path(report.location[0]).parts[:2])
    _seconds[part] += report.duration
    _tests[part] += report.when == "call"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A line for each part of the suite."""
    if _seconds:
        terminalreporter.section("time")
    for line in _times():
        terminalreporter.write_line(line)


def _times() -> Iterator[str]:
    for part in sorted(_seconds, key=lambda part: -_seconds[part]):
        yield f"{_seconds[part]:6.1f} s {_tests[part]:6} tests {part}"
