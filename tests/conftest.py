"""Settings of all tests: hypothesis does not judge how fast a busy machine is."""

from hypothesis import settings

settings.register_profile("systolith", deadline=None, print_blob=True)
settings.load_profile("systolith")
