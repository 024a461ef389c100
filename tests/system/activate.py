"""activate.py FD[,FD...] COMMAND... becomes COMMAND as a service manager starts it: with those
sockets as descriptors 3, 4, ..., and LISTEN_PID and LISTEN_FDS for this process. LISTEN_PID or
LISTEN_FDS that are set already stay as they are.
"""

import os
import sys

fds = [int(number) for number in sys.argv[1].split(",")]
# Out of the way first: the sources may lie where the targets are.
copies = [os.dup2(fd, 100 + at, False) for at, fd in enumerate(fds)]
for at, fd in enumerate(copies):
    os.dup2(fd, 3 + at)
os.environ.setdefault("LISTEN_PID", str(os.getpid()))
os.environ.setdefault("LISTEN_FDS", str(len(fds)))
os.execv(sys.argv[2], sys.argv[2:])
