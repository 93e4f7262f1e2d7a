"""The limit of file descriptors, of which each connection takes one."""

import resource

_RESERVED = 128  # for the database, the bus, the object store, template processes and files
_MOST = 2**20


def raise_descriptor_limit() -> None:
    """To what the system allows this process. The usual soft limit of 1,024 is for `select`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def connections_within_limit(wanted: int) -> int:
    """As many connections as wanted, or what the limit leaves after our own needs."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, soft - min(_RESERVED, soft // 2)))
