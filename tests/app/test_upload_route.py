"""The server's own limit on what is sent to it: asked over HTTP, with no browser that could refuse first."""

import http.client
import uuid
from contextlib import closing
from urllib.parse import urlsplit

import pytest

pytest.importorskip("streamlit")
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect

from tests.app.serving import serve

pytestmark = [pytest.mark.app, pytest.mark.slow, pytest.mark.filterwarnings("default")]
_BOUNDARY = "x" * 30


def on_the_wire(url: str):
    """A session without a browser."""
    return connect(url.replace("http", "ws", 1) + "/_stcore/stream", origin=url, max_size=None)  # pyright: ignore


def page_has_run(socket) -> str:
    """Let a page run once on the wire; returns the id of the session."""
    opening = BackMsg()
    opening.rerun_script.page_name = "glossary"
    socket.send(opening.SerializeToString())
    number = ""
    while True:
        said = ForwardMsg()
        said.ParseFromString(socket.recv(timeout=120))
        if said.WhichOneof("type") == "new_session":
            number = said.new_session.initialize.session_id
        if said.WhichOneof("type") == "script_finished":
            return number


def put(url: str, number: str, claimed: int, content: bytes = b"") -> int:
    """The status of the answer to an upload of `content` that claims `claimed` bytes (chunked, where that is 0)."""
    body = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="f"; filename="a.png"\r\n\r\n'.encode()
        + content
        + f"\r\n--{_BOUNDARY}--\r\n".encode()
    )
    headers = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
    with closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)) as line:
        line.putrequest("PUT", f"/_stcore/upload_file/{number}/{uuid.uuid4()}")
        for name, value in headers.items():
            line.putheader(name, value)
        if claimed:
            line.putheader("Content-Length", str(claimed))
            line.endheaders()
        else:
            line.putheader("Transfer-Encoding", "chunked")
            line.endheaders()
            try:
                for at in range(0, len(body), 65536):
                    piece = body[at : at + 65536]
                    line.send(b"%x\r\n" % len(piece) + piece + b"\r\n")
                line.send(b"0\r\n\r\n")
            except (BrokenPipeError, ConnectionResetError):
                return 413  # it hung up on the way
        return line.getresponse().status


@pytest.mark.parametrize("read_only", [False, True])
def test_the_server_refuses_what_is_too_large_and_everything_where_it_only_shows(read_only, tmp_path) -> None:
    environment = {
        "CILLAB_RUNS": str(tmp_path),
        "CILLAB_READONLY": str(int(read_only)),
        "STREAMLIT_SERVER_ENABLE_XSRF_PROTECTION": "false",
    }
    with serve(environment) as url, on_the_wire(url) as socket:
        number = page_has_run(socket)
        assert put(url, number, 201 * 2**20) == 413  # by what it claims, before a byte is read
        small = put(url, number, 0, b"\0" * 3 * 2**20)  # claims nothing
        assert small == (413 if read_only else 204)
