"""Every error has a code, every code a name."""

import pytest

from tercel.quic.http3.errors import (
    ErrorCode,
    H3ConnectionError,
    code_name,
    reset_code,
    stream_error_code,
)
from tercel.quic.http3.stream import refusal
from tercel.shared import errors
from tercel.shared.errors import RemoteProtocolError, ResetReason, Scope


def remote_errors() -> list[type[RemoteProtocolError]]:
    """Every error that a peer can cause on one stream."""
    found, queue = [], [RemoteProtocolError]
    while queue:
        kind = queue.pop()
        queue += kind.__subclasses__()
        if kind is not H3ConnectionError and kind.__module__ == errors.__name__:
            found.append(kind)
    return found


STREAM_CODES = {
    errors.RemoteProtocolError: ErrorCode.MESSAGE_ERROR,
    errors.MalformedMessage: ErrorCode.MESSAGE_ERROR,
    errors.IncompleteMessage: ErrorCode.REQUEST_INCOMPLETE,
    errors.UnsupportedTransferCoding: ErrorCode.MESSAGE_ERROR,
    errors.UnsupportedVersion: ErrorCode.MESSAGE_ERROR,
    errors.TargetTooLong: ErrorCode.MESSAGE_ERROR,
    errors.FieldsTooLarge: ErrorCode.EXCESSIVE_LOAD,
    errors.ContentTooLarge: ErrorCode.EXCESSIVE_LOAD,
    errors.ExpectationFailed: ErrorCode.MESSAGE_ERROR,
    errors.MethodNotAllowed: ErrorCode.MESSAGE_ERROR,
    errors.MisdirectedRequest: ErrorCode.MESSAGE_ERROR,
    errors.NotImplementedByServer: ErrorCode.MESSAGE_ERROR,
    errors.RequestTimeout: ErrorCode.REQUEST_INCOMPLETE,
    errors.TooEarly: ErrorCode.MESSAGE_ERROR,
    errors.TunnelRefused: ErrorCode.MESSAGE_ERROR,
}


@pytest.mark.parametrize("reason", ResetReason)
def test_every_reset_reason_has_a_code_of_the_same_name(reason):
    assert reset_code(reason).name == reason.name


@pytest.mark.parametrize("kind", remote_errors())
def test_every_remote_error_has_a_code_for_its_stream(kind):
    assert stream_error_code(kind("for a test")) is STREAM_CODES[kind]


def test_only_what_cannot_be_trusted_is_left_without_a_response():
    silent = {kind for kind in remote_errors() if not refusal(kind("for a test"))}
    assert silent == {
        errors.MalformedMessage,
        errors.IncompleteMessage,
        errors.UnsupportedTransferCoding,
        errors.UnsupportedVersion,
    }


def test_a_connection_error_says_its_code_and_reaches_the_connection():
    error = H3ConnectionError(ErrorCode.ID_ERROR, "goes back")
    assert error.code is ErrorCode.ID_ERROR
    assert error.scope is Scope.CONNECTION
    assert str(error) == "goes back"


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (0x100, "H3_NO_ERROR"),
        (0x10E, "H3_MESSAGE_ERROR"),
        (0x200, "QPACK_DECOMPRESSION_FAILED"),
        (0x1F, "0x1f"),
    ],
)
def test_codes_are_logged_by_the_names_of_the_rfcs(code, name):
    assert code_name(code) == name
