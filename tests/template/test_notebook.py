"""The project's notebook shows the run that made the results: run by a real kernel, from the first cell to the last."""

from __future__ import annotations

import json
import subprocess
import sys

RUN = """
import sys, nbclient, nbformat
notebook = nbformat.read("notebooks/look_at_a_run.ipynb", as_version=4)
nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": "notebooks"}}).execute()
nbformat.write(notebook, sys.argv[1])
"""


def test_it_has_no_outputs(baked):
    cells = json.loads((baked / "notebooks" / "look_at_a_run.ipynb").read_text(encoding="utf-8"))["cells"]
    assert [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []


def test_every_cell_runs_and_shows_the_run(trained, tmp_path):
    project = trained.project
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RUN, str(tmp_path / "ran.ipynb")],
        cwd=project.path,
        env={**project.environment, "PYDEVD_DISABLE_FILE_VALIDATION": "1"},
        check=True,
        timeout=250,
    )
    cells = json.loads((tmp_path / "ran.ipynb").read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    shown = "".join(
        "".join(output.get("text", "")) + "".join(output.get("data", {}).get("text/plain", "")) for output in outputs
    )
    run = project.store.get_run(project.run_id)
    assert [output for output in outputs if output["output_type"] == "error"] == []
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert run.name in shown
    assert f"{run.metrics['test/acc']:.6f}" in shown
    assert "lr: 0.003" in shown
    # The data is that of the commit with the results, and the run's.
    commit = project.git("log", "-1", "--format=%H", "--", "mlflow_run.json")
    read = "".join(f"{one.name} {one.digest}\n" for one in run.inputs)
    assert f"1797 digits at {commit}; the run has read:\n{read}" in shown and "digits f02e6b1a" in read
    assert "prediction" in shown
    assert project.git("status", "--porcelain") == ""
