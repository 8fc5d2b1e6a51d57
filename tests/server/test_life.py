"""Life of the server."""

import socket

from npt_viz.server.life import answer_at_once


def test_connections_of_a_listening_socket_send_at_once():
    # As Streamlit binds it: without a protocol, which is why asyncio leaves its connections alone.
    with socket.socket(socket.AF_INET) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        assert _sends_at_once(listening) is False
        answer_at_once()
        assert _sends_at_once(listening) is True


def test_what_is_no_listening_socket_is_left_alone(tmp_path):
    with (tmp_path / "file").open("w") as file, socket.socket(socket.AF_INET) as other:
        answer_at_once()
        assert not other.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        file.write("still open")


def _sends_at_once(listening: socket.socket) -> bool:
    with socket.create_connection(listening.getsockname()):
        connection, _ = listening.accept()
        with connection:
            return bool(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
