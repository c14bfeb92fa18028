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
from export.benchmark.projected.ratios import Span

if TYPE_CHECKING:
    from export.benchmark.projected.project import Projection

# Another model, another power supply, one board: stated, not derived; the source gives no spread between boards.
POWER_ERROR: Final = 0.30
RECORDING_S: Final = 10.0
SCREENING_EVERY_MIN: Final = 10.0
# The current of the display was published, not its power; the board and the display run at 5 V.
SUPPLY_V: Final = 5.0
# Of 255. An assumption: readable indoors; the range runs from the dimmest to the brightest published setting.
TYPICAL_BRIGHTNESS: Final = "100"


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
    for name, duration in (("screening_every_min", screening_every_min), ("recording_s", recording_s)):
        if not 0 < duration < float("inf"):
            raise BenchmarkError(f"{name}: found {duration}, expected more than 0")
    if display_w is not None and not 0 <= display_w < float("inf"):
        raise BenchmarkError(f"found a display of {display_w} W, expected 0 or more")
    display = display_power_w() if display_w is None else Span(value=display_w, low=display_w, high=display_w)
    load_w, idle_w = wall_power_w("load_mean"), wall_power_w("idle_before_run")
    # ms times W is mJ; the range is that of the latency, widened by the error of the power.
    latency = projection.figure("latency_4t_p50")
    low, high = (latency.value if end is None else end for end in (latency.low, latency.high))
    t4 = Span(value=latency.value, low=low, high=high)
    gross, net = (t4.scaled(watts).widened(POWER_ERROR) for watts in (load_w, load_w - idle_w))
    idle = Span(value=idle_w, low=idle_w, high=idle_w).widened(POWER_ERROR)
    mean = net.scaled(1 / (60 * screening_every_min))
    seconds, minutes = show(recording_s), show(screening_every_min)
    both_j = (idle.value + display.value) * recording_s
    figures = (
        _figure("energy_gross_per_inference", gross, "mJ", "all that the board draws at the wall while it computes"),
        _figure("energy_net_per_inference", net, "mJ", "what computing adds to the idle board"),
        _figure("energy_idle_per_recording", idle.scaled(recording_s), "J", f"the idle board for the {seconds} s of a recording"),
        _figure("energy_display_per_recording", display.scaled(recording_s), "J", f"the display for the same {seconds} s"),
        _figure("mean_power_of_inference", mean, "mW", f"added by one screening every {minutes} minutes"),
        _figure("power_idle", idle, "W", "the board, at the wall"),
        _figure("power_display", display, "W", "official 7-inch touch display, or as given"),
    )  # fmt: skip
    notes = [
        f"Energy is projected latency (4 threads) times published wall power of another model, +-{percent(POWER_ERROR, digits=0)}; "
        "nothing was metered here.",
        f"Board and display use {show(both_j)} J during a recording of {seconds} s, about {round(both_j * 1e3 / gross.value, -2):,.0f} "
        f"times one inference ({show(gross.value)} mJ): dim or switch off the display before making the model smaller.",
        f"One inference every {minutes} minutes adds {show(mean.value)} mW to {show(idle.value)} W of the idle board.",
    ]
    if display_w is None:
        notes.append(
            "The display is an assumption: the official 7-inch one at brightness "
            f"{TYPICAL_BRIGHTNESS} of 255, by one published set of currents; its range runs over all settings."
        )
    return Energy(figures=figures, notes=tuple(notes))


def _figure(name: str, span: Span, unit: str, note: str) -> Figure:
    return Figure(
        name=name, value=span.value, unit=unit, basis=Basis.PROJECTED, low=span.low, high=span.high, note=note
    )
