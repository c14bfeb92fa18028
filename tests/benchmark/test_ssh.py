"""A board over ssh: every step that can fail says so, and nothing stays behind. ssh and scp are small programs that act here.

The stand-ins know only a folder of the test as their "board": a target's home, its temporary folder, its PATH.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import stat
import sys
import textwrap
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.benchmark.basis import ANOTHER_MACHINE, Basis, BenchmarkSection
from export.benchmark.devices import Device, board
from export.benchmark.errors import BenchmarkError, BoardError
from export.benchmark.measured import ssh
from export.benchmark.measured.golden import UNCERTAINTY_TOLERANCE, check_outputs, read_board_files
from export.benchmark.measured.process import Plan
from export.benchmark.measured.ssh import check_target, measure_board
from lsemvae.ecg.errors import BundleHashError

pytestmark = pytest.mark.slow  # the whole file: what its tests share takes long to make

BUNDLE = Path(__file__).resolve().parents[2] / "edge_app" / "bundle"
TOLERANCE: float = json.loads((BUNDLE / "manifest.json").read_bytes())["parity"]["golden_tolerance"]
with np.load(BUNDLE / "golden.npz", allow_pickle=False) as archive:
    N, K = archive["logits"].shape
QUICK = Plan(threads=(1,), runs=5, warm_up_s=0.0, min_s=0.0)

SSH = """
import json, os, subprocess, sys
home = {home!r}
words = sys.argv[1:]
split = words.index("--")
target, command = words[split + 1:]
with open(home + "/calls.jsonl", "a") as log:
    log.write(json.dumps({{"options": words[:split], "target": target, "command": command}}) + "\\n")
step = "connect" if "mkdir" in command else "run" if "runner.py" in command else "remove"
fault = json.load(open(home + "/faults.json")).get(step, {{}})
if "says" in fault:
    sys.stdout.write(fault["says"])
if "words" in fault:
    sys.stderr.write(fault["words"])
if "after" in fault:
    command = fault["after"].replace("COMMAND", command)
if "status" in fault:
    sys.exit(fault["status"])
env = {{"PATH": home + "/bin:" + os.environ["PATH"], "HOME": home}}
sys.exit(subprocess.run(["sh", "-c", command], env=env, cwd=home).returncode)
"""

SCP = """
import json, shutil, sys
home = {home!r}
words = sys.argv[1:]
split = words.index("--")
*files, where = words[split + 1:]
with open(home + "/calls.jsonl", "a") as log:
    log.write(json.dumps({{"options": words[:split], "target": where, "command": "copy"}}) + "\\n")
fault = json.load(open(home + "/faults.json")).get("copy", {{}})
for file in files[: fault.get("files", len(files))]:
    shutil.copy(file, where.split(":", 1)[1])
