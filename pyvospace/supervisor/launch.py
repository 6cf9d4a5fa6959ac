"""Become another program: the only thing between our fork and its exec.

Run as ``python -I -S launch.py SIGNAL PARENT ACCOUNT -- COMMAND…``. It is a program of its own, and standard library
only, because code between fork and exec of a process with threads may hang, and because the kernel forgets the signal
of the parent's death whenever the user changes: so first the user, then the signal, then the program.
"""

import ctypes
import os
import pwd
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Change the user unless `ACCOUNT` is empty, ask for the signal at the parent's death, and exec."""
    number, parent, name, _, *command = arguments
    if name:
        account = pwd.getpwnam(name)
        os.initgroups(account.pw_name, account.pw_gid)
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
        os.umask(0o077)
        os.chdir("/")  # the directory of the caller may be closed to the account
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(number))
        if os.getppid() != int(parent):  # the parent died before we asked
            os.kill(os.getpid(), signal.SIGKILL)
    try:
        os.execv(command[0], command)  # noqa: S606 (no shell is wanted)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
