"""A program's requirements are installed, and what the image promises stays as it is."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from sagemaker_byoc.contract import requirements
from sagemaker_byoc.contract.requirements import (
    ConflictError,
    cause,
    constraints,
    held,
    require_no_archives,
)

PIP = Path(sys.executable).with_name("pip")
SOURCES = Path(requirements.__file__).parents[2]
IMAGE = {
    "torch": "2.13.0+cpu",
    "nvidia-cublas-cu12": "12.8.4.1",
    "numpy": "2.4.6",
    "flask": "3.1.3",
    "gunicorn": "27.0.1",
    "werkzeug": "3.1.4",
    "scipy": "1.17.0",
}


def test_what_is_held():
    """torch with what belongs to its CUDA and the server as they are, numpy in its major version;
    any other package may change."""
    assert constraints(held(IMAGE)) == [
        "flask==3.1.3",
        "gunicorn==27.0.1",
        "numpy>=2,<3",
        "nvidia-cublas-cu12==12.8.4.1",
        "torch==2.13.0+cpu",
    ]


@pytest.mark.parametrize(
    ("replace", "left"),
    [
        ("torch", {"flask", "gunicorn", "numpy"}),
        ("Flask, numpy", {"gunicorn", "nvidia-cublas-cu12", "torch"}),
        ("nvidia_cublas.cu12", {"flask", "gunicorn", "numpy", "torch"}),
        ("all", set()),
    ],
)
def test_what_may_be_replaced_is_named(replace, left):
    assert set(held(IMAGE, replace)) == left


def test_a_name_that_is_not_held_is_refused():
    """It would have no effect, and a misspelt one would not be noticed."""
    with pytest.raises(ConflictError, match=r"torhc is not held.* flask, gunicorn, numpy, torch"):
        held(IMAGE, "torhc")


NO_COMPILER = """\
  error: subprocess-exited-with-error
  ╰─> [6 lines of output]
      error: [Errno 2] No such file or directory: 'gcc'
  ERROR: Failed building wheel for needsc
ERROR: Could not build wheels for needsc, which is required to install pyproject.toml-based projects
"""
TWO = """\
The conflict is caused by:
    The user requested pandas==2
    jaxy 0.9 depends on pandas>=3

