"""The pages in Chromium: a validator, axe, three widths, light and dark, nothing loaded and nothing run.

tox run -e browser sets GRADCONFORM_EXPECT_BROWSER: there, what is missing is a failure. GRADCONFORM_PICTURES names a
folder for pictures of every page.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from gradconform.conformance.canaries import proved
from gradconform.conformance.checks import CHECKS
from gradconform.conformance.engine import run
from gradconform.conformance.faults import FAULTS
from gradconform.conformance.implementations import Implementation, reference
from gradconform.conformance.killing import kill_all
from gradconform.conformance.plan import Plan, network_strategy
from gradconform.conformance.report_faults import killing_html
from gradconform.conformance.report_html import html_report

HERE = Path(__file__).parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
HOSTILE = "</script><script>alert(1)</script><img src=x onerror='alert(2)'>\x1b[31m\x00\n\ud800" + "A" * 1000
NETWORK = "* -> Dense(*) -> Tanh -> Dense(*), SoftmaxCrossEntropy"

pytestmark = pytest.mark.skipif(
    "GRADCONFORM_EXPECT_BROWSER" not in os.environ, reason="tox run -e browser looks at the pages in Chromium"
)


@pytest.fixture(scope="session")
def look():
    """Return what looks at pages: its exit code, and what it complains of."""
    browser = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None or shutil.which(browser) is None:
        pytest.fail("no Chromium: install chromium, or let CHROMIUM name a browser like it", pytrace=False)
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.fail("no npm: install Node.js 20.19 or newer", pytrace=False)
    command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    installed = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=300, check=False)
    if installed.returncode:
        pytest.fail(f"npm ci in {HERE}: {installed.stderr}", pytrace=False)
    pictures = os.environ.get("GRADCONFORM_PICTURES")
    options = ["--pictures", pictures] if pictures else []

    def run_it(*pages):
        done = subprocess.run(
            [node, HERE / "look.mjs", *options, *pages],
            env={**os.environ, "CHROMIUM": browser},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        return done.returncode, (done.stdout + done.stderr).splitlines()

    return run_it


def crash(network, parameters, batch):
    raise ValueError(HOSTILE)


def result_of(*implementations, **options):
    plan = Plan(list(implementations), max_examples=24, seed=1, witnesses=False, shrink_seconds=5, **options)
    return proved(run(plan), list(CHECKS.values()))


def pages():
    """Yield pages of every kind by their names."""
    green = result_of(reference())
    yield "green", html_report(green)
    open_ = msgspec.structs.replace(green, verdict="not covered", notes=["reference: nothing could be told of x"])
    open_.coverage[0].missing.append("regime tiny")
    yield "not-covered", html_report(open_)
    wrong = [FAULTS["bias-mean"].implementation(), FAULTS["delta-sign"].implementation()]
    command = "gradconform check mine.py --seed 1"
    networks = network_strategy(NETWORK)
    red = result_of(*wrong, Implementation(HOSTILE, crash), networks=networks, dtypes=["float64"], command=command)
    assert len(red.findings) == 3
    yield "red", html_report(red)
    killing = kill_all([FAULTS["nan"], FAULTS["aliased-result"]], correct=False)
    killing.kills[0].named = "WRONG NAME"
    yield "faults", killing_html(killing)


def test_pages_of_every_kind_are_without_complaint(look, tmp_path):
    places = []
    for name, page in pages():
        places.append(tmp_path / f"{name}.html")
        places[-1].write_text(page, "utf-8")
    code, told = look(*places)
    assert "\n".join(told) == "4 pages, 0 complaints"
    assert code == 0


WRONG = """<!DOCTYPE html>
<html lang="en"><head><title>Wrong</title></head>
<body><main><h1>Wrong</h1><p style="color: #ccc; background: #fff; width: 3000px">pale and wide</p>
<img src="http://localhost:9/x.png"><script>missing();</script></main></body></html>
"""


def test_a_page_that_is_wrong_is_complained_about(look, tmp_path):
    place = tmp_path / "wrong.html"
    place.write_text(WRONG, "utf-8")
    code, told = look(place)
    assert code == 1
    for said in (
        "wrong.html:4:2: wcag/h37",
        "wrong.html at 360 in dark: axe color-contrast",
        "wrong.html at 800 in light: axe image-alt",
        "pixels wider than the screen",
        "wrong.html at 1400 in light: loads http://localhost:9/x.png",
        "fails with ReferenceError: missing is not defined",
    ):
        assert any(said in line for line in told), said
