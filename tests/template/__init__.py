"""The generated project is the unit under test: real git, DVC, Hydra, Lightning and MLflow."""