sys.stderr.write(fault.get("words", ""))
sys.exit(fault.get("status", 0))
"""


class FakeBoard:
    """A folder that stands for a board, and the two programs that reach it."""

    def __init__(self, home: Path) -> None:
        self.home, self.tmp = home, home / "tmp"
        (home / "bin").mkdir()
        self.tmp.mkdir()
        self.faults()
        for name, text in (("ssh.py", SSH), ("scp.py", SCP)):
            (home / name).write_text(text.format(home=str(home)))

    def faults(self, **steps: Any) -> None:
        (self.home / "faults.json").write_text(json.dumps(steps))

    def program(self, name: str, text: str) -> Path:
        path = self.home / "bin" / name
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    def measure(self, bundle: Path = BUNDLE, target: str = "pi@board", **kw: Any) -> BenchmarkSection:
        programs = {name: (sys.executable, str(self.home / f"{name}.py")) for name in ("ssh", "scp")}
        defaults = {"python": sys.executable, "plan": QUICK, "cold_starts": 1, "remote_tmp": str(self.tmp)}
        return measure_board(target, bundle, **{**programs, **defaults, **kw})

    def calls(self) -> list[dict[str, Any]]:
        path = self.home / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def left(self) -> list[str]:
        return [path.name for path in self.tmp.iterdir()]


@pytest.fixture
def fake(tmp_path: Path) -> FakeBoard:
    home = tmp_path / "board"
    home.mkdir()
    return FakeBoard(home)


def fails(fake: FakeBoard, **kw: Any) -> BoardError:
    """Measure, expect a BoardError, and that nothing was left."""
    with pytest.raises(BoardError) as caught:
        fake.measure(**kw)
    assert fake.left() == []
    assert caught.value.advice
    return caught.value


# ---- it works --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.promise(125)
def test_a_board_is_measured_and_nothing_stays_there(fake: FakeBoard) -> None:
    said: list[str] = []
    section = fake.measure(device=board("pi4"), cold_starts=2, progress=said.append)
    assert section.basis is Basis.MEASURED
    ((name, figures),) = section.rows
    values = {figure.name: figure for figure in figures}
    assert name == "model.tflite"
    assert {"latency_1t_p50", "latency_1t_p99", "cold_start", "memory_peak_over_numpy"} <= set(values)
    assert "2 fresh processes" in values["cold_start"].note
    assert any("other board than asked for" in flag for flag in section.flags)
    assert any("outputs agree with the bundle's golden ones" in note for note in section.notes)
    assert fake.left() == []
    assert len(said) == 3


@pytest.mark.slow
@pytest.mark.parametrize(("device", "measured_on"), [(None, "host"), (board("pi4"), ANOTHER_MACHINE)])
def test_a_machine_that_is_not_the_board_asked_for_is_not_measured_as_that_board(
    fake: FakeBoard, device: Device | None, measured_on: str
) -> None:
    assert fake.measure(device=device).measured_on == measured_on


@pytest.mark.slow
def test_the_connection_asks_no_questions_and_ends_the_options_before_the_target(fake: FakeBoard) -> None:
    fake.measure()
    calls = fake.calls()
    assert len(calls) == 4
    for call in calls:
        assert "BatchMode=yes" in call["options"]
        assert call["target"].startswith("pi@board")
    assert [call["command"] for call in calls].count("copy") == 1


@pytest.mark.slow
def test_a_zipped_bundle_and_its_onnx_model_are_measured_too(fake: FakeBoard, tmp_path: Path) -> None:
    zipped = tmp_path / "bundle.zip"
    with zipfile.ZipFile(zipped, "w") as archive:
        for path in BUNDLE.iterdir():
            archive.write(path, path.name)
    assert fake.measure(zipped, model="model.onnx").rows[0][0] == "model.onnx"


@pytest.mark.slow
def test_an_interpreter_below_the_boards_home_with_a_blank_in_its_name(fake: FakeBoard) -> None:
    fake.program("my python", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    assert fake.measure(python="~/bin/my python").rows


def test_a_greeting_of_the_login_shell_does_no_harm(fake: FakeBoard) -> None:
    fake.faults(connect={"says": "Welcome\n"}, run={"says": "Welcome\n"})
    assert fake.measure().rows


@pytest.mark.promise(124)
def test_a_throttling_board_gives_flagged_figures(fake: FakeBoard) -> None:
    fake.program("vcgencmd", '#!/bin/sh\n[ "$1" = get_throttled ] && echo throttled=0x50005 || echo "temp=82.0\'C"\n')
    section = fake.measure()
    assert section.rows[0][1]
    assert any(flag.startswith("throttling after the runs: under-voltage now, throttled now") for flag in section.flags)
    assert "temperature reached 82.0 C, above 80 C" in section.flags
    assert any("82.0 C before, 82.0 C after" in note for note in section.notes)


# ---- each step fails -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ("pi@board: Permission denied (publickey).", "ssh-copy-id pi@board"),
        ("Host key verification failed.", "ssh pi@board"),
        ("ssh: Could not resolve hostname board: Name or service not known", "address"),
        ("ssh: connect to host board port 22: Connection refused", "raspi-config"),
        ("ssh: connect to host board port 22: Connection timed out", "power"),
        ("something else", "ssh USER@HOST true"),
    ],
)
def test_connecting_fails(fake: FakeBoard, words: str, advice: str) -> None:
    fake.faults(connect={"status": 255, "words": words})
    error = fails(fake)
    assert words in str(error)
    assert advice in error.advice
    assert len(fake.calls()) == 1


def test_the_temporary_folder_of_the_board_cannot_be_written(fake: FakeBoard) -> None:
    error = fails(fake, remote_tmp=str(fake.home / "absent"))
    assert "mkdir" in str(error)
    assert "temporary folder" in error.advice


@pytest.mark.slow
def test_the_folder_has_a_name_that_nobody_can_prepare(fake: FakeBoard) -> None:
    fake.measure()
    fake.measure()
    made = [call["command"] for call in fake.calls() if "mkdir -m 700" in call["command"]]
    assert len(set(made)) == 2
    assert all(re.search(r"/lsemvae-benchmark\.[0-9a-f]{16}\b", command) for command in made)


def test_copying_fails_half_way(fake: FakeBoard) -> None:
    fake.faults(copy={"files": 1, "status": 1, "words": "scp: write remote: No space left on device"})
    error = fails(fake)
    assert "copying pi@board: found status 1" in str(error)
    assert "free some space" in error.advice


def test_a_file_that_did_not_arrive(fake: FakeBoard) -> None:
    fake.faults(copy={"files": 2})
    assert "runner.py" in str(fails(fake))


def test_the_interpreter_is_not_there(fake: FakeBoard) -> None:
    error = fails(fake, python="python9")
    assert "status 127" in str(error)
    assert "numpy and the runtime" in error.advice


@pytest.mark.parametrize(("packages", "code"), [((), "E_NUMPY"), (("numpy",), "E_RUNTIME")])
def test_a_board_without_numpy_or_runtime(fake: FakeBoard, packages: tuple[str, ...], code: str) -> None:
    for package in packages:
        found = Path(sys.modules[package].__file__ or "").parent
        for folder in (found, found.parent / f"{package}.libs"):
            if folder.is_dir():
                (fake.home / folder.name).symlink_to(folder)
    fake.program("bare", f'#!/bin/sh\nPYTHONPATH={fake.home} exec {sys.executable} -S "$@"\n')
    error = fails(fake, python="bare")
    assert f"the board: {code}" in str(error)
    assert "pip install" in error.advice


@pytest.mark.promise(125)
def test_the_connection_dies_during_the_run(fake: FakeBoard) -> None:
    fake.faults(run={"status": 255, "words": "Connection to board closed by remote host."})
    error = fails(fake)
    assert "measuring pi@board: found the connection failed" in str(error)
    assert "power supply" in error.advice


def test_the_connection_dies_after_half_an_answer(fake: FakeBoard) -> None:
    fake.faults(
        run={"says": '{"schema": "lsemvae-bench', "status": 255, "words": "client_loop: send disconnect: Broken pipe"}
    )
    assert "connection failed" in str(fails(fake))
    fake.faults(run={"says": '{"schema": "lsemvae-bench', "status": 0})
    assert "found no JSON" in str(fails(fake))


def test_the_runner_is_killed_on_the_board(fake: FakeBoard) -> None:
    fake.program("dies", "#!/bin/sh\nkill -9 $$\n")
    assert "status 137" in str(fails(fake, python="dies"))


@pytest.mark.slow
def test_an_answer_followed_by_a_failure_does_not_count(fake: FakeBoard) -> None:
    fake.program("answers", f'#!/bin/sh\n{sys.executable} "$@"\nexit 3\n')
    assert "found status 3" in str(fails(fake, python="answers"))


@pytest.mark.slow
def test_fewer_answers_than_processes_do_not_count(fake: FakeBoard) -> None:
    fake.program("once", f'#!/bin/sh\ncase "$*" in *cold-only*) ;; *) {sys.executable} "$@";; esac\n')
    assert "found 1 answers" in str(fails(fake, python="once", cold_starts=2))


def test_an_answer_that_is_no_answer(fake: FakeBoard) -> None:
    fake.faults(run={"says": "\x1b[31mhello", "status": 0})
    error = fails(fake)
    assert "found 0 answers" in str(error)
    assert str(error).isprintable()


@pytest.mark.slow
def test_a_board_that_does_not_answer_in_time(fake: FakeBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.program("mkdir", '#!/bin/sh\n/bin/mkdir "$@"\nexec sleep 20\n')
    monkeypatch.setattr(ssh, "_STEP_S", 2.5)
    assert "connecting pi@board: found no answer after 2 s" in str(fails(fake))
    assert [("rm -rf" in call["command"]) for call in fake.calls()] == [False, True]


def test_ssh_is_not_installed(fake: FakeBoard) -> None:
    error = fails(fake, ssh=("no-such-ssh",))
    assert "'no-such-ssh'" in str(error)
    assert "openssh-client" in error.advice


# ---- what is left ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.promise(125)
def test_the_run_removes_the_folder_even_if_the_board_is_never_reached_again(fake: FakeBoard) -> None:
    fake.faults(remove={"status": 255, "words": "No route to host"})
    section = fake.measure()
    assert fake.left() == []
    assert any("may be left on the board" in flag for flag in section.flags)


def test_a_folder_that_cannot_be_removed_is_named(fake: FakeBoard) -> None:
    fake.faults(copy={"status": 1, "words": "lost connection"}, remove={"status": 255})
    with pytest.raises(BoardError, match=r"copying.*the folder .*/lsemvae-benchmark\.\w{16} may be left on the board"):
        fake.measure()
    assert len(fake.left()) == 1


def test_an_interrupt_removes_the_folder(fake: FakeBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ssh._Board, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fake.measure()
    assert fake.left() == []
    assert len(fake.calls()) == 3


# ---- what the board computes -----------------------------------------------------------------------------------------


def altered(fake: FakeBoard, change: str) -> Path:
    """An interpreter whose runner's answer goes through `change`, Python statements on the object `run`."""
    return fake.program(
        "altered",
        textwrap.dedent(f"""\
        #!{sys.executable}
        import json, subprocess, sys
        done = subprocess.run([sys.executable, *sys.argv[1:]], capture_output=True, text=True)
        run = json.loads(done.stdout)
        {change}
        print(json.dumps(run).replace('"1e999"', "1e999"))
        """),
    )


