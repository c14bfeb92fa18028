"""The shipped bundle, asked once by every runtime that this machine can have."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from export.gates.outputs import Outputs
from lsemvae.screen.bundle import Bundle, open_bundle
from lsemvae.screen.trust import load_trusted_keys
from tests.conftest import find_data_dir, skip_for
from tests.runtimes import matrix
from tests.runtimes.asking import Answers, BrowserRun, Variant, ask_browser, ask_legacy, ask_python
from tests.runtimes.programs import MissingNeedError
from tests.runtimes.recordings import N_FAULTY, Questions, questions
from tests.runtimes.surgery import broken_onnx, broken_tflite

SHIPPED = "model"


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    return open_bundle(None, trusted_keys=load_trusted_keys())


@pytest.fixture(scope="session")
def asked(bundle: Bundle) -> Questions:
    return questions(bundle.files["golden.npz"], bundle.manifest, data=find_data_dir())


@pytest.fixture(scope="session")
def variants(bundle: Bundle, asked: Questions) -> list[Variant]:
    """The shipped pair of files, then one pair for each INT8 layer whose scale is wrong."""
    tflite, onnx = bundle.files["model.tflite"], bundle.files["model.onnx"]
    broken = zip(broken_tflite(tflite), broken_onnx(onnx), strict=True)
    few = min(N_FAULTY, len(asked.ecg))
    return [
        Variant(SHIPPED, tflite, onnx, len(asked.ecg)),
        *(Variant(f"layer-{k}", *contents, few) for k, contents in enumerate(broken, 1)),
    ]


@pytest.fixture(scope="session")
def python_answers(variants: list[Variant], asked: Questions) -> Answers:
    return ask_python(variants, asked)


@pytest.fixture(scope="session")
def legacy_run(
    variants: list[Variant], asked: Questions, tmp_path_factory: pytest.TempPathFactory
) -> Answers | MissingNeedError:
    try:
        return ask_legacy(variants, asked, folder=tmp_path_factory.mktemp("legacy"))
    except MissingNeedError as error:
        return error


@pytest.fixture(scope="session")
def browser_session(
    variants: list[Variant], asked: Questions, tmp_path_factory: pytest.TempPathFactory
) -> BrowserRun | MissingNeedError:
    try:
        return ask_browser(variants, asked, folder=tmp_path_factory.mktemp("browser"))
    except MissingNeedError as error:
        return error


@pytest.fixture
def legacy_answers(legacy_run: Answers | MissingNeedError, request: pytest.FixtureRequest) -> Answers:
    if isinstance(legacy_run, MissingNeedError):
        skip_for(str(legacy_run))
    assert isinstance(legacy_run, Answers)
    return legacy_run


@pytest.fixture
def browser_run(browser_session: BrowserRun | MissingNeedError, request: pytest.FixtureRequest) -> BrowserRun:
    if isinstance(browser_session, MissingNeedError):
        skip_for(str(browser_session))
    assert isinstance(browser_session, BrowserRun)
    return browser_session


@pytest.fixture
def outputs_of(request: pytest.FixtureRequest) -> Callable[[str], Mapping[str, Outputs]]:
    """What a runtime said, by variant; only what a test asks for is run."""

    def find(runtime: str) -> Mapping[str, Outputs]:
        if runtime == matrix.LEGACY:
            answers: Answers = request.getfixturevalue("legacy_answers")
        elif runtime in (matrix.LITERT_JS, matrix.LITERT_JS_COMPAT, matrix.ORT_WEB):
            answers = request.getfixturevalue("browser_run").answers
        else:
            answers = request.getfixturevalue("python_answers")
        return answers.outputs[runtime]

    return find
