"""Why a container can't start its command. Each case was tried with runc 1.1.5 and Linux 6.18.

What docker, the kernel or the program said there is in the comments.
"""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.images import made

from sagemaker_byoc.images.check.findings import Finding, Subject, apply, roles_of
from sagemaker_byoc.images.check.rules import entry
from sagemaker_byoc.images.layers import merge, read_layer, read_program
from sagemaker_byoc.images.model import Config, Image

GLIBC = "/lib64/ld-linux-x86-64.so.2"
MUSL = "/lib/ld-musl-x86_64.so.1"
RUN = b"#!/bin/sh\necho ok\n"
BASE = {
    "bin": b"-> usr/bin",
    "usr/bin/sh": made.elf(loader=GLIBC),
    "usr/bin/bash": made.elf(loader=GLIBC),
    "usr/bin/env": made.elf(loader=GLIBC),
    "usr/bin/tini": made.elf(),
    "usr/bin/nice": made.elf(loader=GLIBC),
    "usr/bin/python3": b"-> python3.11",
    "usr/bin/python3.11": made.elf(loader=GLIBC),
    "lib64": b"-> usr/lib64",
    "usr/lib64/ld-linux-x86-64.so.2": made.elf(),
}


def image(
    files: dict[str, bytes | None] | None = None,
    plain: dict[str, bytes | None] | None = None,
    **config: object,
) -> Image:
    """Executable `files` on a small system, and `plain` ones without an x bit."""
    layers = [
        made.layer({**BASE, **(files or {})}, mode=0o755),
        made.layer(plain or {}, mode=0o644),
    ]
    merged = merge([read_layer(io.BytesIO(layer)) for layer in layers])
    settings = {"os": "linux", "architecture": "amd64", "entrypoint": ("/opt/run",), **config}
    return Image(reference="x", source="archive", config=Config(**settings), files=merged)  # type: ignore[arg-type]


def found(subject: Image, roles: frozenset[str] | None = None) -> list[Finding]:
    wanted = roles_of(subject) if roles is None else roles
    return list(apply(entry.RULES, Subject(subject, wanted or frozenset({"train"})), {}))


def nested(levels: int) -> dict[str, bytes | None]:
    files: dict[str, bytes | None] = {"opt/run": f"#!/opt/s{levels - 2}\n".encode(), "opt/s0": RUN}
    files |= {f"opt/s{n}": f"#!/opt/s{n - 1}\n".encode() for n in range(1, levels - 1)}
    return files


RUNS = {
    "static": made.elf(),
    "dynamic": made.elf(loader=GLIBC),
    "script": RUN,
    "spaces": b"#! \t /bin/sh -e \necho ok\n",
    "no newline": b"#!/bin/sh",
    "longest line": b"#!/" + b"./" * 123 + b"bin/sh\necho ok\n",
    "long argument": b"#!/bin/sh -" + b"e" * 300 + b"\necho ok\n",
    "zero in the line": b"#!/bin/sh\0foo\necho ok\n",
    "env": b"#!/usr/bin/env python3\n",
    "env -S": b"#!/usr/bin/env -S python3 -u\n",
    "env -S, CR LF": b"#!/usr/bin/env -S python3 -u\r\n",
    "relative interpreter": b"#!bin/sh\necho ok\n",
}


@pytest.mark.parametrize("kind", RUNS)
def test_it_runs(kind):
    assert found(image({"opt/run": RUNS[kind]})) == []


def test_five_scripts_may_interpret_each_other_and_six_may_not():
    """Said: too many levels of symbolic links."""
    assert found(image(nested(5))) == []
    (finding,) = found(image(nested(6)))
    assert (finding.id, "too many levels" in finding.what) == ("IMG009", True)
    assert found(image({"opt/run": b"#!/opt/run\n"}))[0].id == "IMG009"


