"""`python -m mlflow_dovetail` is `dovetail`."""

import sys

from mlflow_dovetail.cli import main

if __name__ == "__main__":
    sys.exit(main())
