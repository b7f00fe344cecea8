# Runs cells, one after the other, in one set of names. Each comes as a line "NONCE LENGTH" and that many bytes; when it has
# ended both output streams get a zero byte, the nonce and how it went. The requests are read from a copy of the standard input
# that children do not inherit; a cell itself reads nothing.
import os, signal, sys, traceback

requests = os.fdopen(os.dup(0), "rb")
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
names = {"__name__": "__main__"}
interrupts = {signal.SIGINT}
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.pthread_sigmask(signal.SIG_BLOCK, interrupts)


def run(code):
    try:
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, interrupts)
            exec(compile(code, "<cell>", "exec"), names)
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, interrupts)
    except KeyboardInterrupt:
        return b"interrupted"
    except BaseException:
        traceback.print_exc()
        return b"failed"
    return b"ok"


while head := requests.readline().split():
    nonce, size = head
    status = run(requests.read(int(size)))
    # An interrupt that came when the cell had ended is not for the next one.
    signal.pthread_sigmask(signal.SIG_BLOCK, interrupts)
    while signal.sigtimedwait(interrupts, 0):
        pass
    for stream, fd in (sys.stdout, 1), (sys.stderr, 2):
        try:
            stream.flush()
        except Exception:
            pass
        os.write(fd, b"\0" + nonce + b" " + status + b"\n")