@pytest.mark.parametrize(
    ("data", "what", "fix"),
    [
        # no such file or directory
        (b"#!/bin/sh\r\necho ok\r\n", "CR LF: it asks for `/bin/sh\\r`", "sed -i 's/\\r$//' run"),
        (b"#!/bin/sh -e\r\necho ok\n", "CR LF", "sed"),  # Illegal option -
        (b"#!/usr/bin/env python3\r\n", "`python3\\r`", "sed"),  # env: 'python3\r'
        (b"#!/nope/sh\n", "interpreter /nope/sh is not in the image", "#!/usr/bin/env"),
        (b"#!sh\n", "interpreter sh is not in the image", ""),  # relative to WORKDIR
        (b"#!/usr/bin/env nopython\n", "`nopython`, which is not on PATH", "Install nopython"),
        (b"#!/usr/bin/env python\n", "`python`", "#!/usr/bin/env python3"),
        (b"#!/usr/bin/env python3 -u\n", "`python3 -u`", "#!/usr/bin/env -S python3 -u"),
        (made.elf(loader=MUSL), f"loader {MUSL} is not in the image", "Alpine"),
        (made.elf(loader="/lib/ld-linux.so.2"), "loader /lib/ld-linux.so.2", "statically"),
        # permission denied
        (b"#!/opt/plain\n", "/opt/plain is not executable", "chmod a+x /opt/plain"),
        (b"#!/opt\n", "/opt is a folder", ""),
        (made.elf(loader="/opt/plain"), "/opt/plain is not executable", "chmod"),
        (made.elf(loader="/opt"), "/opt is a folder", ""),
        (made.elf(loader="/usr/bin/text"), "not an ELF file", ""),  # a corrupted shared library
        # exec format error
        (b"", "empty", "Copy"),
        (b"echo ok\n", "no `#!` line", "#!/bin/sh"),
        (b"import sys\n", "no `#!` line", "#!/usr/bin/env python3"),
        (b" #!/bin/sh\n", "no `#!` line", "#!/bin/sh"),
        (b"\xef\xbb\xbf#!/bin/sh\n", "byte order mark", "without BOM"),
        (b"\xff\xfe#\0!\0", "UTF-16", "UTF-8"),
        (b"#!\n", "names no interpreter", "#!/bin/sh"),
        (b"#!   \n", "names no interpreter", ""),
        (b"#!" + b" " * 300 + b"/bin/sh\n", "names no interpreter", ""),
        (b"#!/" + b"./" * 160 + b"bin/sh\n", "within 255 bytes", ""),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS", "git lfs pull"),
        (b"MZ\x90\0" + bytes(300), "Windows", "Linux"),
        (b"\xcf\xfa\xed\xfe" + bytes(300), "macOS", "Linux"),
        (b"PK\x03\x04aaaa", "zip", 'ENTRYPOINT ["python3", "/opt/run"]'),
        (made.elf(machine=183), "a program for aarch64", "--platform linux/amd64"),
        (made.elf(machine=3), "a program for i386", ""),  # with the headers of 64 bits
        (made.elf(kind=1), "object file", ""),
        (made.elf()[:4], "ends in its ELF header", "again"),
        (made.elf()[:50], "ends in its ELF header", "again"),
        (made.elf()[:64], "ends before its program headers", "again"),
        (made.elf()[:100], "ends before its program headers", "again"),
        (made.elf(size=20_000), "the file has 120 bytes of 20000", "again"),  # exit code 139
    ],
)
def test_the_program_of_entrypoint_does_not_run(data, what, fix):
    files = {"opt/run": data, "usr/bin/text": b"x" * 100}
    (finding,) = found(image(files, {"opt/plain": RUN}))
    assert (finding.id, finding.severity) == ("IMG009", "error")
    assert what in finding.what
    assert fix in finding.fix
    assert "/opt/run" in finding.where


def test_glibc_is_missing_on_alpine():
    files = {
        "opt/run": made.elf(loader="/lib/ld-linux-x86-64.so.2"),
        "lib/ld-musl-x86_64.so.1": b"x",
    }
    (finding,) = found(image(files))
    assert "Alpine has musl" in finding.fix


def test_a_program_of_another_machine_is_one_finding_with_the_image():
    """IMG003 names it where the whole image is for another machine."""
    assert found(image({"opt/run": made.elf(machine=183)}, architecture="arm64")) == []


def test_loader_behind_other_data_is_found():
    """patchelf puts the path of the loader, and headers, at the file's end."""
    program = bytearray(made.elf(loader=MUSL))
    name = program[-len(MUSL) - 1 :]
    program[64 + 56 + 8 : 64 + 56 + 16] = (10_000).to_bytes(8, "little")
    program = program[: -len(name)].ljust(10_000, b"x") + name
    assert MUSL in found(image({"opt/run": bytes(program)}))[0].what


