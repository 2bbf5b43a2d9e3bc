"""Optuna's proxy in front of a study's file: python -m tunery.search.proxy_process URL PORT."""

from __future__ import annotations

import sys

import optuna

from tunery.search.lifeline import follow_parent
from tunery.search.storage import open_storage


def main(url: str, port: int) -> None:
    """Serve a storage on the loopback address until the parent ends."""
    follow_parent()
    optuna.storages.run_grpc_proxy_server(open_storage(url), host="127.0.0.1", port=port)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
