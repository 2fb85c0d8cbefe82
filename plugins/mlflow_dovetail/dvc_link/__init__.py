"""Which data, which revision, which run: a run's place in DVC, and the way from revisions to runs and back."""
