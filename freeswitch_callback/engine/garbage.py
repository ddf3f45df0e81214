"""Python's collector of garbage, kept from stopping calls."""

import gc


def leave_alone_what_is_there() -> None:
    """What is there by now stays as long as the process, and the collector does not look at it again.

    Now and then it looks at everything. That stops all greenlets: for 20 ms with the engine's modules among
    it and for 70 ms with a web server's, hardly at all for what has come since.
    """
    gc.collect()
    gc.freeze()
