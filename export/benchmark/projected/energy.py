"""Energy of an inference on a Raspberry Pi 4, set against what the board and its display draw anyway.

An estimate, not a measurement: projected latency times published wall power of another model (MLPerf Inference v1.0
power, ResNet-50 on four cores, power supply included). All figures are PROJECTED.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from export.benchmark.basis import Basis, Figure, show
from export.benchmark.errors import BenchmarkError, OutsideCalibrationError
from export.benchmark.projected.data import percent, published
from export.benchmark.projected.threads import Span

if TYPE_CHECKING:
    from export.benchmark.projected.project import Projection

POWER_ERROR: Final = 0.30
"""Another model, another power supply, one board: stated, not derived; the source gives no spread between boards."""
RECORDING_S: Final = 10.0
SCREENING_EVERY_MIN: Final = 10.0
SUPPLY_V: Final = 5.0
"""The current of the display was published, not its power; the board and the display run at 5 V."""
TYPICAL_BRIGHTNESS: Final = "100"
"""Of 255. An assumption: readable indoors; the range runs from the dimmest to the brightest published setting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """What an inference adds to what the board draws.

    Attributes
    ----------
    figures
        Energy of one inference, of board and display while one recording is made, and mean powers.
    """

    figures: tuple[Figure, ...]
    notes: tuple[str, ...]

    def evidence(self) -> dict[str, Any]:
        """Return where power and current come from, for JSON."""
        sources = published().sources_of(("pi4_wall_power", "display_current"))
        return {
            "basis": Basis.PROJECTED.value,
            "power_w": {row["state"]: row["power_w"] for row in published()["pi4_wall_power"].rows},
            "power_error": POWER_ERROR,
            "sources": {name: source.to_dict() for name, source in sources.items()},
        }


def wall_power_w(state: str) -> float:
    """Return the published wall power of a Raspberry Pi 4 in W: `load_mean` or `idle_before_run`."""
    return float(published()["pi4_wall_power"].one(state=state)["power_w"])


def display_power_w() -> Span:
    """Return the power of the official 7-inch touch display in W: published current less that of the board, at 5 V."""
    rows = published()["display_current"].rows
    board_ma = published()["display_current"].one(brightness="board alone")["total_ma"]
    watts = {
        row["brightness"]: (row["total_ma"] - board_ma) / 1e3 * SUPPLY_V for row in rows if row["total_ma"] != board_ma
    }
    return Span(value=watts[TYPICAL_BRIGHTNESS], low=min(watts.values()), high=max(watts.values()))


def estimate_energy(
    projection: Projection,
    *,
    screening_every_min: float = SCREENING_EVERY_MIN,
    recording_s: float = RECORDING_S,
    display_w: float | None = None,
) -> Energy:
    """Return the energy of one inference with four threads, with idle and display beside it.

    Parameters
    ----------
    screening_every_min
        Minutes between two screenings, each with one inference.
    display_w
        Power of the display in W, where it is known; 0 for a board without one. None takes the published display.

    Raises
    ------
    OutsideCalibrationError
        The board is no Raspberry Pi 4: no wall power of it is at hand.
    BenchmarkError
        A duration or a power makes no sense.
    """
    if projection.device.name != "pi4":
        raise OutsideCalibrationError(
            f"no energy: found the board {projection.device.name!r}, expected 'pi4', the only one with published wall power",
            advice="Measure at the wall or with a USB power meter.",
        )
    _check(screening_every_min=screening_every_min, recording_s=recording_s)
    if display_w is not None and not 0 <= display_w < float("inf"):
        raise BenchmarkError(f"found a display of {display_w} W, expected 0 or more")
    display = display_power_w() if display_w is None else Span(value=display_w, low=display_w, high=display_w)
    net = _inference_mj(projection, watts=wall_power_w("load_mean") - wall_power_w("idle_before_run"))
    figures = (
        *_inference_figures(projection, net),
        *_recording_figures(recording_s, display),
        *_mean_figures(net, display, screening_every_min),
    )
    return Energy(figures=figures, notes=_notes(figures, recording_s, screening_every_min, assumed=display_w is None))


def _check(**durations: float) -> None:
    for name, value in durations.items():
        if not 0 < value < float("inf"):
            raise BenchmarkError(f"{name}: found {value}, expected more than 0")


def _inference_mj(projection: Projection, *, watts: float) -> Span:
    """Return the energy in mJ (ms times W): the range is that of the latency, widened by the error of the power."""
    latency = projection.figure("latency_4t_p50")
    low, high = (latency.value if end is None else end for end in (latency.low, latency.high))
    return Span(value=latency.value, low=low, high=high).scaled(watts).widened(POWER_ERROR)


def _inference_figures(projection: Projection, net: Span) -> tuple[Figure, ...]:
    gross = _inference_mj(projection, watts=wall_power_w("load_mean"))
    return (
        _figure("energy_gross_per_inference", gross, "mJ", "all that the board draws at the wall while it computes"),
        _figure("energy_net_per_inference", net, "mJ", "what computing adds to the idle board"),
    )


def _recording_figures(recording_s: float, display: Span) -> tuple[Figure, ...]:
    seconds = show(recording_s)
    idle = _around(wall_power_w("idle_before_run") * recording_s)
    return (
        _figure(
            "energy_idle_per_recording", idle, "J", f"the idle board for the {seconds} s of a recording"
        ),
        _figure("energy_display_per_recording", display.scaled(recording_s), "J", f"the display for the same {seconds} s"),
    )  # fmt: skip


def _mean_figures(net: Span, display: Span, every_min: float) -> tuple[Figure, ...]:
    per_second = 1 / (60 * every_min)
    return (
        _figure(
            "mean_power_of_inference", net.scaled(per_second), "mW",
            f"added by one screening every {show(every_min)} minutes",
        ),
        _figure("power_idle", _around(wall_power_w("idle_before_run")), "W", "the board, at the wall"),
        _figure("power_display", display, "W", "official 7-inch touch display, or as given"),
    )  # fmt: skip


def _around(value: float) -> Span:
    return Span(value=value, low=value, high=value).widened(POWER_ERROR)


def _figure(name: str, span: Span, unit: str, note: str) -> Figure:
    return Figure(
        name=name, value=span.value, unit=unit, basis=Basis.PROJECTED, low=span.low, high=span.high, note=note
    )


def _notes(figures: tuple[Figure, ...], recording_s: float, every_min: float, *, assumed: bool) -> tuple[str, ...]:
    by_name = {figure.name: figure for figure in figures}
    idle, display = by_name["energy_idle_per_recording"].value, by_name["energy_display_per_recording"].value
    gross = by_name["energy_gross_per_inference"].value
    times = round((idle + display) * 1e3 / gross, -2)
    notes = [
        f"Energy is projected latency (4 threads) times published wall power of another model, +-{percent(POWER_ERROR, digits=0)}; "
        "nothing was metered here.",
        f"Board and display use {show(idle + display)} J during a recording of {show(recording_s)} s, about {times:,.0f} times one "
        f"inference ({show(gross)} mJ): dim or switch off the display before making the model smaller.",
        f"One inference every {show(every_min)} minutes adds {show(by_name['mean_power_of_inference'].value)} mW to "
        f"{show(by_name['power_idle'].value)} W of the idle board.",
    ]
    if assumed:
        notes.append(
            "The display is an assumption: the official 7-inch one at brightness "
            f"{TYPICAL_BRIGHTNESS} of 255, by one published set of currents; its range runs over all settings."
        )
    return tuple(notes)
