"""MEASURED on a real board: copy model, golden recordings and runner there over ssh, run, fetch the answer, leave nothing.

Three connections (make a folder, copy, run) and one that removes the folder. The run removes the folder by itself as well, so that
it goes even if the network dies half-way; a `timeout` on the board ends a run that hangs. The board needs the plain shell, `timeout`,
numpy and one runtime.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from export.benchmark.basis import ANOTHER_MACHINE, Basis, BenchmarkSection
from export.benchmark.devices import HOST, Device
from export.benchmark.errors import BoardError
from export.benchmark.measured.figures import board_flags, figures_of, is_device
from export.benchmark.measured.golden import GOLDEN_NAME, BoardFiles, check_outputs, read_board_files
from export.benchmark.measured.host import left_out_note, machine_note
from export.benchmark.measured.process import BOARD_PROGRAMS, Plan, clip, parse_run

# This brings the governor up and the board near its working temperature.
BOARD_WARM_UP_S: Final = 10.0
BOARD_PLAN: Final = Plan(warm_up_s=BOARD_WARM_UP_S)
# ssh's own failure; any other status is the remote program's (ssh(1), exit status).
_CONNECTION_LOST: Final = 255
_OPTIONS: Final = (
    "-o",
    "BatchMode=yes",
    "-o",
    "ConnectTimeout=15",
    "-o",
    "ServerAliveInterval=5",
    "-o",
    "ServerAliveCountMax=3",
)
_STEP_S: Final = 60.0
_COPY_S: Final = 180.0
# The end of what the other side said: the reason comes last.
_SAID_CHARS: Final = 300
_NAME: Final = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_TARGET: Final = re.compile(rf"(?:(?P<user>{_NAME})@)?(?P<host>{_NAME}|\[?[0-9A-Fa-f]*:[0-9A-Fa-f:.]+(?:%\w+)?\]?)")
_FOLDER: Final = "lsemvae-benchmark."
_ADVICE: Final = (
    ("permission denied", "The board does not know your key: run ssh-copy-id {target}, then try again."),
    ("host key verification", "Connect once by hand (ssh {target}) and compare the board's fingerprint."),
    ("could not resolve", "No such name in this network: check it, or give the board's address."),
    (
        "connection refused",
        "The board is there but takes no ssh: switch it on with sudo raspi-config, Interface Options.",
    ),
    ("timed out", "The board does not answer: check power, network and address."),
    ("no route", "The board does not answer: check power, network and address."),
    ("no space left", "The board's temporary folder is full: free some space there."),
    ("closed", "The connection broke: check the board's power supply and the network, then run again."),
    ("broken pipe", "The connection broke: check the board's power supply and the network, then run again."),
    ("failed to run command", "That interpreter is not on the board: name one that has numpy and the runtime."),
    ("mkdir", "The board's temporary folder cannot be written: name another one, or free some space."),
)


def measure_board(
    target: str,
    bundle: Path,
    *,
    device: Device | None = None,
    ssh: Sequence[str] = ("ssh",),
    scp: Sequence[str] = ("scp",),
    python: str = "python3",
    plan: Plan = BOARD_PLAN,
    model: str = "model.tflite",
    cold_starts: int = 3,
    remote_tmp: str = "/tmp",
    progress: Callable[[str], None] | None = None,
) -> BenchmarkSection:
    """Measure a bundle's model on a board.

    Parameters
    ----------
    target
        `user@host` or a name from the ssh configuration. Login works without a password (a key).
    bundle
        Folder or zip; its signature is the caller's to check.
    device
        The board that was asked for; another one is flagged.
    ssh, scp
        Programs with their own options, such as `("ssh", "-p", "2222")` and `("scp", "-P", "2222")`.
    python
        Interpreter on the board that has numpy and the runtime; `~/` is the board's home folder.
    model
        `model.tflite` or `model.onnx`.
    cold_starts
        Fresh processes on the board for cold start and memory.
    remote_tmp
        Where on the board the folder is made, about 0.5 MB.

    Raises
    ------
    BoardError
        A step failed, the answer is not a runner's, or the outputs are not the golden ones. The folder on the board is removed; where
        even that fails, the message names it.
    """
    say = progress or (lambda _: None)
    files = read_board_files(bundle, model)
    board = _Board(target, tuple(ssh), tuple(scp), python, remote_tmp)
    say(f"connecting to {target}")
    folder = board.make_folder()
    left: list[str] = []
    try:
        say("copying model, golden recordings and runner")
        board.copy(files, folder)
        say(f"measuring with {', '.join(map(str, plan.threads))} threads")
        runs = board.run(files.model_name, folder, plan, cold_starts)
    except BaseException as error:
        if (reason := board.remove(folder)) and isinstance(error, BoardError):
            raise BoardError(f"{error}; the folder {folder} may be left on the board", advice=error.advice) from error
        raise
    if reason := board.remove(folder):
        left.append(f"the folder {folder} may be left on the board ({reason})")
    first, differences = runs[0], check_outputs(runs[0], files)
    before, after = first["state"]["before"], first["state"]["after"]
    conditions = [f"governor {', '.join(before['governors'])}"] if before["governors"] else []
    if before["frequency_max_khz"] is not None:
        conditions.append(f"clock up to {before['frequency_max_khz'] // 1000} MHz")
    if None not in (before["temperature_c"], after["temperature_c"]):
        conditions.append(f"{before['temperature_c']:.1f} C before, {after['temperature_c']:.1f} C after")
    title = first["machine"]["board"] or f"board without a name ({first['machine']['architecture']})"
    return BenchmarkSection(
        title=f"{title}, over ssh",
        basis=Basis.MEASURED,
        rows=[(files.model_name, figures_of(first, cold=runs[1:]))],
        notes=(
            machine_note(first),
            *left_out_note(first),
            f"outputs agree with the bundle's golden ones: logits within {differences[0]:.3g} (allowed {files.tolerance:.3g}), "
            f"uncertainty within {differences[1]:.3g}",
            *([", ".join(conditions)] if conditions else []),
        ),
        flags=(*board_flags(first, device=device), *left),
        measured_on=HOST if device is None else device.name if is_device(first, device) else ANOTHER_MACHINE,
    )


def check_target(target: str) -> tuple[str, str]:
    """Return the target for ssh and for scp, which wants brackets around an IPv6 address; anything else is refused."""
    match = _TARGET.fullmatch(target)
    host = match["host"].strip("[]") if match else ""
    if ":" in host:  # an IPv6 address; a port is no part of a target
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            match = None
    if match is None:
        raise BoardError(
            f"found the target {clip(repr(target), 80)}, expected user@host, a host name, or an IP address",
            advice="Put port, jump host and key into ~/.ssh/config under a name, and give that name.",
        )
    user = f"{match['user']}@" if match["user"] else ""
    return user + host, user + (f"[{host}]" if ":" in host else host)


@dataclass(frozen=True, slots=True)
class _Board:
    """The connection: each step raises BoardError with what the other side said."""

    target: str
    ssh: tuple[str, ...]
    scp: tuple[str, ...]
    python: str
    remote_tmp: str
    ssh_target: str = field(init=False)
    scp_target: str = field(init=False)

    def __post_init__(self) -> None:
        ssh_target, scp_target = check_target(self.target)
        object.__setattr__(self, "ssh_target", ssh_target)
        object.__setattr__(self, "scp_target", scp_target)
        if not re.fullmatch(r"(?:/[A-Za-z0-9_.-]+)+", self.remote_tmp):
            raise BoardError(f"found the remote folder {self.remote_tmp!r}, expected an absolute path of plain names")
        if not self.python or self.python.startswith("-"):
            raise BoardError(f"found the interpreter {self.python!r}, expected a name or a path on the board")

    def make_folder(self) -> str:
        """Make a folder for this user only and return its name, which is chosen here, so that it is known whatever happens."""
        folder = f"{self.remote_tmp}/{_FOLDER}{secrets.token_hex(8)}"
        try:
            done = self._remote(f"mkdir -m 700 {folder}", "connecting", _STEP_S)
        except BoardError:  # no answer: it may be there nevertheless
            self.remove(folder)
            raise
        self._require_success(done, "connecting")
        return folder

    def copy(self, files: BoardFiles, folder: str) -> None:
        with tempfile.TemporaryDirectory() as name:
            here = Path(name)
            contents = {files.model_name: files.model, GOLDEN_NAME: files.golden}
            contents |= {program.name: program.read_bytes() for program in BOARD_PROGRAMS}
            for file, content in contents.items():
                (here / file).write_bytes(content)
            paths = [str(here / file) for file in contents]
            command = [*self.scp, "-q", *_OPTIONS, "--", *paths, f"{self.scp_target}:{folder}/"]
            self._require_success(self._call(command, "copying", _COPY_S), "copying")

    def run(self, model: str, folder: str, plan: Plan, cold_starts: int) -> list[dict[str, Any]]:
        """Run the runner, and once more for each further cold start; one object a line."""
        options = [plan.arguments(), *[plan.arguments(cold_only=True)] * (cold_starts - 1)]
        in_home = self.python.startswith("~/")
        python = f'"$HOME"/{shlex.quote(self.python[2:])}' if in_home else shlex.quote(self.python)
        commands = [
            f"timeout -k 5 {plan.limit_s:.0f} {python} -B {BOARD_PROGRAMS[0].name} --model {model} --inputs {GOLDEN_NAME} "
            + shlex.join(words)
            for words in options
        ]
        script = f"trap 'rm -rf -- {folder}' EXIT; trap 'exit 129' HUP INT PIPE TERM; cd {folder} && " + " && ".join(
            commands
        )
        done = self._remote(script, "measuring", plan.limit_s * len(options) + _STEP_S)
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode == _CONNECTION_LOST or not lines:
            self._require_success(done, "measuring")
        runs = [parse_run(line, error=BoardError, where="the board") for line in lines]
        self._require_success(done, "measuring")
        if len(runs) != len(options):
            raise BoardError(
                f"measuring: found {len(runs)} answers ({clip(done.stdout) or 'nothing'}), expected {len(options)} JSON objects"
            )
        return runs

    def remove(self, folder: str) -> str:
        """Remove the folder; return why that failed, or nothing."""
        try:
            done = self._remote(f"rm -rf -- {folder}", "removing", _STEP_S)
        except BoardError as error:
            return str(error)
        return f"status {done.returncode}: {clip(done.stderr)}" if done.returncode else ""

    def _remote(self, script: str, step: str, limit_s: float) -> subprocess.CompletedProcess[str]:
        """Run a script of the plain shell, whatever the login shell is."""
        command = [*self.ssh, "-T", *_OPTIONS, "--", self.ssh_target, f"sh -c {shlex.quote(script)}"]
        return self._call(command, step, limit_s)

    def _call(self, command: Sequence[str], step: str, limit_s: float) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=limit_s,
                check=False,
            )
        except OSError as error:
            advice = "Install it: sudo apt install openssh-client."
            raise BoardError(
                f"{step}: {command[0]!r} cannot be started here ({error.strerror}), expected a program", advice=advice
            ) from error
        except subprocess.TimeoutExpired as error:
            raise BoardError(f"{step} {self.target}: found no answer after {limit_s:.0f} s, expected one") from error

    def _require_success(self, done: subprocess.CompletedProcess[str], step: str) -> None:
        if done.returncode == 0:
            return
        words = "the connection failed" if done.returncode == _CONNECTION_LOST else f"status {done.returncode}"
        said = clip(done.stderr[-_SAID_CHARS:]) or clip(done.stdout[-_SAID_CHARS:]) or "nothing"
        known = (advice for phrase, advice in _ADVICE if phrase in done.stderr.lower())
        advice = next(known, None)
        raise BoardError(
            f"{step} {self.target}: found {words}, expected success; it said: {said}",
            advice=None if advice is None else advice.format(target=self.target),
        )