@pytest.mark.slow
@pytest.mark.promise(125)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            f'run["outputs"]["logits"][3][2] += {3 * TOLERANCE}',
            rf"logits differ from the golden ones by \S+, expected at most {TOLERANCE:.3g}$",
        ),
        (
            'run["outputs"]["uncertainty"][0][0] -= 0.2',
            rf"uncertainty differ .* by 0\.\d+, expected at most {min(TOLERANCE, UNCERTAINTY_TOLERANCE):.3g}$",
        ),
        ('run["outputs"]["logits"].pop()', rf"logits have shape \({N - 1}, {K}\), expected \({N}, {K}\)"),
        ('run["outputs"]["logits"][0].pop()', rf"logits have shape \(0,\), expected \({N}, {K}\)"),
        ('run["model"]["sha256"] = "0" * 64', "ran a model with hash 0000000000000000, expected"),
        ('run["outputs"]["logits"][0][0] = float("nan")', "found no JSON"),
        ('run["latency"]["1"]["p50_ms"] = "1e999"', "p50_ms is inf"),
        ('run["latency"]["1"]["p50_ms"] = "fast"', "p50_ms is 'fast'"),
    ],
)
def test_other_outputs_than_the_golden_ones_are_an_error(fake: FakeBoard, change: str, words: str) -> None:
    altered(fake, change)
    assert re.search(words, str(fails(fake, python="altered")))