ERROR: ResolutionImpossible: for help visit x
"""


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (NO_COMPILER, "Failed building wheel for needsc"),
        (TWO, "conflict: requirements.txt asks for pandas==2; jaxy 0.9 asks for pandas>=3"),
        ("", "pip said nothing"),
        (
            "    The user requested torch<2.5\n    The user requested (constraint) torch==2.13.0\n",
            (
                "requirements.txt asks for torch<2.5, and this image holds torch 2.13.0+cpu: take "
                "that line out; choose the image's torch with --build-arg TORCH=…; or allow it with"
            ),
        ),
        (
            "    The user requested flask<2\n    The user requested (constraint) flask==3.1.3\n",
            "asks for flask<2, and this image holds flask 3.1.3: take that line out; or allow it",
        ),
        ("ERROR: No matching distribution found for torch==9\n", "this image holds torch 2.13.0"),
    ],
)
def test_the_cause_in_pips_words(said, expected):
    assert expected in cause(said, held(IMAGE))


@pytest.mark.parametrize(
    "line",
    [
        "torch @ https://user:pw@example.com/torch-2.1.0-cp311-cp311-linux_x86_64.whl",
        "Torch[opt-einsum]@file:///wheels/torch.whl",
        "https://download.pytorch.org/whl/cpu/torch-2.1.0%2Bcpu-cp311-cp311-linux_x86_64.whl",
        "./wheels/torch-2.1.0-cp311-none-any.whl ; python_version > '3'",
        "./sdist/torch-2.1.0.tar.bz2",
        "https://example.com/torch-2.1.0.tgz",
        "git+https://example.com/pytorch.git@v2.1.0#egg=torch",
        "https://example.com/main.zip#subdirectory=x&egg=torch",
        "torch \\\r\n @ https://example.com/x.whl",
        "-e git+ssh://git@github.com/pytorch/pytorch#subdirectory=x&egg=torch",
        "--editable=git+https://github.com/pallets/flask#egg=Flask",
        "-r more.txt",
    ],
)
def test_a_held_package_from_a_url_is_not_downloaded(line, tmp_path):
    """pip would install it whatever its version is, after gigabytes of a download."""
    (tmp_path / "more.txt").write_text("flask @ git+https://example.com/flask.git\n-r more.txt\n")
    file = tmp_path / "requirements.txt"
    file.write_text(f"# torch @ x\n{line}\n")
    with pytest.raises(ConflictError, match=r"this image holds (torch 2\.13\.0|flask 3\.1\.3)"):
        require_no_archives(file, held(IMAGE))
    require_no_archives(file, {"orjson": "1"})


def test_requirements_that_name_each_other_are_read_once(tmp_path):
    """Not once for each way through them, of which there are 20 to the power of any depth."""
    for name, other in (("a.txt", "b.txt"), ("b.txt", "./a.txt")):
        (tmp_path / name).write_text(f"-r {other}\n" * 20 + f"torch @ file:///{name}\n")
    with pytest.raises(ConflictError, match="another torch"):
        require_no_archives(tmp_path / "a.txt", held(IMAGE))
    require_no_archives(tmp_path / "a.txt", {})


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_file_of_another_encoding_is_read_as_pip_reads_it(encoding, tmp_path):
    file = tmp_path / "requirements.txt"
    file.write_bytes("mine\r\ntorch @ https://example.com/torch.whl\r\n".encode(encoding))
    with pytest.raises(ConflictError, match="asks for another torch"):
        require_no_archives(file, held(IMAGE))


def test_an_own_archive_is_allowed(tmp_path):
    file = tmp_path / "requirements.txt"
    file.write_text(
        "mine @ https://example.com/mine-1.0.whl\n./wheels/torchy-1.0.whl\n--pre\n-e .\n"
    )
    require_no_archives(file, held(IMAGE))


def _distribution(folder, name, version, needs=()):
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = [f"Requires-Dist: {one}\n" for one in needs]
    text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{''.join(lines)}"
    (info / "METADATA").write_text(text)
    (info / "INSTALLER").write_text("pip\n")
    (info / "RECORD").write_text(f"{info.name}/METADATA,,\n{info.name}/RECORD,,\n")


def _wheel(folder, name, version, *needs, text=""):
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        info = f"{name}-{version}.dist-info"
        file.writestr(f"{name}.py", text)
        lines = "".join(f"Requires-Dist: {one}\n" for one in needs)
        file.writestr(
            f"{info}/METADATA",
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{lines}",
        )
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")


@pytest.fixture
def image(tmp_path):
    """An environment without a pip, which says that it has the image's packages, and wheels."""
    folder = tmp_path / "image"
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    (packages,) = (folder / "venv" / "lib").glob("python3*/site-packages")
    (packages / "ours.pth").write_text(f"{SOURCES}\n")
    for name, version in IMAGE.items():
        _distribution(packages, name, version, ["numpy>=2.1"] if name == "scipy" else ())
    _distribution(packages, "broken", "1.0", ["not-there"])
    wheels = folder / "wheels"
    wheels.mkdir()
    for name, version, *needs in (
        ("torch", "2.1.0"),
        ("flask", "1.1.4"),
        ("numpy", "1.26.4"),
        ("numpy", "2.0.1"),
        ("vision", "0.16", "torch==2.1.0"),
        ("vision", "0.28", "torch==2.13.0"),
        ("webby", "1.0", "Flask<2"),
        ("mine", "1.0"),
        ("nvidia_nccl_cu12", "2.27"),
    ):
        _wheel(wheels, name, version, *needs)
    unfit = "raise RuntimeError('operator torchvision::nms does not exist')\n"
    _wheel(wheels, "torchvision", "0.28.0", "torch==2.13.0", text=unfit)
    return folder


