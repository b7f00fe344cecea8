//! x86-64: entry, system call instruction, numbers.

core::arch::global_asm!(
    ".globl _start",
    "_start:",
    "xor %ebp, %ebp",
    "mov %rsp, %rdi",
    "and $-16, %rsp",
    "call keeper_main",
    "ud2",
    options(att_syntax)
);

/// One system call; the result is the kernel's, negative errno included.
///
/// # Safety
/// The arguments must be valid for system call `number`.
#[inline(always)]
pub(crate) unsafe fn syscall6(number: usize, args: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the caller vouches for the arguments; rcx and r11 are clobbered by the instruction.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], in("r8") args[4], in("r9") args[5],
            lateout("rcx") _, lateout("r11") _,
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
    // SAFETY: the caller vouches for the arguments; the kernel keeps all registers of both but these three.
    unsafe {
        core::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r9",
            "call r8",
            "ud2",
            "2:",
            inlateout("rax") nr::CLONE3 as isize => result,
            in("rdi") args, in("rsi") size, in("r8") run, in("r9") with,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    result
}

/// `epoll_event` is packed on this architecture.
#[derive(Clone, Copy)]
#[repr(C, packed)]
pub(crate) struct EpollEvent {
    pub(crate) events: u32,
    pub(crate) data: u64,
}

pub(crate) mod nr {
    pub(crate) const PERSONALITY: usize = 135;
    pub(crate) const IOPRIO_SET: usize = 251;
    pub(crate) const SCHED_SETATTR: usize = 314;
    pub(crate) const SCHED_SETAFFINITY: usize = 203;
    pub(crate) const SET_MEMPOLICY: usize = 238;
    pub(crate) const READLINKAT: usize = 267;
    pub(crate) const RENAMEAT2: usize = 316;
    pub(crate) const LSEEK: usize = 8;
    pub(crate) const ACCEPT4: usize = 288;
    pub(crate) const SHUTDOWN: usize = 48;
    pub(crate) const GETSOCKOPT: usize = 55;
    pub(crate) const SPLICE: usize = 275;
    pub(crate) const GETUID: usize = 102;
    pub(crate) const READ: usize = 0;
    pub(crate) const WRITE: usize = 1;
    pub(crate) const CLOSE: usize = 3;
    pub(crate) const FSTAT: usize = 5;
    pub(crate) const MMAP: usize = 9;
    pub(crate) const MPROTECT: usize = 10;
    pub(crate) const MUNMAP: usize = 11;
    pub(crate) const IOCTL: usize = 16;
    pub(crate) const RT_SIGACTION: usize = 13;
    pub(crate) const RT_SIGPROCMASK: usize = 14;
    pub(crate) const SENDFILE: usize = 40;
    pub(crate) const SOCKET: usize = 41;
    pub(crate) const SENDMSG: usize = 46;
    pub(crate) const RECVMSG: usize = 47;
    pub(crate) const FCNTL: usize = 72;
    pub(crate) const FCHDIR: usize = 81;
    pub(crate) const CHDIR: usize = 80;
    pub(crate) const GETCWD: usize = 79;
    pub(crate) const UMASK: usize = 95;
    pub(crate) const SETSID: usize = 112;
    pub(crate) const SETGROUPS: usize = 116;
    pub(crate) const SETRESUID: usize = 117;
    pub(crate) const SETRESGID: usize = 119;
    pub(crate) const CAPSET: usize = 126;
    pub(crate) const RT_SIGTIMEDWAIT: usize = 128;
    pub(crate) const FSTATFS: usize = 138;
    pub(crate) const PIVOT_ROOT: usize = 155;
    pub(crate) const CHROOT: usize = 161;
    pub(crate) const PRCTL: usize = 157;
    pub(crate) const MOUNT: usize = 165;
    pub(crate) const UMOUNT2: usize = 166;
    pub(crate) const SETHOSTNAME: usize = 170;
    pub(crate) const SETDOMAINNAME: usize = 171;
    pub(crate) const FUTEX: usize = 202;
    pub(crate) const GETDENTS64: usize = 217;
    pub(crate) const CLOCK_GETTIME: usize = 228;
    pub(crate) const EXIT_GROUP: usize = 231;
    pub(crate) const EPOLL_CTL: usize = 233;
    pub(crate) const WAITID: usize = 247;
    pub(crate) const KEYCTL: usize = 250;
    pub(crate) const OPENAT: usize = 257;
    pub(crate) const FCHMOD: usize = 91;
    pub(crate) const FCHOWNAT: usize = 260;
    pub(crate) const FSETXATTR: usize = 190;
    pub(crate) const MKDIRAT: usize = 258;
    pub(crate) const MKNODAT: usize = 259;
    pub(crate) const UNLINKAT: usize = 263;
    pub(crate) const SYMLINKAT: usize = 266;
    pub(crate) const UNSHARE: usize = 272;
    pub(crate) const EPOLL_PWAIT: usize = 281;
    pub(crate) const TIMERFD_CREATE: usize = 283;
    pub(crate) const TIMERFD_SETTIME: usize = 286;
    pub(crate) const SIGNALFD4: usize = 289;
    pub(crate) const EPOLL_CREATE1: usize = 291;
    pub(crate) const DUP3: usize = 292;
    pub(crate) const PRLIMIT64: usize = 302;
    pub(crate) const SETNS: usize = 308;
    pub(crate) const SECCOMP: usize = 317;
    pub(crate) const EXECVE: usize = 59;
    pub(crate) const KILL: usize = 62;
    pub(crate) const PIDFD_SEND_SIGNAL: usize = 424;
    pub(crate) const PIDFD_OPEN: usize = 434;
    pub(crate) const PPOLL: usize = 271;
    pub(crate) const GETPID: usize = 39;
    pub(crate) const GETPPID: usize = 110;
    pub(crate) const SOCKETPAIR: usize = 53;
    pub(crate) const PIPE2: usize = 293;
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
