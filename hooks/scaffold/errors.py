"""The one error of the hooks."""


class ScaffoldError(Exception):
    """No project can be made.

    Args:
        what: What cannot be done.
        why: What stands in the way.
        remedy: What the reader can do now.
    """

    def __init__(self, what: str, why: str, remedy: str) -> None:
        super().__init__(f"{what}: {why}\n{remedy}")
        self.what = what
        self.why = why
        self.remedy = remedy
