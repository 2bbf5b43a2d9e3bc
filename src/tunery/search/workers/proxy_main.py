"""Optuna's proxy in front of a study's file: python -m tunery.search.workers.proxy_main URL PORT."""

import sys
from concurrent.futures import ThreadPoolExecutor

import optuna

from tunery.search.study.storage import open_storage
from tunery.search.workers.process_main import follow_parent

if __name__ == "__main__":
    url, port = sys.argv[1:]
    follow_parent()
    # One call at a time: SQLite locks no row, and two threads that took a waiting trial at once both got it.
    one = ThreadPoolExecutor(max_workers=1)
    optuna.storages.run_grpc_proxy_server(open_storage(url), host="127.0.0.1", port=int(port), thread_pool=one)
