"""The program that the tests of studies and launchers sweep: each job is a recorded run that returns `x`.

What a job does is told by files, because the configuration is a part of what makes a study the same one:
`hold` holds it until it is ended, where `x` is at least the number in it; `broken` fails it where `x` is 0; `deadly`
kills its process where `x` is -1.
"""

import os
import signal
import time
from pathlib import Path

import hydra

import mlflow_dovetail


@hydra.main(config_path=".", config_name="config", execution_whitelist=["mlflow_dovetail.*", "optuna.samplers.*"])
def main(cfg):
    uri = f"sqlite:///{Path('mlflow.db').resolve()}"
    with mlflow_dovetail.start_run(tracking_uri=uri, experiment_name="jobs", log_system_metrics=False) as run:
        run.log_metrics({"score": 2 * cfg.x})
        hold = Path("hold")
        if hold.exists() and cfg.x >= float(hold.read_text()):
            Path(f"waiting-{cfg.x}").touch()
            time.sleep(120)
        if cfg.x == 0 and Path("broken").exists():
            Path("ended-0").touch()
            raise ValueError("this job fails")
        if cfg.x == -1 and Path("deadly").exists():
            while len(list(Path().glob("ended-*"))) < int(Path("deadly").read_text()):
                time.sleep(0.1)
            while len(list(Path().glob("multirun/**/.jobs-*/*.json"))) > 1:  # their values are told after that
                time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGKILL)
    Path(f"ended-{cfg.x}").touch()
    return cfg.x


if __name__ == "__main__":
    main()
