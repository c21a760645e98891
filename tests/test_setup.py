"""The set-up from a bare machine: which interpreter is taken, and when nothing is done."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.skipif(
    shutil.which("bash") is None or not (ROOT / ".ci" / "set-up").exists(),
    reason="the set-up is a bash script of the checkout",
)

# Shell tools that the scripts call; nothing else of the machine's PATH is to be seen.
TOOLS = ["bash", "env", "sort", "dirname", "cat", "cksum", "rm", "mkdir", "cp"]


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{shutil.which('bash')}\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def working(path):
    """Make an interpreter that runs."""
    return script(path, f'exec {sys.executable} "$@"')


def of_version(path, version):
    """Make an interpreter that runs and says that it is of that version."""
    code = f"import sys; sys.version_info = {version}; exec(sys.argv[1])"
    return script(path, f"exec {sys.executable} -c '{code}' \"$2\"")


def shim(path):
    """Make what pyenv puts on the PATH for a version that is not selected."""
    return script(path, 'echo "pyenv: $0: command not found" >&2; exit 127')


@pytest.fixture
def machine(tmp_path):
    """A machine without any Python: a folder that is its PATH, and its environment."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in TOOLS:
        (tools / tool).symlink_to(shutil.which(tool))
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    return bin_folder, {"PATH": f"{bin_folder}:{tools}", "HOME": str(tmp_path / "home")}


def find(machine, **more):
    return subprocess.run(
        [ROOT / ".ci" / "find-python"],
        env=machine[1] | more,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_first_that_runs_is_taken(machine):
    folder, _ = machine
    shim(folder / "python3.14")
    working(folder / "python3.13")
    working(folder / "python3.12")
    assert find(machine).stdout == "python3.13\n"
    (folder / "python3.13").unlink()
    assert find(machine).stdout == "python3.12\n"


def test_a_version_that_is_not_supported_is_passed_over(machine):
    folder, _ = machine
    of_version(folder / "python3.14", (3, 15, 0))
    of_version(folder / "python3.13", (3, 11, 9))
    of_version(folder / "python3", (3, 12, 0))
    assert find(machine).stdout == "python3\n"


def test_the_named_one_comes_first(machine, tmp_path):
    working(machine[0] / "python3.13")
    named = working(tmp_path / "mine" / "py")
    assert find(machine, PYTHON=str(named)).stdout == f"{named}\n"
    done = find(machine, PYTHON="/no/such/python")
    assert done.stdout == "python3.13\n"
    assert "PYTHON=/no/such/python is passed over" in done.stderr


def test_versions_under_a_pyenv_root_newest_first(machine, tmp_path):
    root = tmp_path / "pyenv"
    for version in ("3.9.18", "3.12.9", "3.13.0"):
        working(root / "versions" / version / "bin" / "python")
    shim(root / "versions" / "3.14.1" / "bin" / "python")
    shim(machine[0] / "python3.13")
    wanted = f"{root}/versions/3.13.0/bin/python\n"
    assert find(machine, PYENV_ROOT=str(root)).stdout == wanted
    # The same root, as the pyenv command gives it.
    script(machine[0] / "pyenv", f"[ $1 = root ] && echo {root}")
    assert find(machine).stdout == wanted


def test_the_usual_pyenv_root_is_looked_at(machine, tmp_path):
    python = working(tmp_path / "home" / ".pyenv" / "versions" / "3.12.1" / "bin" / "python")
    assert find(machine).stdout == f"{python}\n"


def test_shims_on_the_path_lead_to_their_root(machine, tmp_path):
    root = tmp_path / "elsewhere" / "pyenv"
    python = working(root / "versions" / "3.12.4" / "bin" / "python")
    (root / "shims").mkdir()
    assert find(machine, PATH=f"{root}/shims:{machine[1]['PATH']}").stdout == f"{python}\n"


def test_where_there_is_none_one_line_says_what_to_install(machine):
    shim(machine[0] / "python3.13")
    of_version(machine[0] / "python3", (3, 11, 2))
    done = find(machine)
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert re.search(r"no Python 3\.12, 3\.13 or 3\.14.*install one", done.stderr)


@pytest.fixture
def checkout(machine, tmp_path):
    """A checkout with the real scripts and an interpreter that only notes what it is asked."""
    folder = tmp_path / "checkout"
    (folder / ".ci").mkdir(parents=True)
    for name in ("set-up", "find-python"):
        shutil.copy(ROOT / ".ci" / name, folder / ".ci" / name)
    for name in ("pyproject.toml", "constraints.txt"):
        (folder / name).write_text("as it was\n", encoding="utf-8")
    script(
        machine[0] / "python3.13",
        f"""
        case "$1 $2" in
            "-m venv") rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
            "-m pip") [ ! -e fail ] || exit 1; echo "$*" >> installs ;;
            *) exec {sys.executable} "$@" ;;
        esac""",
    )
    return folder


def set_up(checkout, machine):
    """Run the set-up and return how many installations there have been."""
    subprocess.run([checkout / ".ci" / "set-up"], env=machine[1], check=True, capture_output=True)
    return len((checkout / "installs").read_text(encoding="utf-8").splitlines())


def test_a_second_set_up_does_not_reinstall(checkout, machine):
    assert set_up(checkout, machine) == 1
    assert set_up(checkout, machine) == 1
    assert "-c constraints.txt -e .[dev]" in (checkout / "installs").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_other_requirements_reinstall(checkout, machine, name):
    set_up(checkout, machine)
    (checkout / name).write_text("as it is now\n", encoding="utf-8")
    assert set_up(checkout, machine) == 2


def test_an_interpreter_that_has_gone_reinstalls(checkout, machine):
    set_up(checkout, machine)
    (checkout / ".venv" / "bin" / "python").unlink()
    (checkout / ".venv" / "bin" / "python").symlink_to("/no/such/python")
    assert set_up(checkout, machine) == 2


def test_a_checkout_that_has_moved_reinstalls(checkout, machine):
    set_up(checkout, machine)
    assert set_up(checkout.rename(checkout.parent / "elsewhere"), machine) == 2


def test_an_installation_that_failed_is_done_again(checkout, machine):
    (checkout / "fail").touch()
    with pytest.raises(subprocess.CalledProcessError):
        set_up(checkout, machine)
    (checkout / "fail").unlink()
    assert set_up(checkout, machine) == 1


def test_constraints_are_exact_versions_within_the_bounds_of_the_package():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {}
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line), line
        name, version = line.split("==")
        pins[name.lower().replace("_", "-")] = Version(version)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [text for group in project["optional-dependencies"].values() for text in group]
    for text in project["dependencies"] + extras:
        requirement = Requirement(text)
        if requirement.name != "hiermodels":
            assert pins[requirement.name] in requirement.specifier, text


def test_the_make_targets_print_what_they_are(tmp_path):
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    done = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True, env=os.environ
    )
    assert {line.split()[1] for line in done.stdout.splitlines()} >= {"demo", "test", "slow"}
