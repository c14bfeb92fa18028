"""The command that shows what moved a model: explain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from lsemvae.commands.errors import ends_well
from lsemvae.terminal.console import say, say_json, say_progress
from lsemvae.terminal.options import Json


@ends_well
def explain(
    run: Annotated[
        Path, typer.Argument(help="Run folder of a student or of a fine-tuned LS-EMVAE.", show_default=False)
    ],
    data: Annotated[Path, typer.Option("--data", help="Record store made by `lsemvae convert`.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="Folder for pictures and numbers.", show_default=False)],
    label: Annotated[str, typer.Option("--label", help="Output to explain, one of the model's own labels.")] = "RHS",
    uid: Annotated[
        Optional[str],  # noqa: UP045 - evaluated at run time by the command line library
        typer.Option("--uid", help="Explain this recording of the store."),
    ] = None,
    summary: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(
            "--summary", min=5, help="Summarise and check up to this many recordings with and without the label."
        ),
    ] = None,
    limb: Annotated[bool, typer.Option("--limb", help="Show an LS-EMVAE the limb leads only.")] = False,
    steps: Annotated[int, typer.Option("--steps", min=8, help="Points on the path from a flat line.")] = 128,
    seed: Annotated[int, typer.Option("--seed", help="Seed of what is drawn for a summary and its checks.")] = 0,
    as_json: Json = False,
) -> None:
    """Show on the ECG what moved a model's output, per measured lead and wave; it shows the model, not the heart."""
    if (uid is None) == (summary is None):
        raise typer.BadParameter("give --uid for one recording, or --summary for many, and not both")
    from lsemvae.data.store import open_store
    from lsemvae.explain.attribution import open_run
    from lsemvae.explain.report import write_record
    from lsemvae.explain.sets import write_set

    explained, store = open_run(run), open_store(data)
    if uid is not None:
        found = write_record(out, store, uid, explained=explained, label=label, limb_only=limb, n_steps=steps)
    else:
        assert summary is not None  # one of the two is there

        def progress(done: int, total: int) -> None:
            if done % 20 == 0 or done == total:
                say_progress(f"{done}/{total} recordings")

        found = write_set(
            out,
            store,
            run,
            explained=explained,
            label=label,
            n=summary,
            limb_only=limb,
            n_steps=steps,
            seed=seed,
            progress=progress,
        )
    if as_json:
        say_json(found)
        return
    say(found["label_statement"])
    say(found["map_statement"])
    if uid is not None:
        say(f"{found['uid']}: logit {found['logit']:+.2f}, of a flat line {found['baseline_logit']:+.2f}")
        for channel, waves in found["sums"]["share"].items():
            say(f"  {channel}: " + ", ".join(f"{wave} {100 * share:.0f} %" for wave, share in waves.items()))
        say(f"picture, numbers and map: {out}")
        return
    for name, group in found["groups"].items():
        shares = ", ".join(
            f"{wave} {100 * e[0]:.0f} % ({100 * e[1]:.0f}-{100 * e[2]:.0f})" for wave, e in group["by_wave"].items()
        )
        say(f"  {name}, {group['records']} recordings: {shares}")
    for check in found["sanity"]["randomised_weights"]:
        if check["passes"] is not None:
            alike = check["rank_correlation_given_voltage"][0]
            say(f"  map against random weights, voltage held fixed: {alike:.2f}, {_word(check)}")
    for check in found["sanity"]["deletion"]:
        values = [check[name][0] for name in ("attributed", "elsewhere", "largest")]
        moved = "{:.2f} where attributed, {:.2f} elsewhere, {:.2f} at the largest voltage".format(*values)
        say(f"  a tenth of the time replaced by {check['filled_with']}: logit moves {moved}, {_word(check)}")
    say(f"picture and numbers: {out}")


def _word(check: dict[str, Any]) -> str:
    return "passes" if check["passes"] else "FAILS: do not rely on these maps"
