"""`tunery chat`: a page on which the base and the tuned model answer side by side."""

from __future__ import annotations

import hmac
import importlib.util
import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tunery.errors import Fault, InputError
from tunery.training.stop import SignalHandler

if TYPE_CHECKING:
    from tunery.runs.observer import Observer

PASSWORD_VARIABLE = "TUNERY_CHAT_PASSWORD"
_SHORTEST_PASSWORD = 8
_WHERE = "tunery chat"


@dataclass(frozen=True)
class Address:
    """Where the page listens."""

    host: str = "127.0.0.1"
    port: int | None = None  # None takes the first free one from 7860
    share: bool = False  # also through a tunnel of gradio.live, for 72 hours
    password: str | None = field(default=None, repr=False)  # visitors enter it with any user name; None asks for none

    @property
    def open_to_others(self) -> bool:
        """Whether other machines can reach the page."""
        if self.host == "localhost":
            return self.share
        try:
            return self.share or not ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:  # a name
            return True


def check_address(address: Address) -> None:
    """Require a password for a page that others can reach.

    Raises:
        InputError: If it has no password, or a short one.
    """
    advice = f"Set {PASSWORD_VARIABLE}, or omit --share and --host."
    if address.open_to_others and not address.password:
        where = "--share" if address.share else f"--host {address.host}"
        raise InputError(_WHERE, f"{where} lets others reach the page, so it needs a password. {advice}")
    if address.password and len(address.password) < _SHORTEST_PASSWORD:
        raise InputError(_WHERE, f"the password must have at least {_SHORTEST_PASSWORD} characters.")


def check_free(address: Address) -> None:
    """Check that this machine can listen there, before a model is loaded.

    Raises:
        InputError: If the host is not an address of this machine, or the port is taken.
    """
    try:
        family, kind, _, _, place = socket.getaddrinfo(
            address.host.strip("[]"), address.port or 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the page will
            probe.bind(place)
    except (OSError, UnicodeError) as error:  # UnicodeError: the host name is too long
        raise _unusable(address, error) from error


def check_gradio() -> None:
    """Check that Gradio, an optional dependency, is installed.

    Raises:
        InputError: If it is not.
    """
    if importlib.util.find_spec("gradio") is None:
        advice = "pip install 'tunery[chat]', or pip install -e '.[chat]' in a clone."
        raise InputError(_WHERE, Fault("gradio is not installed", advice=advice))


def chat(
    ref: str, address: Address, observer: Observer, *, device: str = "auto", tracking_uri: str | None = None
) -> None:
    """Serve the page until Ctrl-C or SIGTERM.

    Args:
        ref: models:/name@alias, models:/name/3, models:/<id> or runs:/<id>.

    Raises:
        InputError: If the reference does not resolve, Gradio is missing, the address cannot be used, or the page
            needs a password.
    """
    check_address(address)
    check_free(address)
    check_gradio()
    from tunery.serving.chat.pair import load_pair
    from tunery.tracking.links import where_kept
    from tunery.tracking.store import connect
    from tunery.tracking.votes import VoteLog

    store = connect(tracking_uri, "chat")
    observer.step(f"loading {ref}")
    pair = load_pair(ref, store, device)
    votes = VoteLog(store, pair.ref, pair.project)
    from tunery.serving.chat.page import Page

    stopped = threading.Event()
    stopping = SignalHandler(lambda _: stopped.set(), ["SIGINT", "SIGTERM"])
    with stopping, _served(Page(pair, votes), address) as place:
        observer.step(f"{pair.name} and its base {pair.identity.model}: {place}  (Ctrl-C to stop)")
        stopped.wait()
    if votes.run_id is not None:
        observer.step(f"votes are logged to run {votes.run_id}")
        observer.step(where_kept(store, votes.experiment_id, votes.run_id))


@contextmanager
def _served(page: Any, address: Address) -> Iterator[str]:
    import gradio as gr

    from tunery.serving.chat.page import STYLE

    try:
        _, local, shared = page.blocks.queue().launch(
            server_name=address.host, server_port=address.port, share=address.share, auth=_auth(address.password),
            prevent_thread_lock=True, quiet=True, show_error=True, footer_links=[], ssr_mode=False,
            theme=gr.themes.Soft(primary_hue="indigo", font=["system-ui", "sans-serif"]), css=STYLE,
        )  # fmt: skip
    except OSError as error:  # every port is taken
        raise _unusable(address, error) from error
    try:
        yield shared or local
    finally:
        page.blocks.close(verbose=False)


def _unusable(address: Address, error: Exception) -> InputError:
    advice = "--host must be an address of this machine, and --port a free port."
    return InputError(_WHERE, f"{address.host}:{address.port or 7860} cannot be used ({error}). {advice}")


def _auth(password: str | None) -> Callable[[str, str], bool] | None:
    if not password:
        return None
    return lambda _user, given: hmac.compare_digest(given.encode(), password.encode())