@pytest.mark.parametrize(
    ("entry_point", "folder", "ends"),
    [
        ("./run", "/opt", None),
        ("opt/run", "", None),
        ("../opt//./run", "/usr", None),
        ("/../../opt/run", "", None),
        ("/links/absolute", "", None),
        ("/links/up", "", None),
        ("/links/via", "", None),
        ("/links/40", "", None),
        ("/links/41", "", "too many levels of symbolic links"),
        ("/links/loop", "", "too many levels of symbolic links"),
        ("/links/dangling", "", "no such file or directory (through /nope)"),
        ("/opt/run/", "", "not a directory"),
        ("/opt/run/x", "", "not a directory"),
        ("./run", "/usr", "no such file or directory"),
        ("/opt", "", "is a folder"),
        ("/links/folder", "", "is a folder"),
        ("./run", "/opt/run", "WORKDIR /opt/run is a file"),
        ("/opt/run", "/made/by/docker", None),
    ],
)
def test_paths_lead_where_the_kernel_goes(entry_point, folder, ends):
    links = {
        "absolute": "/opt/run",
        "up": "../../../../opt/run",
        "via": "../usr/../opt/run",
        "loop": "loop",
        "dangling": "/nope",
        "folder": "/opt",
        "1": "/opt/run",
        **{str(number): str(number - 1) for number in range(2, 42)},
    }
    files = {f"links/{name}": f"-> {target}".encode() for name, target in links.items()}
    findings = found(image({"opt/run": RUN, **files}, entrypoint=(entry_point,), folder=folder))
    assert [finding.id for finding in findings] == ([] if ends is None else ["IMG009"])
    assert ends is None or findings[0].what.endswith(ends) or ends in findings[0].what


@pytest.mark.parametrize(
    ("path", "folder", "problem"),
    [
        ("/a:/b:/c", "", None),  # a folder, and a file without an x bit, are passed over
        ("/usr/bin/../..//c/.", "", None),
        ("/a:/b", "", "/b/prog is not executable (mode 644)"),
        ("/a", "", "no program `prog` on PATH"),
        ("", "/c", "no program `prog` on PATH"),
        ("c", "/", "relative entry 'c'"),  # cannot run executable found relative to …
        (":/bin", "/c", "relative entry ''"),
    ],
)
def test_a_bare_name_is_searched_in_path(path, folder, problem):
    subject = image(
        {"a/prog": None, "c/prog": RUN},
        {"b/prog": RUN},
        entrypoint=("prog",),
        folder=folder,
        environment={"PATH": path},
    )
    findings = found(subject)
    assert [finding.id for finding in findings] == ([] if problem is None else ["IMG009"])
    assert problem is None or problem in findings[0].what


def test_without_a_path_docker_has_its_own():
    assert found(image(entrypoint=("python3", "-m", "x"))) == []
    assert found(image({"usr/local/bin/train": RUN}, entrypoint=())) == []


@pytest.mark.parametrize(
    ("mode", "user", "runs"),
    [
        (0o700, "", True),
        (0o700, "root", True),
        (0o700, "1000", False),
        (0o700, "app", False),
        (0o711, "1000:1000", True),
        (0o750, "1000", True),  # the group may be the user's
        (0o001, "", True),
    ],
)
def test_the_user_needs_the_x_bit(mode, user, runs):
    layers = [
        made.layer({**BASE, "opt/run": RUN}, mode=0o755),
        made.layer({"opt/run": RUN, "etc/passwd": b"app:x:1000:1000::/:/bin/sh\n"}, mode=mode),
    ]
    files = merge([read_layer(io.BytesIO(layer)) for layer in layers])
    config = Config(os="linux", architecture="amd64", entrypoint=("/opt/run",), user=user)
    findings = found(Image(reference="x", source="archive", config=config, files=files))
    assert [finding.id for finding in findings] == ([] if runs else ["IMG009"])


@pytest.mark.parametrize(
    ("user", "known"),
    [("app", True), ("app:app", True), ("1000:1000", True), ("nobody", False), ("app:no", False)],
)
def test_the_user_exists(user, known):
    """Said: unable to find user nobody: no matching entries in passwd file."""
    files = {
        "opt/run": RUN,
        "etc/passwd": b"root:x:0:0::/:\napp:x:1000:1000::/:\n",
        "etc/group": b"app:x:1000:\n",
    }
    findings = found(image(files, user=user))
    assert [finding.id for finding in findings] == ([] if known else ["IMG015"])


