"""Who may reach the chat page, and what it needs."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from tunery.errors import InputError
from tunery.runs.observer import Observer
from tunery.serving.chat.server import Address, _auth, chat, check_address, check_free, check_gradio


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1"])
def test_this_machine_alone_needs_no_password(host: str) -> None:
    check_address(Address(host))


@pytest.mark.parametrize(
    "address", [Address("0.0.0.0"), Address("::"), Address("192.168.1.5"), Address("lab.example"), Address(share=True)]
)
def test_an_address_that_others_reach_needs_a_password(address: Address) -> None:
    with pytest.raises(InputError, match=r"so it needs a password.*TUNERY_CHAT_PASSWORD"):
        check_address(address)
    check_address(Address(address.host, share=address.share, password="correct horse"))


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_an_address_of_this_machine_is_free(host: str) -> None:
    check_free(Address(host))


def test_an_address_that_this_machine_has_not_is_told() -> None:
    with pytest.raises(
        InputError, match=r"192\.0\.2\.1:7860 cannot be used .*--host must be an address of this machine"
    ):
        check_free(Address("192.0.2.1"))  # kept for documentation: RFC 5737
    with pytest.raises(InputError, match="cannot be used"):
        check_free(Address("x" * 80))


def test_a_port_that_is_taken_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"127.0.0.1:{port} cannot be used"):
            check_free(Address(port=port))


def test_a_password_is_no_option() -> None:
    from tunery.cli.chat import chat as command

    assert "--password" not in {word for param in command.params for word in param.opts}


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_short_password_is_refused_and_not_repeated(host: str) -> None:
    with pytest.raises(InputError, match="at least 8 characters") as refused:
        check_address(Address(host, password="hunter2"))
    assert "hunter2" not in str(refused.value)


def test_only_the_password_opens_the_page() -> None:
    opens = _auth("correct horse")
    assert opens is not None
    assert opens("anyone", "correct horse")
    assert not opens("anyone", "wrong horse")
    assert not opens("anyone", "")
    assert _auth(None) is None


def test_a_password_does_not_show_in_what_is_printed() -> None:
    assert "correct horse" not in repr(Address(password="correct horse"))


def test_without_gradio_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(InputError, match=r"gradio is not installed\. pip install"):
        check_gradio()


def test_nothing_is_loaded_for_an_address_that_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="password"):
        chat("models:/none@champion", Address("0.0.0.0"), Observer())
    assert list(tmp_path.iterdir()) == []
    assert "tunery.serving.chat.page" not in sys.modules
