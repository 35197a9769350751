"""Completion of words, by what click asks for and in the shells themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from gradconform.conformance.adapter_names import adapter_names, vmap_names
from gradconform.conformance.checks import CHECKS
from gradconform.conformance.cli import cli, main
from gradconform.conformance.completing import FOLDERS, SHELLS
from gradconform.conformance.operation_checks import CHECKS as OPERATION_CHECKS
from gradconform.conformance.profiles import PROFILES

BIN = Path(sys.executable).parent
COMMAND = BIN / "gradconform"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for kept, name in zip(FOLDERS, ("5412b217", "803937c6"), strict=True):
        kept.mkdir(parents=True)
        (kept / f"{name}.json").touch()
    for name in ("my_mlp.py", "iris.csv", "a\nb.py"):
        (tmp_path / name).touch()
    return tmp_path


def completed(*words):
    """Return what is offered for the last word."""
    shell = ShellComplete(cli, {}, "gradconform", "_GRADCONFORM_COMPLETE")
    return [
        item.value if item.type == "plain" else item.type for item in shell.get_completions(list(words[:-1]), words[-1])
    ]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("expl",), ["explain"]),
        (("check", "--max-e"), ["--max-examples"]),
        (("check", ""), ["reference", *adapter_names(), *vmap_names(), "my_mlp.py"]),
        (("check", "my"), ["my_mlp.py"]),
        (("check", "folder/"), ["file"]),
        (("check", "--only", ""), list(CHECKS)),
        (("fuzz", "--exclude", "sum"), ["sum-of-samples"]),
        (("layer", "--only", ""), list(OPERATION_CHECKS)),
        (("check", "--dtype", "b"), ["bfloat16"]),
        (("check", "--profile", ""), list(PROFILES)),
        (("check", "--data", "i"), ["file"]),
        (("replay", ""), ["5412b217", "803937c6"]),
        (("show", "80"), ["803937c6"]),
        (("replay", "elsewhere"), ["file"]),
        (("explain", "bias-me"), ["bias-mean"]),
        (("explain", "54"), ["5412b217"]),
        (("explain", "NOT-"), ["NOT-COVERED"]),
        (("explain", "--as", ""), ["numpy", "torch", "jax"]),
        (("completion", ""), list(SHELLS)),
    ],
)
def test_what_is_offered(folder, words, offered):
    assert completed(*words) == offered


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_of_a_shell(shell, capsys):
    main(["completion", shell])
    assert "_GRADCONFORM_COMPLETE" in capsys.readouterr().out


def test_an_unknown_shell_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as left:
        main(["completion", "tcsh"])
    assert left.value.code == 4
    assert "'bash', 'zsh', 'fish'" in capsys.readouterr().err


ASKED = {"COMP_WORDS": "gradconform check --only s", "COMP_CWORD": "3", "_GRADCONFORM_COMPLETE": "bash_complete"}
PROGRAM = """
import atexit, sys
atexit.register(lambda: print("numpy" in sys.modules))
sys.argv = ["gradconform"]
from gradconform.conformance.cli import main
main([])
"""


def test_no_numpy_is_imported(folder):
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env={**os.environ, **ASKED}, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["plain,sum-of-samples", "plain,sample-twice", "plain,stateless", "False"], done


SCRIPTS = {
    "bash": """
        eval "$(gradconform completion bash)"
        COMP_WORDS=(gradconform explain bias-me) COMP_CWORD=2 COMP_LINE="gradconform explain bias-me" COMP_POINT=27
        _gradconform_completion gradconform
        printf '%s\\n' "${COMPREPLY[@]}"
    """,
    "zsh": """
        autoload -Uz compinit && compinit -u -D
        eval "$(gradconform completion zsh)"
        print -r -- ${_comps[gradconform]:+completed}
        words=(gradconform explain bias-me) CURRENT=3
        compadd() { : }
        _describe() { eval "print -rl -- \\"\\${${@[3]}[@]}\\"" }
        _gradconform_completion
    """,
    "fish": """
        gradconform completion fish | source
        complete -C "gradconform explain bias-me"
    """,
}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes(folder, shell):
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder)}
    done = subprocess.run(
        [program, "-c", SCRIPTS[shell]], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert "bias-mean" in done.stdout, done