def test_the_limit_is_the_manifests_to_the_last_digit() -> None:
    files = read_board_files(BUNDLE, "model.tflite")
    run = {"model": {"sha256": hashlib.sha256(files.model).hexdigest()}}

    def outputs(off: float) -> dict[str, Any]:
        return {"outputs": {"logits": files.logits.astype(float) + off, "uncertainty": files.uncertainty}}

    assert check_outputs(run | outputs(0.99 * TOLERANCE), files)[0] == pytest.approx(0.99 * TOLERANCE)
    with pytest.raises(BoardError):
        check_outputs(run | outputs(-1.01 * TOLERANCE), files)


# ---- what is refused before any board is touched ---------------------------------------------------------------------


@pytest.mark.promise(125)
@pytest.mark.parametrize(
    "target",
    ["-oProxyCommand=touch x", "", "pi@", "@board", "pi@-board", "board; reboot", "$(reboot)", "a b", "pi@board\n", "pi@a@b", "../x",
     "board:22", "cafe:22", "user@host:/etc"],
)  # fmt: skip
def test_a_target_that_is_no_name_is_refused(fake: FakeBoard, target: str) -> None:
    assert "expected user@host" in str(fails(fake, target=target))
    assert fake.calls() == []


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("pi", ("pi", "pi")),
        ("pi@raspberrypi.local", ("pi@raspberrypi.local",) * 2),
        ("pi@192.168.1.7", ("pi@192.168.1.7",) * 2),
        ("pi@fe80::1%eth0", ("pi@fe80::1%eth0", "pi@[fe80::1%eth0]")),
        ("[::1]", ("::1", "[::1]")),
    ],
)
def test_addresses_are_written_as_each_program_wants_them(target: str, expected: tuple[str, str]) -> None:
    assert check_target(target) == expected


