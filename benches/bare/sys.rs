//! System calls by number. The only unsafe code of the stub; one operation a block.

use std::ffi::{c_long, c_void};

/// Error number.
pub type Errno = i32;
/// Result of a system call.
pub type Res<T> = Result<T, Errno>;

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn __errno_location() -> *mut i32;
}

macro_rules! numbers {
    ($($name:ident = $x86:literal, $arm:literal;)*) => {
        /// System call numbers.
        #[allow(missing_docs)]
        pub mod nr {
            $(pub const $name: usize = if cfg!(target_arch = "x86_64") { $x86 } else { $arm };)*
        }
    };
}

numbers! {
    READ = 0, 63; WRITE = 1, 64; CLOSE = 3, 57; FSTAT = 5, 80; MMAP = 9, 222; RT_SIGPROCMASK = 14, 135;
    IOCTL = 16, 29; DUP3 = 292, 24; SOCKET = 41, 198; PIPE2 = 293, 59; SENDFILE = 40, 71; EXECVE = 59, 221; FCNTL = 72, 25; GETCWD = 79, 17; CHDIR = 80, 49;
    FCHDIR = 81, 50; UMASK = 95, 166; SETGROUPS = 116, 159; SETRESUID = 117, 147; SETRESGID = 119, 149;
    SETSID = 112, 157; KILL = 62, 129; CAPSET = 126, 91; RT_SIGTIMEDWAIT = 128, 137; PRCTL = 157, 167; PIVOT_ROOT = 155, 41;
    MOUNT = 165, 40; UMOUNT2 = 166, 39; SETHOSTNAME = 170, 161; FUTEX = 202, 98; EXIT_GROUP = 231, 94;
    WAITID = 247, 95; KEYCTL = 250, 219; OPENAT = 257, 56; MKDIRAT = 258, 34; MKNODAT = 259, 33; FCHOWNAT = 260, 54;
    UNLINKAT = 263, 35; SYMLINKAT = 266, 36; UNSHARE = 272, 97; PRLIMIT64 = 302, 261; SETNS = 308, 268;
    SECCOMP = 317, 277; PIDFD_SEND_SIGNAL = 424, 424; OPEN_TREE = 428, 428; MOVE_MOUNT = 429, 429; FSOPEN = 430, 430;
    FSCONFIG = 431, 431; FSMOUNT = 432, 432; CLONE3 = 435, 435; CLOSE_RANGE = 436, 436; OPENAT2 = 437, 437;
    MOUNT_SETATTR = 442, 442; FSTATFS = 138, 44;
}

/// Any system call.
pub fn call(number: usize, args: [usize; 6]) -> Res<usize> {
    let [a, b, c, d, e, f] = args;
    // SAFETY: what the plan names lies in its bytes; everything else is a live local of the caller. clone3 is only
    // called without CLONE_VM and from the only thread.
    let done = unsafe { syscall(number as c_long, a, b, c, d, e, f) };
    if done != -1 {
        return Ok(done as usize);
    }
    // SAFETY: the C library's own word of this thread.
    Err(unsafe { *__errno_location() })
}

/// A page shared with all children.
pub fn shared_page() -> Res<*mut u64> {
    // PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS
    call(nr::MMAP, [0, 16384, 3, 0x21, usize::MAX, 0]).map(|at| at as *mut c_void as *mut u64)
}

/// Write word `index` of the shared page.
pub fn put(page: *mut u64, index: usize, value: u64) {
    if index < 2048 {
        // SAFETY: the mapping has 2048 words and is never unmapped.
        unsafe { page.add(index).write_volatile(value) }
    }
}

/// Read word `index` of the shared page.
pub fn get(page: *mut u64, index: usize) -> u64 {
    // SAFETY: as above.
    if index < 2048 { unsafe { page.add(index).read_volatile() } } else { 0 }
}

/// Close, whatever it says.
pub fn close(fd: i32) {
    let _ = call(nr::CLOSE, [fd as usize, 0, 0, 0, 0, 0]);
}

/// `write(2)`.
pub fn write(fd: i32, bytes: &[u8]) -> Res<usize> {
    call(nr::WRITE, [fd as usize, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0])
}

/// `read(2)`.
pub fn read(fd: i32, bytes: &mut [u8]) -> Res<usize> {
    call(nr::READ, [fd as usize, bytes.as_mut_ptr() as usize, bytes.len(), 0, 0, 0])
}

/// `openat(2)`; the path ends with NUL.
pub fn openat(dir: i32, path: &[u8], flags: usize, mode: usize) -> Res<i32> {
    call(nr::OPENAT, [dir as usize, path.as_ptr() as usize, flags | 0o2_000_000, mode, 0, 0]).map(|fd| fd as i32)
}

/// `pipe2(O_CLOEXEC)`.
pub fn pipe() -> Res<(i32, i32)> {
    let mut ends = [0i32; 2];
    call(nr::PIPE2, [ends.as_mut_ptr() as usize, 0o2_000_000, 0, 0, 0, 0])?;
    Ok((ends[0], ends[1]))
}

/// Reap the process behind a pidfd.
pub fn reap(pidfd: i32) -> Res<(i32, i32)> {
    let mut info = [0i32; 32];
    // P_PIDFD, WEXITED
    call(nr::WAITID, [3, pidfd as usize, info.as_mut_ptr() as usize, 4, 0, 0])?;
    Ok((info[2], info[6]))
}

/// SIGKILL by pidfd.
pub fn kill(pidfd: i32) {
    let _ = call(nr::PIDFD_SEND_SIGNAL, [pidfd as usize, 9, 0, 0, 0, 0]);
}

/// End this process.
pub fn exit(code: usize) -> ! {
    loop {
        let _ = call(nr::EXIT_GROUP, [code, 0, 0, 0, 0, 0]);
    }
}