CR = b"# comment\n\nset -e\r\nexec python3 /opt/train.py\r\n"


@pytest.mark.parametrize(
    ("entrypoint", "script", "is_found"),
    [
        (("/opt/run",), b"#!/bin/sh\n" + CR, True),  # set: Illegal option -
        (("/opt/run",), b"#!/usr/bin/env bash\n" + CR, True),
        (("/opt/run",), b"#!/usr/bin/env -S bash -e\n" + CR, True),
        (("sh", "/opt/run"), b"#!/bin/sh\r\n" + CR, True),
        (("bash", "/opt/run"), CR, True),
        (("tini", "--", "bash", "/opt/run"), CR, True),
        (("bash", "/opt/run"), CR.replace(b"\r", b""), False),
        (("bash", "/opt/run"), b"printf 'a\r\n'\ncat <<X\na: b\r\nX\n", False),
        (("python3", "/opt/run"), b"print(1)\r\nprint(2)\r\n", False),
        (("/opt/run",), b"#!/usr/bin/python3\nprint(1)\r\nprint(2)\r\n", False),
    ],
)
def test_a_shell_takes_a_carriage_return_for_part_of_a_command(entrypoint, script, is_found):
    findings = found(image({"opt/run": script, "opt/train.py": b""}, entrypoint=entrypoint))
    assert [finding.id for finding in findings] == (["IMG009"] if is_found else [])
    assert not is_found or "CR LF" in findings[0].what


@pytest.mark.parametrize(
    ("line", "is_shell_form", "fix"),
    [
        ("exec python3 /opt/train.py", False, ""),
        (". /opt/activate; exec python3 /opt/train.py 2>&1", False, ""),
        ("source /opt/activate && exec python3 /opt/train.py", False, ""),
        ("cd /opt\nexec python3 train.py", False, ""),
        ("python3 /opt/train.py", True, 'ENTRYPOINT ["python3", "/opt/train.py"]'),
        ("exec_it", True, 'ENTRYPOINT ["exec_it"]'),
        ("exec_it; python3 a.py", True, 'a script that ends in `exec program "$@"`'),
        ("a && exec b; c", True, "a script that ends"),
        ("a | exec b", True, "a script that ends"),
    ],
)
def test_a_shell_that_is_replaced_in_the_end_passes_signals_on(line, is_shell_form, fix):
    subject = image({"opt/train.py": b""}, entrypoint=("/bin/sh", "-c", line))
    findings = [one for one in found(subject, frozenset({"train"})) if one.id == "IMG006"]
    assert bool(findings) == is_shell_form
    assert not findings or fix in findings[0].fix


@pytest.mark.parametrize(
    ("words", "is_found"),
    [
        (('exec python3 /opt/train.py "$@"',), True),  # "$@" is empty, and $0 is `train`
        (('exec python3 /opt/train.py "${@}"',), True),
        (('exec python3 /opt/train.py "$1"',), True),
        (('exec python3 /opt/train.py "$@"', "sh"), False),
        (("exec python3 /opt/train.py $0",), False),
        (('exec python3 /opt/train.py "$0" "$@"',), False),
    ],
)
def test_the_first_word_after_a_shells_line_is_its_name(words, is_found):
    """Tried: sh -c 'echo "$@"' train prints an empty line."""
    subject = image({"opt/train.py": b""}, entrypoint=("/bin/sh", "-c", *words))
    findings = found(subject, frozenset({"train", "serve"}))
    assert [finding.id for finding in findings] == (["IMG006"] if is_found else [])
    assert not is_found or '"--"' in findings[0].fix


def test_a_link_to_nothing_on_path_is_named():
    (finding,) = found(image({"usr/bin/train": b"-> /nope"}, entrypoint=()), frozenset({"train"}))
    assert finding.id == "IMG007"
    assert finding.what.endswith("(/usr/bin/train links to /nope)")


TRAIN = {"usr/bin/train": RUN}
WRAP = b'#!/bin/sh\n# comment\nset -e\nexec "$@"\n'


