"""What each image holds, asked from inside."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.docker

Inside = Callable[[str, str], Any]

MODULES = {
    "train": {
        "here": ["contract", "pages", "training", "torch", "numpy", "pip", "sagemaker_training"],
        "absent": ["serving", "region", "cli", "flask", "gunicorn", "orjson"],
    },
    "serve": {
        "here": ["contract", "serving", "torch", "numpy", "flask", "gunicorn", "safetensors"],
        "absent": [
            "training",
            "pages",
            "region",
            "cli",
            "pip",
            "boto3",
            "botocore",
            "sagemaker_training",
        ],
    },
}
SIZES = json.loads((Path(__file__).parent / "sizes.json").read_text())
ROOMS = ("contract", "pages", "training", "serving", "region", "cli")
SECRETS = ("SECRET", "TOKEN", "PASSWORD", "CREDENTIAL", "AWS_", "_KEY")


def test_each_image_holds_its_own_rooms_only(kind: str, inside: Inside) -> None:
    """Rooms and third-party packages of the other image can't be found."""
    names = MODULES[kind]["here"] + MODULES[kind]["absent"]
    modules = [f"sagemaker_byoc.{name}" if name in ROOMS else name for name in names]
    found = inside(
        kind,
        "import json; from importlib.util import find_spec as find;"
        f"print(json.dumps([name for name in {modules!r} if find(name)]))",
    )
    assert found == modules[: len(MODULES[kind]["here"])]


def test_torch_and_the_trimmed_packages_work(kind: str, inside: Inside) -> None:
    """Torch computes, shares memory between processes and traces; nothing misses what was cut."""
    more = "scipy.stats, scipy.optimize, " if kind == "train" else "safetensors.torch, "
    program = (
        f"import json, torch, torch._dynamo, torch.export, numpy.testing, {more}sympy, networkx;"
        "import torch.multiprocessing as m;"
        "m.set_sharing_strategy('file_system');"
        "x = torch.ones(3).share_memory_();"
        "y = torch.export.export(torch.nn.Linear(3, 2), (x,)).module()(x);"
        "print(json.dumps([float(x.sum()), list(y.shape)]))"
    )
    assert inside(kind, program) == [3.0, [2]]


def test_no_compiler_no_caches_nothing_under_opt_ml(kind: str, inside: Inside) -> None:
    """Neither build tools nor what they leave behind are in the final stage."""
    program = """if True:
        import json, os, shutil
        tools = [name for name in ("gcc", "cc", "g++", "c++", "make") if shutil.which(name)]
        folders = ("/root/.cache", "/opt/ml", "/mnt", "/tmp", "/var/lib/apt/lists")
        files = [os.path.join(at, name) for folder in folders
                 for at, _, names in os.walk(folder) for name in names if name != "lock"]
        print(json.dumps([tools, files, os.path.exists("/opt/ml")]))
    """
    assert inside(kind, program) == [[], [], False]


def test_everything_is_compiled_and_readable_for_any_user(kind: str, inside: Inside) -> None:
    """Each module of ours and of the program has its bytecode, and no file is root's alone."""
    program = """if True:
        import glob, json, os
        from importlib.util import cache_from_source
        import sagemaker_byoc
        folders = (os.path.dirname(sagemaker_byoc.__file__), "/opt/program")
        ours = [f for root in folders for f in glob.glob(root + "/**/*.py", recursive=True)]
        bare = [f for f in ours if not os.path.exists(cache_from_source(f))]
        torch = glob.glob("/opt/venv/lib/python3*/site-packages/torch/*.py")
        bare += [f for f in torch if not os.path.exists(cache_from_source(f))]
        closed = [os.path.join(at, f) for root in ("/opt/venv", "/opt/program")
                  for at, _, names in os.walk(root) for f in names
                  if not os.stat(os.path.join(at, f)).st_mode & 0o004]
        print(json.dumps([len(ours) > 10, bare, closed]))
    """
    assert inside(kind, program) == [True, [], []]


def test_what_torch_does_not_need_stays_below_its_ceiling(kind: str, inside: Inside) -> None:
    """All of /opt, less torch, what torch requires, and numpy: as they lie in the same image.

    Whoever raises a ceiling says why in benchmarks/images.md.
    """
    program = """if True:
        import json, os, re
        from importlib import metadata
        needed, names = {}, ["torch", "numpy"]
        while names:
            name = names.pop()
            try:
                found = metadata.distribution(name)
            except metadata.PackageNotFoundError:
                continue  # for another platform
            if found.name not in needed:
                places = [found.locate_file(file) for file in found.files]
                needed[found.name] = sum(os.lstat(p).st_size for p in places if os.path.lexists(p))
                wishes = [wish for wish in found.requires or () if "extra ==" not in wish]
                names += [re.match(r"[\\w.-]+", wish)[0] for wish in wishes]
        everything = sum(os.lstat(os.path.join(at, name)).st_size
                         for at, _, names in os.walk("/opt") for name in names)
        print(json.dumps([sorted(needed), everything - sum(needed.values())]))
    """
    needed, overhead = inside(kind, program)
    assert {"torch", "numpy", "sympy"} <= set(needed)
    assert overhead <= SIZES["overhead_bytes"][kind], f"{overhead / 1e6:.1f} MB"


def test_no_secrets(kind: str, inside: Inside, images: dict[str, dict[str, Any]]) -> None:
    """No credential in the environment, nor a file of the kind that usually holds one."""
    names = [pair.split("=")[0] for pair in images[kind]["Config"]["Env"]]
    assert [name for name in names if any(word in name for word in SECRETS)] == []
    program = """if True:
        import json, os
        wanted = {".netrc", ".pypirc", ".env", "credentials", "id_rsa", "id_ed25519", "pip.conf"}
        roots = ("/root", "/home", "/opt/program", "/etc", "/mnt")
        print(json.dumps([os.path.join(at, n) for root in roots
                          for at, dirs, names in os.walk(root) for n in wanted & {*names, *dirs}]))
    """
    assert inside(kind, program) == []


@pytest.mark.parametrize(("kind", "command"), [("train", "train"), ("serve", "serve")])
def test_the_command_on_the_path_is_ours(kind: str, command: str, inside: Inside) -> None:
    """`train` runs our supervisor, although sagemaker-training installs a script of that name."""
    program = f"import json, shutil; print(json.dumps(open(shutil.which({command!r})).read()))"
    room = {"train": "training", "serve": "serving"}[kind]
    assert f"-m sagemaker_byoc.{room} {command}" in inside(kind, program)
