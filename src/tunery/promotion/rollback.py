"""`tunery rollback`: the champion before."""

from __future__ import annotations

from tunery.config.load import project_name
from tunery.errors import Fault, RefError
from tunery.promotion.record import decision_tags, finish_interrupted, now, version_name, who
from tunery.promotion.report import plain
from tunery.runs.observer import Observer


def rollback(
    project: str, observer: Observer, *, reason: str = "", tracking_uri: str | None = None, run_name: str | None = None
) -> int:
    """Give the alias champion back to `previous`; the champion becomes `previous`, so that a second one undoes it.

    Args:
        project: Folder of a project, or a registered model's name.
        observer: Told what a person would want to see.
        reason: Why; recorded.
        tracking_uri: MLflow store.
        run_name: Name of the run.

    Returns:
        The version that is the champion now.

    Raises:
        RefError: If there is no such model, nothing to go back to, or its files are gone; nothing was changed.
        Overtaken: If somebody else moved the aliases meanwhile.
    """
    from tunery.promotion.store import check_files, log_decision
    from tunery.tracking.aliases import Aliases, AliasMove, check_model, current_aliases, move_aliases
    from tunery.tracking.run import open_run
    from tunery.tracking.store import connect

    name = project_name(project)
    store = connect(tracking_uri, name)
    check_model(store, name)
    finish_interrupted(name, store, observer)
    before = current_aliases(store, name)
    back = before.previous
    if back is None or back == before.champion:
        raise RefError(name, Fault("there is nothing to go back to", "no version has the alias `previous`"))
    check_files(f"models:/{name}/{back}", store)
    with open_run(store, "promotion", name, run_name=run_name or f"rollback to {name}/{back}") as tracker:
        at = now()
        said = f"back to {name}/{back} from {version_name(name, before.champion)}"
        page = f"# {name}: {said}\n\nBy {plain(who())}, {at}. {plain(reason)}".rstrip() + "\n"
        log_decision(
            tracker, decision_tags(name, back, before, "rolled back", reason or said), {}, {"reason": reason}, page
        )
        move_aliases(store, name, AliasMove(before, Aliases(back, before.champion), tracker.run_id, at))
    observer.step(f"models:/{name}@champion is {name}/{back} again, {version_name(name, before.champion)} is previous")
    return back
