"""Imports the libraries that trainings use, and leaves them out of garbage collection.

A training collects twice, through the millions of objects of these libraries: most of a second each time.
"""

from __future__ import annotations

import gc
from importlib import import_module

for _name in (
    "bitsandbytes",
    "lm_eval.evaluator",
    "lm_eval.models.huggingface",
    "matplotlib.pyplot",
    "mlflow.pyfunc",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.system_metrics.system_metrics_monitor",
    "openpyxl",
    "optuna.storages._rdb.storage",
    "peft",
    "plotly.graph_objects",
    "rouge_score.rouge_scorer",
    "statsmodels.regression.linear_model",
    "statsmodels.stats.contingency_tables",
    "transformers.models.llama.modeling_llama",
    "trl.trainer.sft_trainer",
):
    import_module(_name)
gc.collect()
gc.freeze()
