//! Which system call is of which class. Every name of the tables is in exactly one list, or has argument rules in
//! `profile.rs`; a test holds that, so a new number cannot be forgotten.

use crate::spec::caps::CapSet;

/// Allowed to everybody: they act on what the caller holds, or the kernel checks the caller's rights on its own.
///
/// Why some are here: `ptrace` and `process_vm_*` reach only the container's own processes, and from 4.8 on seccomp looks
/// after the tracer; `uretprobe` and `uprobe` are made by the host's probes inside the process, which a refusal would
/// kill, and anywhere else they fail or end the caller; `mknod` and `fanotify_mark` are judged by the kernel's capability
/// check; `modify_ldt` is what old runtimes (Wine) need.
#[rustfmt::skip]
pub(super) static ORDINARY: &[&str] = &[
    "accept", "accept4", "access", "alarm", "arch_prctl", "bind", "brk", "cachestat", "capget", "capset", "chdir",
    "chmod", "chown", "clock_getres", "clock_gettime", "clock_nanosleep", "close", "close_range", "connect",
    "copy_file_range", "creat", "dup", "dup2", "dup3", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_pwait",
    "epoll_pwait2", "epoll_wait", "eventfd", "eventfd2", "execve", "execveat", "exit", "exit_group", "faccessat",
    "faccessat2", "fadvise64", "fallocate", "fanotify_mark", "fchdir", "fchmod", "fchmodat", "fchmodat2", "fchown",
    "fchownat", "fcntl", "fdatasync", "fgetxattr", "file_getattr", "file_setattr", "flistxattr", "flock", "fork",
    "fremovexattr", "fsetxattr", "fstat", "fstatfs", "fsync", "ftruncate", "futex", "futex_requeue", "futex_wait",
    "futex_waitv", "futex_wake", "futimesat", "get_robust_list", "getcpu", "getcwd", "getdents", "getdents64",
    "getegid", "geteuid", "getgid", "getgroups", "getitimer", "getpeername", "getpgid", "getpgrp", "getpid",
    "getppid", "getpriority", "getrandom", "getresgid", "getresuid", "getrlimit", "getrusage", "getsid",
    "getsockname", "getsockopt", "gettid", "gettimeofday", "getuid", "getxattr", "getxattrat", "inotify_add_watch",
    "inotify_init", "inotify_init1", "inotify_rm_watch", "io_cancel", "io_destroy", "io_getevents", "io_pgetevents",
    "io_setup", "io_submit", "ioprio_get", "ioprio_set", "kill", "landlock_add_rule", "landlock_create_ruleset",
    "landlock_restrict_self", "lchown", "lgetxattr", "link", "linkat", "listen", "listxattr", "listxattrat",
    "llistxattr", "lremovexattr", "lseek", "lsetxattr", "lsm_get_self_attr", "lsm_list_modules",
    "lsm_set_self_attr", "lstat", "madvise", "map_shadow_stack", "membarrier", "memfd_create", "memfd_secret",
    "mincore", "mkdir", "mkdirat", "mknod", "mknodat", "mlock", "mlock2", "mlockall", "mmap", "modify_ldt",
    "mprotect", "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedsend", "mq_unlink", "mremap",
    "mseal", "msgctl", "msgget", "msgrcv", "msgsnd", "msync", "munlock", "munlockall", "munmap",
    "name_to_handle_at", "nanosleep", "newfstatat", "open", "openat", "openat2", "pause", "pidfd_open",
    "pidfd_send_signal", "pipe", "pipe2", "pkey_alloc", "pkey_free", "pkey_mprotect", "poll", "ppoll", "prctl",
    "pread64", "preadv", "preadv2", "prlimit64", "process_mrelease", "process_vm_readv", "process_vm_writev",
    "pselect6", "ptrace", "pwrite64", "pwritev", "pwritev2", "read", "readahead", "readlink", "readlinkat", "readv",
    "recvfrom", "recvmmsg", "recvmsg", "remap_file_pages", "removexattr", "removexattrat", "rename", "renameat",
    "renameat2", "restart_syscall", "rmdir", "rseq", "rt_sigaction", "rt_sigpending", "rt_sigprocmask",
    "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "rt_tgsigqueueinfo",
    "sched_get_priority_max", "sched_get_priority_min", "sched_getaffinity", "sched_getattr", "sched_getparam",
    "sched_getscheduler", "sched_rr_get_interval", "sched_setaffinity", "sched_setattr", "sched_setparam",
    "sched_setscheduler", "sched_yield", "seccomp", "select", "semctl", "semget", "semop", "semtimedop", "sendfile",
    "sendmmsg", "sendmsg", "sendto", "set_robust_list", "set_tid_address", "setfsgid", "setfsuid", "setgid",
    "setgroups", "setitimer", "setpgid", "setpriority", "setregid", "setresgid", "setresuid", "setreuid",
    "setrlimit", "setsid", "setsockopt", "setuid", "setxattr", "setxattrat", "shmat", "shmctl", "shmdt", "shmget",
    "shutdown", "sigaltstack", "signalfd", "signalfd4", "socketpair", "splice", "stat", "statfs", "statx",
    "symlink", "symlinkat", "sync", "sync_file_range", "syncfs", "sysinfo", "tee", "tgkill", "time", "timer_create",
    "timer_delete", "timer_getoverrun", "timer_gettime", "timer_settime", "timerfd_create", "timerfd_gettime",
    "timerfd_settime", "times", "tkill", "truncate", "umask", "uname", "unlink", "unlinkat", "uprobe", "uretprobe",
    "utime", "utimensat", "utimes", "vfork", "vmsplice", "wait4", "waitid", "write", "writev",
];

