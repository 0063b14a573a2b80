"""How a judge says what it found: a line a check on standard output."""


def check(name, holds, found=""):
    """One line; `found` says what is wrong where it does not hold."""
    print(f"ok   {name}" if holds else f"FAIL {name}: {found}", flush=True)
    return bool(holds)


def equal(name, found, expected):
    return check(name, found == expected, f"{found!r}, expected {expected!r}")
