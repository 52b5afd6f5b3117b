"""Shell scripts parse, stay without logic of their own, and setup says what is wrong."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pfnano_tag.card import read_card

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted([*(ROOT / "scripts").glob("*.sh"), *(ROOT / "condor").glob("*.sh"), *(ROOT / "slurm").glob("*.sh")])
SERVICES = sorted((ROOT / "tests" / "integration").glob("*.sh"))
COMMANDS = sorted({path.parent.name for path in (ROOT / "pfnano_tag").glob("*/__main__.py")} | {"inspect"})
SOURCED = {"activate.sh", "unpack.sh"}


def bash(*arguments, **options):
    return subprocess.run(["bash", *map(str, arguments)], capture_output=True, text=True, timeout=120, **options)


@pytest.mark.parametrize(
    "path", [*SCRIPTS, *SERVICES, ROOT / ".ci" / "run"], ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_script(path):
    assert bash("-n", path).returncode == 0
    text = path.read_text(encoding="utf-8")
    if path.name not in SOURCED:
        assert text.startswith("#!/usr/bin/env bash\n#")
        assert "\nset -euo pipefail\n" in text
        assert os.access(path, os.X_OK)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck():
    done = subprocess.run(
        ["shellcheck", *map(str, [*SCRIPTS, *SERVICES])], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_script_that_only_starts_it(command):
    lines = (ROOT / "scripts" / f"{command}.sh").read_text(encoding="utf-8").splitlines()
    assert lines[2:] == [
        "set -euo pipefail",
        'source "$(dirname "${BASH_SOURCE[0]}")/activate.sh"',
        f'exec python -m pfnano_tag.{command} "$@"',
    ]


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_commands_in_documents_exist(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    modules = set(re.findall(r"python -m (pfnano_tag[\w.]*\w)", text))
    assert {module.removeprefix("pfnano_tag").lstrip(".") for module in modules} <= {*COMMANDS, ""}
    for script in re.findall(r"(?:scripts|condor|slurm)/\w+\.(?:sh|sub)", text):
        assert (ROOT / script).is_file(), f"{document} names {script}"


def test_the_card_of_the_readme_is_valid_and_has_the_models_of_its_commands(tmp_path):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    cards = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    assert len(cards) == 1
    path = tmp_path / "study.yaml"
    path.write_text(cards[0], encoding="utf-8")
    models = read_card(path).models
    assert set(re.findall(r"study\.yaml --model (\w+)", text)) <= models.keys()


@pytest.fixture
def checkout(tmp_path):
    """Make a copy of what setup needs, in a folder with a space and a quote."""
    folder = tmp_path / "a user's checkout"
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    for name in ("pyproject.toml", "constraints.txt", "environment.yml"):
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture
def tools(tmp_path):
    """Return a function that puts a stand-in into a folder that is all of PATH but the system's tools."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in ("bash", "cat", "cksum", "dirname", "grep", "cp", "rm", "mkdir", "sed", "mktemp", "touch", "env"):
        (folder / name).symlink_to(shutil.which(name))

    def add(name: str, script: str) -> dict[str, str]:
        (folder / name).write_text(f"#!/usr/bin/env bash\n{script}\n")
        (folder / name).chmod(0o755)
        return {"PATH": str(folder), "LOG": str(tmp_path / "log")}

    add("true", "exit 0")
    return add


PYTHON = """
echo "$0 $*" >>"$LOG"
case "$*" in
  *"(3, 10)"*) exit "${UNSUPPORTED:-0}" ;;
  *ensurepip*) exit "${NO_VENV:-0}" ;;
  *"!= (3, 11)"*) exit "${NOT_3_11:-0}" ;;
  "-m venv .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
esac
"""


