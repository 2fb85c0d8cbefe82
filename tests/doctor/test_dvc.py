"""DVC's settings, cache and remote: folders that are gone, and networks that refuse or never answer."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import pytest

from .conftest import Patient


def configure(patient: Patient, text: str) -> None:
    (patient.root / ".dvc/config").write_text(f"[core]\n    analytics = false\n{text}")


def remote_at(patient: Patient, url: str) -> None:
    configure(patient, f"    remote = storage\n['remote \"storage\"']\n    url = {url}\n")


def test_a_project_that_is_well(patient: Patient):
    patient.is_well("dvc")
    told = " ".join(one.what for one in patient.examine("dvc"))
    assert str(patient.root.parent / "remote") in told and ".dvc/cache" in told


def broken_settings(patient: Patient) -> None:
    (patient.root / ".dvc/config").write_text("[core\nnonsense")


def wrong_settings(patient: Patient) -> None:
    configure(patient, "    autostage = perhaps\n")


def no_remote(patient: Patient) -> None:
    configure(patient, "")


def no_default(patient: Patient) -> None:
    configure(patient, "['remote \"attic\"']\n    url = ../../remote\n")


def undefined(patient: Patient) -> None:
    configure(patient, "    remote = storage\n")


def folder_gone(patient: Patient) -> None:
    (patient.root.parent / "remote").rmdir()


def mount_gone(patient: Patient) -> None:
    remote_at(patient, "/mnt/no-such-drive/storage/digits")


def file_in_its_place(patient: Patient) -> None:
    folder_gone(patient)
    (patient.root.parent / "remote").touch()


def no_driver(patient: Patient) -> None:
    if find_spec("dvc_s3"):
        pytest.skip("DVC's package for S3 is installed")
    remote_at(patient, "s3://bucket/data")


def remote_of_a_remote(patient: Patient) -> None:
    remote_at(patient, "remote://attic/data")


def cache_is_a_file(patient: Patient) -> None:
    (patient.root / ".dvc/cache").touch()


@pytest.mark.parametrize(
    ("hurt", "level", "told", "remedy"),
    [
        (broken_settings, "problem", "settings cannot be read", ".dvc/config"),
        (wrong_settings, "problem", "settings cannot be read", ".dvc/config"),
        (no_remote, "warning", "no default remote", "dvc remote add --default"),
        (no_default, "warning", "no default remote", "dvc remote default attic"),
        (undefined, "problem", "'storage' is not defined", "dvc remote add storage"),
        (folder_gone, "warning", "'storage' is not there", "dvc push"),
        (mount_gone, "problem", "/mnt", "dvc remote modify storage url"),
        (file_in_its_place, "problem", "is no folder", "dvc remote modify storage url"),
        (no_driver, "problem", "cannot be used", "pip install dvc-s3"),
        (remote_of_a_remote, "problem", "'attic' doesn't exist", "dvc remote modify"),
        (cache_is_a_file, "problem", "is no folder", "dvc cache dir"),
    ],
)
def test_what_is_wrong_is_told_with_what_to_do(patient: Patient, hurt, level, told, remedy):
    hurt(patient)
    patient.is_told("dvc", level, told, remedy)


def test_links_that_cannot_be_made(patient: Patient):
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == patient.root.stat().st_dev:
        pytest.skip("one file system only")
    config = patient.root / ".dvc/config"
    cache = f"[cache]\n    dir = {elsewhere}/no-such-cache\n    type = hardlink\n"
    config.write_text(f"{config.read_text()}{cache}")
    assert "different file systems" in patient.only("dvc", "problem").why
    config.write_text(config.read_text().replace("hardlink", "hardlink,symlink"))
    patient.is_well("dvc")
    config.write_text(config.read_text().replace("hardlink,symlink", "reflink,copy"))
    patient.is_well("dvc")


def test_a_folder_that_is_no_dvc_project(patient: Patient):
    shutil.rmtree(patient.root / ".dvc")
    assert "dvc init" in patient.only("dvc", "note").do


EXAMINE = """
from pathlib import Path
from mlflow_dovetail.doctor import examine
from mlflow_dovetail.doctor.examining import CHECKS
chosen = tuple(one for one in CHECKS if one.name in ("dvc", "settings", "store"))
print(*(one.what for one in examine(Path.cwd(), checks=chosen) if one.level == "problem"))
"""
# Without these, root obeys the permissions of files as everybody does.
OBEYING = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search") if os.getuid() == 0 else ()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="setpriv is Linux's")
def test_what_cannot_be_written(patient: Patient):
    (patient.root / ".dvc/cache").mkdir()
    closed = [patient.root / ".dvc/cache", patient.root.parent / "remote", patient.root]
    for folder in closed:
        folder.chmod(0o555)
    command = [*OBEYING, sys.executable, "-c", EXAMINE]
    done = subprocess.run(
        command, cwd=patient.root, env=patient.environment, capture_output=True, text=True, timeout=100
    )
    for folder in closed:
        folder.chmod(0o755)
    for what in ("remote 'storage' cannot be written", "cache cannot be written", "Runs cannot", "mlflow.db cannot"):
        assert what in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(("status", "level", "told"), [(404, "ok", "answers"), (403, "problem", "cannot be reached")])
def test_a_remote_on_a_web_server_that_has_nothing_yet_or_refuses(patient: Patient, status: int, level: str, told: str):
    patient.is_apart = True  # what still waits for the network ends with its process

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(status)

        do_HEAD = do_GET

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        remote_at(patient, f"http://me:secret@127.0.0.1:{server.server_port}/data")
        found = patient.examine("dvc")
        server.shutdown()
    what = f"{told}: http://127.0.0.1:{server.server_port}"
    assert [one.level for one in found if what in one.what] == [level], found
    assert "secret" not in str(found)


def test_a_network_that_refuses(patient: Patient):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        remote_at(patient, f"http://127.0.0.1:{probe.getsockname()[1]}/data")
        found = patient.only("dvc", "problem")
    assert "cannot be reached" in found.what and "dvc status --cloud" in found.do


def test_a_network_that_never_answers(patient: Patient):
    patient.is_apart = True  # what still waits for the network ends with its process
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        remote_at(patient, f"http://127.0.0.1:{silent.getsockname()[1]}/data")
        begun = time.monotonic()
        found = patient.only("dvc", "problem")
    assert "does not answer" in found.what
    assert time.monotonic() - begun < 20