@pytest.mark.parametrize(
    ("entrypoint", "files", "expected"),
    [
        ((), {}, ["IMG007"]),
        ((), TRAIN, []),
        ((), {"usr/bin/train": b"#!/bin/sh\r\n"}, ["IMG008"]),
        (("tini", "--"), TRAIN, ["IMG010"]),
        (("tini", "-g", "--", "nice", "-n", "5"), TRAIN, []),
        (("tini", "-g", "--", "nice", "-n", "5"), {}, ["IMG007"]),
        (("tini", "--", "/opt/run"), {"opt/run": RUN}, []),
        (("tini", "--", "/opt/run"), {}, ["IMG009"]),
        (("tini", "--", "/opt/run"), {"opt/run": b"#!/bin/sh\r\n"}, ["IMG009"]),
        (("tini", "--", "/opt/run"), {"opt/run": made.elf(machine=183)}, ["IMG009"]),
        (("tini", "--", "/opt/run"), {"opt/run": b"echo ok\n"}, []),  # execvp gives it to sh
        (("env", "A=b", "-u", "C"), TRAIN, []),
        (("env", "A=b"), {}, ["IMG007"]),
        (("env", "PATH=/opt"), {}, []),
        (("sh", "-c"), TRAIN, []),
        (("sh", "-c"), {}, ["IMG007"]),
        (("bash", "-lc"), {}, []),  # /etc/profile sets PATH
        (("/opt/run",), {"opt/run": WRAP, **TRAIN}, []),
        (("/opt/run",), {"opt/run": WRAP}, ["IMG007"]),
        (("/opt/run", "python3"), {"opt/run": WRAP}, []),
        (("/opt/run",), {"opt/run": WRAP, "usr/bin/train": b""}, []),  # sh runs an empty script
        (("/opt/run",), {"opt/run": WRAP.replace(b"set -e", b"export PATH=/x:$PATH")}, []),
        (("/opt/run",), {"opt/run": WRAP.replace(b"set -e", b'set -- python3 "$@"')}, []),
        (("/opt/run",), {"opt/run": b'#!/bin/sh\nexec python3 "$@"\n'}, []),
        (("python3", "/opt/train.py"), {"opt/train.py": b""}, []),
        (("python3", "-u", "/opt/train.py"), {}, ["IMG009"]),
        (("python3", "/opt/ml/code/train.py"), {}, []),  # comes with the job
        (("python3", "-m", "train"), {}, []),
        (("python3", "train.py"), {"train.py": b""}, []),
        (("python3", "train.py"), {"opt/train.py": b""}, ["IMG009"]),  # WORKDIR is /
        (("bash", "/opt/start.sh"), {}, ["IMG009"]),
        (("bash", "start.sh"), {"usr/bin/start.sh": RUN}, []),
        (
            ("dumb-init", "--single-child", "/opt/run"),
            {"usr/bin/dumb-init": made.elf()},
            ["IMG009"],
        ),
        (("timeout", "-k", "5", "60", "/opt/run"), {"usr/bin/timeout": made.elf()}, ["IMG009"]),
        (("taskset", "-c", "0", "/opt/run"), {"usr/bin/taskset": made.elf()}, ["IMG009"]),
        (("stdbuf", "-oL", "/opt/run"), {"usr/bin/stdbuf": made.elf()}, ["IMG009"]),
        (("gosu", "app", "/opt/run"), {"usr/bin/gosu": made.elf()}, ["IMG009"]),
        (("nice", "-10", "/opt/run"), {}, []),  # an option that is not in the table
        (("unknown-wrapper", "x"), {"usr/bin/unknown-wrapper": RUN}, []),
    ],
)
def test_wrappers_are_looked_through(entrypoint, files, expected):
    findings = found(image(files, entrypoint=entrypoint), frozenset({"train"}))
    assert [finding.id for finding in findings] == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("/bin/sh", "-c", "python3 /opt/x.py"), True),
        (("/bin/bash", "-lc", "python3 /opt/x.py"), True),
        (("/bin/bash", "-o", "pipefail", "-c", "python3 /opt/x.py"), True),
        (("/bin/bash", "-eo", "pipefail", "-c", "python3 /opt/x.py"), True),
        (("/bin/bash", "-l", "-c", "python3 /opt/x.py"), True),
        (("/bin/bash", "--login", "-c", "python3 /opt/x.py"), True),
        (("/bin/sh", "-c", "python3 /opt/x.py", "name"), True),
        (("/bin/sh", "-c", 'python3 /opt/x.py "$0"'), False),
        (("/bin/sh", "-c", 'exec python3 /opt/x.py "$@"', "name"), False),
        (("/bin/sh", "-c", "exec python3 /opt/x.py"), False),  # one role needs no argument
        (("/bin/bash", "-lc"), False),
        (("/bin/bash", "/opt/x.sh"), False),
    ],
)
def test_shell_form_drops_the_argument(words, expected):
    files = {"opt/x.py": RUN, "opt/x.sh": RUN}
    findings = found(image(files, entrypoint=words), frozenset({"train"}))
    assert ("IMG006" in [finding.id for finding in findings]) is expected