def test_setup_makes_a_venv_once(checkout, tools, tmp_path):
    environment = tools("python3.11", PYTHON)
    first = bash(checkout / "scripts/setup.sh", env=environment, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    calls = (tmp_path / "log").read_text()
    assert re.search(r"-m pip install .*--constraint \S+.* torch==[\d.]+\n", calls)
    assert re.search(r"-m pip install .*--editable \.\[cms,generate,log,fit,onnx,tables,test\]\n", calls)
    second = bash(checkout / "scripts/setup.sh", env=environment, cwd=tmp_path)
    assert "nothing to do" in second.stdout
    assert (tmp_path / "log").read_text() == calls
    with (checkout / "constraints.txt").open("a") as file:
        file.write("# changed\n")
    assert "nothing to do" not in bash(checkout / "scripts/setup.sh", env=environment, cwd=tmp_path).stdout


def test_setup_takes_another_torch(checkout, tools, tmp_path):
    environment = {**tools("python3.11", PYTHON), "PFNANO_TAG_TORCH": "torch==9.9 --index-url https://x.invalid/"}
    assert bash(checkout / "scripts/setup.sh", env=environment).returncode == 0
    assert re.search(r"pip install .* torch==9\.9 --index-url https://x\.invalid/\n", (tmp_path / "log").read_text())
    assert "\ntorch==" not in (checkout / ".venv/constraints.txt").read_text()


def test_setup_leaves_the_generator_out_where_it_has_no_wheels(checkout, tools, tmp_path):
    environment = {**tools("python3.12", PYTHON), "NOT_3_11": "1"}
    done = bash(checkout / "scripts/setup.sh", env=environment)
    assert "the embedded generator is left out" in done.stdout
    assert "--editable .[cms,log,fit,onnx,tables,test]\n" in (tmp_path / "log").read_text()


def test_setup_names_what_is_missing(checkout, tools):
    environment = tools("true", "exit 0")
    nothing = bash(checkout / "scripts/setup.sh", env=environment)
    assert (nothing.returncode, "no Python 3.10 to 3.13 found" in nothing.stderr) == (2, True)
    environment = tools("python3", PYTHON)
    old = bash(checkout / "scripts/setup.sh", env={**environment, "UNSUPPORTED": "1"})
    assert (old.returncode, "no Python 3.10 to 3.13 found" in old.stderr) == (2, True)
    bare = bash(checkout / "scripts/setup.sh", env={**environment, "NO_VENV": "1"})
    assert (bare.returncode, "has no module venv" in bare.stderr) == (2, True)
    for kind, words in (("conda", "none of micromamba, mamba, conda"), ("docker", "PFNANO_TAG_ENV is 'docker'")):
        wrong = bash(checkout / "scripts/setup.sh", env={**environment, "PFNANO_TAG_ENV": kind})
        assert (wrong.returncode, words in wrong.stderr) == (2, True)
    assert not (checkout / ".venv/pfnano_tag.stamp").exists()


@pytest.mark.parametrize("tool", ["conda", "mamba", "micromamba"])
def test_setup_prefers_conda(checkout, tools, tmp_path, tool):
    tools("python3.11", PYTHON)
    environment = tools(
        tool,
        'echo "$*" >>"$LOG"\nfor file; do :; done\ncat "$file" >"$LOG.yml"\n'
        'mkdir -p .conda/bin; printf "#!/usr/bin/env bash\\n" >.conda/bin/python\n'
        "while read -r _; do :; done </dev/null\n"
        'env -i "$(command -v bash)" -c : || true\n[ -w .conda/bin/python ] && /bin/chmod +x .conda/bin/python',
    )
    done = bash(checkout / "scripts/setup.sh", env={**environment, "PFNANO_TAG_TORCH": "pytorch=2.9.*=cuda*"})
    assert done.returncode == 0, done.stderr
    call = (tmp_path / "log").read_text()
    assert f"--prefix {checkout}/.conda" in call
    assert call.startswith("create" if tool == "micromamba" else "env create")
    assert "\n  - pytorch=2.9.*=cuda*\n" in (tmp_path / "log.yml").read_text()
    refused = bash(checkout / "scripts/setup.sh", env={**environment, "PFNANO_TAG_ENV": "venv"})
    assert "making a venv" in refused.stdout


def test_scripts_ask_for_setup_first(checkout):
    done = bash(checkout / "scripts/inspect.sh", "--help", env={"PATH": os.environ["PATH"]})
    assert (done.returncode, "setup.sh" in done.stderr) == (2, True)


def test_scripts_pass_their_arguments_on_as_they_are(checkout, tmp_path):
    python = checkout / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/usr/bin/env bash\nprintf "<%s>" "$@"\n')
    python.chmod(0o755)
    (checkout / ".venv/pfnano_tag.stamp").touch()
    done = bash(checkout / "scripts/infer.sh", "a card.yaml", "it's.root", "", cwd=tmp_path)
    assert done.stdout == "<-m><pfnano_tag.infer><a card.yaml><it's.root><>"


STEPS = ["generate", "prepare", "train", "train", "attack", "evaluate", "submit", "compare"]

DEMO_PYTHON = """
case "$1" in
  -c) case "$2" in *models*) printf '%s\\n' second first ;; *calibration*) echo "$FLAVOURS" ;; esac; exit 0 ;;
esac
echo "${2#pfnano_tag.}|$*" >>"$LOG"
[ "$2" != "pfnano_tag.$FAILS" ] || exit 75
mkdir -p "$FOLDER/comparison"
echo "| the table |" >"$FOLDER/comparison/table.md"
"""


@pytest.fixture
def demo(checkout, tmp_path):
    """Return a function that runs the demo with a stand-in for python; gives the process and the commands."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f"#!/usr/bin/env bash\n{DEMO_PYTHON}")
    python.chmod(0o755)
    folder, log = tmp_path / "it's here", tmp_path / "log"

    def run(fails="", *arguments, flavours=""):
        environment = {"PATH": f"{python.parent}:{os.environ['PATH']}", "PFNANO_TAG_ENV": "current"}
        environment |= {"LOG": str(log), "FAILS": fails, "FOLDER": str(folder), "FLAVOURS": flavours}
        done = bash(checkout / "scripts/demo.sh", folder, *arguments, env=environment, cwd=tmp_path)
        return done, [line.split("|") for line in log.read_text().splitlines()]

    return run


def test_the_demo_runs_every_stage_and_prints_times(demo, tmp_path):
    done, calls = demo()
    assert done.returncode == 0, done.stderr
    assert sorted(name for name, _ in calls[4:6]) == STEPS[4:6]  # these two run side by side
    assert [name for name, _ in [*calls[:4], *calls[6:]]] == [*STEPS[:4], *STEPS[6:]]
    assert all(
        f"demo --set study.folder='{str(tmp_path).replace(chr(39), 2 * chr(39))}/it''s here'" in c for _, c in calls
    )
    assert {call.split("--model ")[1].split()[0] for name, call in calls if name == "train"} == {"first", "second"}
    rows = re.findall(r"^([\w+]+) +[\d.]+ +[\d.]+$", done.stdout, flags=re.MULTILINE)
    assert rows == ["setup", "generate", "prepare", "train", "evaluate+attack", "analyze", "compare", "all"]
    assert "| the table |" in done.stdout


def test_the_demo_takes_another_card(demo):
    done, calls = demo("", "regions")
    assert done.returncode == 0, done.stderr
    assert all("regions --set study.folder=" in arguments for _, arguments in calls)


def test_the_demo_calibrates_where_the_card_says_so(demo):
    done, calls = demo("", "regions", flavours="b c light")
    assert done.returncode == 0, done.stderr
    assert [name for name, _ in calls][-2:] == ["compare", "calibrate"]
    assert "/calibration\n" in done.stdout
    done, calls = demo("calibrate", "regions", flavours="b c light")
    assert (done.returncode, "the demo stopped at step 'calibrate'" in done.stderr) == (75, True)


STOPS = [
    ("prepare", "prepare"),
    ("train", "train"),
    ("attack", "evaluate+attack"),
    ("evaluate", "evaluate+attack"),
    ("submit", "analyze"),
]


@pytest.mark.parametrize(("command", "step"), STOPS)
def test_the_demo_stops_at_the_first_failure_and_names_it(demo, command, step):
    done, calls = demo(fails=command)
    assert done.returncode != 0
    assert f"the demo stopped at step '{step}'" in done.stderr
    assert command in {name for name, _ in calls[-2:]}
