"""`tunery rollback`: make the previous champion the champion again."""

from __future__ import annotations

from tunery.config.load import project_name
from tunery.errors import Fault, RefError
from tunery.promotion.record import decision_tags, finish_interrupted, timestamp, user_name, version_name
from tunery.promotion.report import plain
from tunery.runs.observer import Observer


def rollback(
    project: str, observer: Observer, *, reason: str = "", tracking_uri: str | None = None, run_name: str | None = None
) -> int:
    """Swap the aliases champion and previous; a second rollback undoes the first.

    Args:
        project: Folder of a project, or a registered model's name.
        reason: Recorded with the rollback.
        run_name: Name of the run of kind promotion.

    Returns:
        The version that is now the champion.

    Raises:
        RefError: If there is no such model, no previous champion, or its files are gone; nothing was changed.
        Overtaken: If another promotion moved the aliases in the meantime.
    """
    from tunery.promotion.store import check_files, log_decision
    from tunery.tracking.aliases import Aliases, AliasMove, check_model, current_aliases, move_aliases
    from tunery.tracking.links import where_kept
    from tunery.tracking.run import open_run
    from tunery.tracking.store import connect, decisions_of

    name = project_name(project)
    store = connect(tracking_uri, decisions_of(name))
    check_model(store, name)
    finish_interrupted(name, store, observer)
    before = current_aliases(store, name)
    back = before.previous
    if back is None or back == before.champion:
        told = "no version has the alias `previous`"
        told = told if back is None else f"{version_name(name, back)} has both aliases, `champion` and `previous`"
        raise RefError(name, Fault("there is nothing to go back to", told))
    check_files(f"models:/{name}/{back}", store)
    with open_run(store, "promotion", name, run_name=run_name or f"rollback to {name}/{back}") as tracker:
        at = timestamp()
        summary = f"back to {name}/{back} from {version_name(name, before.champion)}"
        page = f"# {name}: {summary}\n\nBy {plain(user_name())}, {at}. {plain(reason)}".rstrip() + "\n"
        log_decision(
            tracker, decision_tags(name, back, before, "rolled back", reason or summary), {}, {"reason": reason}, page
        )
        move_aliases(store, name, AliasMove(before, Aliases(back, before.champion), tracker.run_id, at))
    observer.step(f"models:/{name}@champion is {name}/{back} again, {version_name(name, before.champion)} is previous")
    observer.step(where_kept(store, tracker.experiment_id, tracker.run_id))
    observer.step(f"next: tunery history {name}")
    return back
