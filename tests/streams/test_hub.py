"""`hf:NAME` where there is no network: one line at once, and whatever is kept here can still be used."""

import socket
import time

import pytest

from cillab.core.errors import HubError
from cillab.streams import hub
from cillab.streams.opening import open_source


def test_without_a_network_it_is_one_line_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets import config
    from huggingface_hub import constants

    monkeypatch.setattr(hub, "getproxies", dict)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # discard: nobody listens
    for module in (config, constants):
        monkeypatch.setattr(module, "HF_HUB_OFFLINE", False)
    began = time.monotonic()
    with pytest.raises(HubError, match=r"no connection to http://127\.0\.0\.1:9\)\. Without a hub") as refused:
        open_source("hf:nobody/nothing")
    assert time.monotonic() - began < 10 and "\n" not in str(refused.value)  # it was 24 s on a quiet machine
    assert not constants.HF_HUB_OFFLINE and not config.HF_HUB_OFFLINE


def slow(*_: object, **__: object) -> None:
    time.sleep(3)
    raise OSError


def test_who_is_reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "getproxies", dict)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert hub.is_reachable(f"http://127.0.0.1:{server.getsockname()[1]}")
    assert not hub.is_reachable("http://127.0.0.1:9")
    monkeypatch.setattr(socket, "create_connection", slow)

    began = time.monotonic()
    assert not hub.is_reachable("https://huggingface.co", patience_s=0.1) and time.monotonic() - began < 3
    monkeypatch.setattr(hub, "getproxies", lambda: {"https": "proxy"})
    assert hub.is_reachable("https://huggingface.co")