def install(image, folder, text, *words, pip=PIP):
    (folder / "requirements.txt").write_text(text)
    command = [image / "venv/bin/python", "-I", "-m", "sagemaker_byoc.contract.requirements"]
    return subprocess.run(
        [*command, "--pip", pip, "--constraints", folder / "constraints.txt", *words],
        cwd=folder,
        env={"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(image / "wheels"), "PIP_NO_CACHE_DIR": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "torch==2.1.0\n",
            "requirements.txt asks for torch==2.1.0, and this image holds torch 2.13",
        ),
        ("vision==0.16\n", "vision 0.16 asks for torch==2.1.0, and this image holds torch 2.13"),
        ("webby\n", "webby 1.0 asks for Flask<2, and this image holds flask 3.1.3"),
        ("numpy<2\n", "requirements.txt asks for numpy<2, and this image holds numpy 2.4.6"),
        ("-r more.txt\n", "requirements.txt asks for torch==2.1.0, and this image holds torch"),
        ("-c mine.txt\nnumpy\n", "this image holds numpy 2.4.6"),
        ("absent==1\n", "absent==1"),
        (
            "torchvision\n",
            "torchvision 0.28.0 can't be imported: RuntimeError: operator torchvision::nms",
        ),
        ("numpy==2.0.1\n", "scipy 1.17.0 has requirement numpy>=2.1, but you have numpy 2.0.1"),
    ],
)
def test_what_conflicts_with_the_image(text, expected, image, tmp_path):
    """The last line names who asks for what, and the version that the image holds."""
    (tmp_path / "more.txt").write_text("torch==2.1.0\n")
    (tmp_path / "mine.txt").write_text("numpy<2\n")
    done = install(image, tmp_path, text)
    last = done.stderr.splitlines()[-1]
    assert (done.returncode, last[:14]) == (1, "requirements: ")
    assert expected in last


@pytest.mark.slow
def test_what_fits_is_installed_and_nothing_else(image, tmp_path):
    """torch is not installed again; a problem that the environment had before is not an error."""
    hashed = "torch==2.13.0 --hash=sha256:" + "0" * 64
    done = install(image, tmp_path, "torch\ntorch>=2\nvision\nmine\ntorch<1; python_version<'3'\n")
    assert done.returncode == 0, done.stderr
    assert "Successfully installed mine-1.0 vision-0.28\n" in done.stdout
    assert "Requirement already satisfied: torch" in done.stdout
    assert install(image, tmp_path, hashed).returncode == 0
    assert (tmp_path / "constraints.txt").read_text().splitlines() == constraints(held(IMAGE))


@pytest.mark.slow
def test_cuda_beside_a_torch_for_the_cpu_is_said(image, tmp_path):
    """The gigabytes of another machine's `pip freeze`."""
    done = install(image, tmp_path, "torch==2.13.0\nnvidia-nccl-cu12==2.27\n")
    assert done.returncode == 0
    assert "warning: nvidia-nccl-cu12: this image's torch is for the CPU" in done.stdout


def test_no_pip_is_one_line(image, tmp_path):
    done = install(image, tmp_path, "mine\n", pip=tmp_path / "absent")
    assert done.returncode == 1
    assert done.stderr.startswith("requirements: [Errno 2] No such file or directory")


@pytest.mark.slow
def test_no_file_only_writes_the_constraints(image, tmp_path):
    """For a Dockerfile on top: pip install --constraint."""
    (tmp_path / "elsewhere").mkdir()
    assert install(image, tmp_path, "", "--replace", "torch").returncode == 0
    assert "torch" not in (tmp_path / "constraints.txt").read_text()
