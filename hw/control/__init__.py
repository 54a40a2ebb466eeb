"""Control: fetch, dispatch, token counters, supervisor, and the registers of the host."""