/// Refused with EPERM unless the container holds one of the capabilities; all but the marked ones as in Docker's profile.
#[rustfmt::skip]
pub(super) static LIFTED: &[(CapSet, &[&str])] = &[
    // Not in Docker's: pivot_root and open_tree_attr, which belong to the mount family.
    (CapSet::SYS_ADMIN, &[
        "fanotify_init", "fsconfig", "fsmount", "fsopen", "fspick", "lookup_dcookie", "mount", "mount_setattr",
        "move_mount", "open_tree", "open_tree_attr", "pivot_root", "quotactl", "quotactl_fd", "setdomainname",
        "sethostname", "setns", "umount2",
    ]),
    (CapSet::SYS_ADMIN.union(CapSet::BPF), &["bpf"]),
    (CapSet::SYS_ADMIN.union(CapSet::PERFMON), &["perf_event_open"]),
    (CapSet::SYS_ADMIN.union(CapSet::SYSLOG), &["syslog"]),
    (CapSet::DAC_READ_SEARCH, &["open_by_handle_at"]),
    (CapSet::SYS_BOOT, &["reboot"]),
    (CapSet::SYS_CHROOT, &["chroot"]),
    (CapSet::SYS_MODULE, &["delete_module", "finit_module", "init_module"]),
    // migrate_pages and move_pages are never allowed by Docker.
    (CapSet::SYS_NICE, &[
        "get_mempolicy", "mbind", "migrate_pages", "move_pages", "set_mempolicy", "set_mempolicy_home_node",
    ]),
    (CapSet::SYS_PACCT, &["acct"]),
    (CapSet::SYS_PTRACE, &["kcmp", "pidfd_getfd", "process_madvise"]),
    (CapSet::SYS_RAWIO, &["ioperm", "iopl"]),
    // Docker allows the two adjtimex to everybody, for their reading half.
    (CapSet::SYS_TIME, &["adjtimex", "clock_adjtime", "clock_settime", "settimeofday"]),
    (CapSet::SYS_TTY_CONFIG, &["vhangup"]),
];

/// ENOSYS, as from an older kernel, without CAP_SYS_ADMIN: their callers have another way that works (libmount reads
/// mountinfo, libc calls `clone`, whose flags a filter can see while clone3's are behind a pointer).
#[rustfmt::skip]
pub(super) static HIDDEN: &[&str] = &["clone3", "listmount", "listns", "statmount"];

/// EPERM for everybody: they act on the whole machine, or their attack surface outweighs their use in a container.
#[rustfmt::skip]
pub(super) static REFUSED: &[&str] = &[
    "add_key", "io_uring_enter", "io_uring_register", "io_uring_setup", "kexec_file_load", "kexec_load", "keyctl",
    "nfsservctl", "request_key", "swapoff", "swapon", "sysfs", "userfaultfd", "ustat",
];