def test_exec_alone_does_not_pass_the_role_on():
    subject = image({"opt/x": RUN}, entrypoint=("/bin/sh", "-c", "exec /opt/x"))
    assert [finding.id for finding in found(subject, frozenset({"train", "serve"}))] == ["IMG006"]


def test_single_quotes_are_named():
    """Docker takes what is not JSON for a shell command. Said: sh: 1: [python3,: not found."""
    line = "['python3', '/opt/x.py']"
    (finding,) = found(image(entrypoint=("/bin/sh", "-c", line)), frozenset({"train"}))
    assert (finding.id, "not JSON" in finding.what) == ("IMG006", True)
    assert 'ENTRYPOINT ["python3", "/opt/x.py"], in double quotes' in finding.fix


def test_one_cause_of_both_roles_is_one_finding():
    assert len(found(image(), frozenset({"train", "serve"}))) == 1
    both = found(image(entrypoint=()), frozenset({"train", "serve"}))
    assert [finding.what.split("`")[1] for finding in both] == ["serve", "train"]


def test_hard_links_and_folders_without_entries():
    """What tar writes for one file with two names; some builders leave out the folders."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, link in (("deep/down/run", ""), ("opt/run", "deep/down/run")):
            entry_ = tarfile.TarInfo(name)
            entry_.mode, entry_.size = 0o755, 0 if link else len(b"#!/bin/sh\r\n")
            entry_.type, entry_.linkname = (tarfile.LNKTYPE, link) if link else (b"0", "")
            tar.addfile(entry_, io.BytesIO(b"#!/bin/sh\r\n"))
    layers = [made.layer(BASE, mode=0o755), buffer.getvalue()]
    files = merge([read_layer(io.BytesIO(layer)) for layer in layers])
    config = Config(os="linux", architecture="amd64", entrypoint=("/deep/down/../../opt/run",))
    (finding,) = found(Image(reference="x", source="archive", config=config, files=files))
    assert "CR LF" in finding.what


def test_a_link_in_place_of_a_folder_hides_what_was_in_it():
    files = merge(
        [
            read_layer(io.BytesIO(made.layer({"opt/a": None, "opt/a/x": b"1", "opt/ab": b"2"}))),
            read_layer(io.BytesIO(made.layer({"opt/a": b"-> /nope"}))),
        ]
    )
    assert [file.path for file in files.below("/opt")] == ["/opt/a", "/opt/ab"]
    assert files.find("/opt/a/x") is None


@pytest.mark.slow
@given(st.binary(max_size=300), st.integers(0, 63), st.binary(max_size=8))
def test_no_program_leads_to_anything_but_a_finding(tail, place, damage):
    data = made.elf(loader=GLIBC)
    data = data[:place] + damage + data[place + len(damage) :] + tail
    for content in (data, tail, b"\x7fELF" + tail, b"#!" + tail):
        assert read_program(io.BytesIO(content), len(content)).start == content[:256]
        found(image({"opt/run": content}))


@pytest.mark.slow
@given(st.lists(st.sampled_from(["a", "..", ".", "", "b", "/c"]), max_size=6), st.data())
def test_no_links_lead_out_of_the_image_or_on_for_ever(parts, data):
    targets = st.lists(st.sampled_from(["a", "..", "b", "c", ""]), min_size=1, max_size=4)
    links = {name: f"-> {'/'.join(data.draw(targets)) or '/'}".encode() for name in "abc"}
    layer = made.layer({**links, "a.d/a": b"x"}, mode=0o755)
    found_ = merge([read_layer(io.BytesIO(layer))]).resolve("/".join(parts) or "/")
    assert found_.path.startswith("/")
    assert found_.error or ".." not in found_.path.split("/")