@pytest.mark.parametrize("wrong", [{"remote_tmp": "/tmp/a b"}, {"remote_tmp": "tmp"}, {"python": ""}, {"python": "-c"}])
def test_a_folder_or_interpreter_that_is_no_name_is_refused(fake: FakeBoard, wrong: dict[str, str]) -> None:
    fails(fake, **wrong)
    assert fake.calls() == []


def test_an_interpreter_is_never_a_command(fake: FakeBoard) -> None:
    fails(fake, python=f"touch {fake.home}/owned; true")
    assert not list(fake.home.rglob("owned"))


@pytest.fixture
def copied(tmp_path: Path) -> Callable[..., Path]:
    def copy(**changes: Callable[[bytes], bytes]) -> Path:
        bundle = tmp_path / "bundle"
        shutil.copytree(BUNDLE, bundle)
        for stem, change in changes.items():
            (path,) = bundle.glob(f"{stem}.*")
            path.write_bytes(change(path.read_bytes()))
        return bundle

    return copy


def test_a_changed_model_never_leaves_this_machine(fake: FakeBoard, copied: Callable[..., Path]) -> None:
    with pytest.raises(BundleHashError, match=r"golden\.npz: found hash"):
        fake.measure(copied(golden=lambda content: content + b"x"))
    assert fake.calls() == []


def test_a_bundle_that_lacks_something_is_refused(fake: FakeBoard, copied: Callable[..., Path], tmp_path: Path) -> None:
    bundle = copied()
    with pytest.raises(BenchmarkError, match=r"found the models .*, expected model\.hef"):
        fake.measure(bundle, model="model.hef")
    (bundle / "golden.npz").unlink()
    with pytest.raises(BenchmarkError, match=r"no readable golden\.npz"):
        fake.measure(bundle)
    with pytest.raises(BenchmarkError, match=r"no readable manifest\.json"):
        fake.measure(tmp_path / "absent")
    assert fake.calls() == []
