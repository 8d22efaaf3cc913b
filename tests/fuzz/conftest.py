r"""Profiles of fuzzing: a second in every run of the tests, and minutes with `-m slow`."""

from hypothesis import settings

settings.register_profile(
    "fuzz", max_examples=20, stateful_step_count=10, deadline=None, derandomize=True
)
settings.register_profile("fuzz-long", max_examples=400, stateful_step_count=40, deadline=None)
