"""`tunery chat`."""

from __future__ import annotations

import os

import click

from tunery.cli.options import device_option, tracking_option


@click.command()
@click.argument("ref")
@click.option("--host", default="127.0.0.1", help="Address to listen on; any but a loopback address needs a password.")
@click.option("--port", type=click.IntRange(1, 65535), metavar="PORT", help="Default: the first free one from 7860 up.")
@click.option("--share", is_flag=True, help="Share through a gradio.live tunnel; needs a password.")
@device_option
@tracking_option
def chat(ref: str, host: str, port: int | None, share: bool, device: str, tracking_uri: str | None) -> None:
    """Chat with a trained model and its base side by side.

    Votes for the better answer are kept in MLflow.

    REF is models:/name@alias, models:/name/3, models:/<id> or runs:/<id>. Needs: pip install 'tunery[chat]'. The
    password is read only from TUNERY_CHAT_PASSWORD: other users can see command-line options, and MLflow stores those
    of `mlflow run`.
    """
    from tunery.cli.terminal import Terminal
    from tunery.serving.chat.server import PASSWORD_VARIABLE, Address, chat

    password = os.environ.get(PASSWORD_VARIABLE)
    with Terminal() as terminal:
        chat(ref, Address(host, port, share, password), terminal, device=device, tracking_uri=tracking_uri)
