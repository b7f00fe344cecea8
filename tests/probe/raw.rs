//! System calls by number: no C library crate here.

use std::ffi::CString;

unsafe extern "C" {
    fn syscall(number: i64, ...) -> i64;
    fn fork() -> i32;
    fn signal(number: i32, handler: usize) -> usize;
}

/// The result, or minus the errno.
pub fn call(number: i64, args: [usize; 6]) -> i64 {
    // SAFETY: the callers below pass pointers that live over the call; the kernel checks the rest.
    let result = unsafe { syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]) };
    if result == -1 { -i64::from(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)) } else { result }
}

/// 0 in the child, the pid in the parent, or minus the errno.
pub fn clone_process() -> i32 {
    // SAFETY: this program has one thread.
    let pid = unsafe { fork() };
    if pid < 0 { -std::io::Error::last_os_error().raw_os_error().unwrap_or(0) } else { pid }
}

pub fn ignore(number: i32) {
    // SAFETY: SIG_IGN is 1.
    unsafe { signal(number, 1) };
}

pub fn default(number: i32) {
    // SAFETY: SIG_DFL is 0.
    unsafe { signal(number, 0) };
}

pub fn text(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

pub fn pause() -> ! {
    loop {
        call(nr::PPOLL, [0, 0, 0, 0, 0, 0]);
    }
}

/// wait4(pid): the status.
pub fn wait(pid: i32) -> i32 {
    let mut status = 0i32;
    call(nr::WAIT4, [pid as usize, &raw mut status as usize, 0, 0, 0, 0]);
    status
}

/// What all threads of this process have used: CLOCK_PROCESS_CPUTIME_ID.
pub fn cpu_time() -> std::time::Duration {
    let mut time = [0u64; 2];
    call(nr::CLOCK_GETTIME, [2, time.as_mut_ptr() as usize, 0, 0, 0, 0]);
    std::time::Duration::new(time[0], time[1] as u32)
}

/// Numbers from 424 on are the same everywhere.
pub mod nr {
    macro_rules! numbers {
        ($($name:ident $x86:literal $arm:literal;)*) => {
            $(#[allow(dead_code)]
            pub const $name: i64 = if cfg!(target_arch = "x86_64") { $x86 } else { $arm };)*
        };
    }
    numbers! {
        PPOLL 271 73; WAIT4 61 260; GETSID 124 156; KILL 62 129; GETPID 39 172; SETSID 112 157;
        PTRACE 101 117; PROCESS_VM_READV 310 270; UNSHARE 272 97; SETNS 308 268; MOUNT 165 40; UMOUNT2 166 39;
        PIVOT_ROOT 155 41; CHROOT 161 51; MKNODAT 259 33; IOCTL 16 29; SETGROUPS 116 159; SETUID 105 146;
        KEYCTL 250 219; ADD_KEY 248 217; REQUEST_KEY 249 218; BPF 321 280; USERFAULTFD 323 282;
        PERF_EVENT_OPEN 298 241; KEXEC_LOAD 246 104; INIT_MODULE 175 105; DELETE_MODULE 176 106; REBOOT 169 142;
        SWAPON 167 224; SYSLOG 103 116; OPEN_BY_HANDLE_AT 304 265; PERSONALITY 135 92; SETHOSTNAME 170 161;
        SETTIMEOFDAY 164 170; CLOCK_SETTIME 227 112; CLOCK_GETTIME 228 113; ACCT 163 89; QUOTACTL 179 60; SOCKET 41 198;
        PRLIMIT64 302 261; IO_URING_SETUP 425 425; OPEN_TREE 428 428; MOVE_MOUNT 429 429; FSOPEN 430 430;
        PIDFD_OPEN 434 434; CLONE3 435 435; PIDFD_GETFD 438 438; MOUNT_SETATTR 442 442; KCMP 312 272;
        GETRANDOM 318 278; EXIT_GROUP 231 94; SETRESUID 117 147; PRCTL 157 167; CAPSET 126 91;
        FACCESSAT 269 48; SCHED_GETSCHEDULER 145 120; GETPRIORITY 140 141; IOPRIO_GET 252 31;
    }
}
