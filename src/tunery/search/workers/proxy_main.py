"""Optuna's proxy in front of a study's file: python -m tunery.search.workers.proxy_main URL PORT."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import optuna

from tunery.search.study.storage import open_storage
from tunery.search.workers.follow_parent import follow_parent


def main(url: str, port: int) -> None:
    """Serve a storage on the loopback address until the parent ends."""
    follow_parent()
    # One call at a time: SQLite locks no row, and two threads that took a waiting trial at once both got it.
    one = ThreadPoolExecutor(max_workers=1)
    optuna.storages.run_grpc_proxy_server(open_storage(url), host="127.0.0.1", port=port, thread_pool=one)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
