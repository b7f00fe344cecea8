//! aarch64: entry, system call instruction, numbers. Linked in CI; its loop runs there under qemu-user, no child does.

core::arch::global_asm!(
    ".globl _start",
    "_start:",
    "mov x29, #0",
    "mov x30, #0",
    "mov x0, sp",
    "and x1, x0, #-16",
    "mov sp, x1",
    "bl keeper_main",
    "brk #1"
);

/// One system call; the result is the kernel's, negative errno included.
///
/// # Safety
/// The arguments must be valid for system call `number`.
#[inline(always)]
pub(crate) unsafe fn syscall6(number: usize, args: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the caller vouches for the arguments.
    unsafe {
        core::arch::asm!(
            "svc #0",
            in("x8") number,
            inlateout("x0") args[0] as isize => result,
            in("x1") args[1], in("x2") args[2], in("x3") args[3], in("x4") args[4], in("x5") args[5],
            options(nostack)
        );
    }
    result
}

/// `clone3` of one that has a stack of its own, in its `args`, and calls `run` there with `with`. Returns here alone.
///
/// # Safety
/// As for [`syscall6`]; `run` is a function of one word that never returns, and the stack is nobody else's.
#[inline(never)]
pub(crate) unsafe fn clone3_beside(args: *const u64, size: usize, run: usize, with: usize) -> isize {
    let result: isize;
    // SAFETY: the caller vouches for the arguments; the kernel keeps all registers of both but the result.
    unsafe {
        core::arch::asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, #0",
            "mov x30, #0",
            "mov x0, x3",
            "br x2",
            "2:",
            in("x8") nr::CLONE3,
            inlateout("x0") args as isize => result,
            in("x1") size, in("x2") run, in("x3") with,
        );
    }
    result
}

/// `epoll_event` has natural alignment on this architecture.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct EpollEvent {
    pub(crate) events: u32,
    pub(crate) data: u64,
}

pub(crate) mod nr {
    pub(crate) const PERSONALITY: usize = 92;
    pub(crate) const IOPRIO_SET: usize = 30;
    pub(crate) const SCHED_SETATTR: usize = 274;
    pub(crate) const SCHED_SETAFFINITY: usize = 122;
    pub(crate) const SET_MEMPOLICY: usize = 237;
    pub(crate) const READLINKAT: usize = 78;
    pub(crate) const RENAMEAT2: usize = 276;
    pub(crate) const LSEEK: usize = 62;
    pub(crate) const ACCEPT4: usize = 242;
    pub(crate) const SHUTDOWN: usize = 210;
    pub(crate) const GETSOCKOPT: usize = 209;
    pub(crate) const SPLICE: usize = 76;
    pub(crate) const GETUID: usize = 174;
    pub(crate) const SETHOSTNAME: usize = 161;
    pub(crate) const SETDOMAINNAME: usize = 162;
    pub(crate) const EPOLL_CREATE1: usize = 20;
    pub(crate) const EPOLL_CTL: usize = 21;
    pub(crate) const EPOLL_PWAIT: usize = 22;
    pub(crate) const DUP3: usize = 24;
    pub(crate) const FCNTL: usize = 25;
    pub(crate) const IOCTL: usize = 29;
    pub(crate) const MKNODAT: usize = 33;
    pub(crate) const FCHMOD: usize = 52;
    pub(crate) const FCHOWNAT: usize = 54;
    pub(crate) const FSETXATTR: usize = 7;
    pub(crate) const MKDIRAT: usize = 34;
    pub(crate) const UNLINKAT: usize = 35;
    pub(crate) const SYMLINKAT: usize = 36;
    pub(crate) const UMOUNT2: usize = 39;
    pub(crate) const MOUNT: usize = 40;
    pub(crate) const PIVOT_ROOT: usize = 41;
    pub(crate) const CHROOT: usize = 51;
    pub(crate) const FSTATFS: usize = 44;
    pub(crate) const CHDIR: usize = 49;
    pub(crate) const FCHDIR: usize = 50;
    pub(crate) const OPENAT: usize = 56;
    pub(crate) const CLOSE: usize = 57;
    pub(crate) const GETDENTS64: usize = 61;
    pub(crate) const READ: usize = 63;
    pub(crate) const WRITE: usize = 64;
    pub(crate) const SENDFILE: usize = 71;
    pub(crate) const SIGNALFD4: usize = 74;
    pub(crate) const FSTAT: usize = 80;
    pub(crate) const TIMERFD_CREATE: usize = 85;
    pub(crate) const TIMERFD_SETTIME: usize = 86;
    pub(crate) const CAPSET: usize = 91;
    pub(crate) const EXIT_GROUP: usize = 94;
    pub(crate) const WAITID: usize = 95;
    pub(crate) const UNSHARE: usize = 97;
    pub(crate) const FUTEX: usize = 98;
    pub(crate) const CLOCK_GETTIME: usize = 113;
    pub(crate) const RT_SIGACTION: usize = 134;
    pub(crate) const RT_SIGPROCMASK: usize = 135;
    pub(crate) const RT_SIGTIMEDWAIT: usize = 137;
    pub(crate) const SETRESUID: usize = 147;
    pub(crate) const SETRESGID: usize = 149;
    pub(crate) const SETSID: usize = 157;
    pub(crate) const SETGROUPS: usize = 159;
    pub(crate) const UMASK: usize = 166;
    pub(crate) const PRCTL: usize = 167;
    pub(crate) const GETCWD: usize = 17;
    pub(crate) const SOCKET: usize = 198;
    pub(crate) const SENDMSG: usize = 211;
    pub(crate) const RECVMSG: usize = 212;
    pub(crate) const MPROTECT: usize = 226;
    pub(crate) const MUNMAP: usize = 215;
    pub(crate) const KEYCTL: usize = 219;
    pub(crate) const EXECVE: usize = 221;
    pub(crate) const MMAP: usize = 222;
    pub(crate) const PRLIMIT64: usize = 261;
    pub(crate) const SETNS: usize = 268;
    pub(crate) const SECCOMP: usize = 277;
    pub(crate) const KILL: usize = 129;
    pub(crate) const PIDFD_SEND_SIGNAL: usize = 424;
    pub(crate) const PIDFD_OPEN: usize = 434;
    pub(crate) const PPOLL: usize = 73;
    pub(crate) const GETPID: usize = 172;
    pub(crate) const GETPPID: usize = 173;
    pub(crate) const SOCKETPAIR: usize = 199;
    pub(crate) const PIPE2: usize = 59;
    pub(crate) const OPEN_TREE: usize = 428;
    pub(crate) const MOVE_MOUNT: usize = 429;
    pub(crate) const FSOPEN: usize = 430;
    pub(crate) const FSCONFIG: usize = 431;
    pub(crate) const FSMOUNT: usize = 432;
    pub(crate) const FSPICK: usize = 433;
    pub(crate) const CLONE3: usize = 435;
    pub(crate) const CLOSE_RANGE: usize = 436;
    pub(crate) const OPENAT2: usize = 437;
    pub(crate) const FACCESSAT2: usize = 439;
    pub(crate) const MOUNT_SETATTR: usize = 442;
}
