"""What the hooks do, with the standard library and git alone: cookiecutter's interpreter may have nothing else."""
