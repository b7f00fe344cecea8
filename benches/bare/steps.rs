//! The steps of a plan as plain system calls, in order: the same calls with the same arguments as the keeper's.

use crate::sys::{self, Res, call, nr};
use crate::wire::{self, Header, Op, Step};

/// A plan and the descriptors that it was given.
pub struct Child<'a> {
    pub plan: &'a [u8],
    pub header: Header,
    pub slots: [i32; wire::MAX_SLOTS],
    pub page: *mut u64,
    /// Write the time behind each step into the shared page.
    pub timed: bool,
}

const AT_FDCWD: i32 = -100;
const AT_EMPTY_PATH: usize = 0x1000;
/// Word of the shared page that says: the maps are written.
pub const MAPPED: usize = 0;
/// First word of the times.
pub const TIMES: usize = 16;

pub fn now() -> u64 {
    let now = std::time::SystemTime::UNIX_EPOCH;
    std::time::SystemTime::now().duration_since(now).map_or(0, |since| since.as_nanos() as u64)
}

/// Walk the plan. Comes back only with the failing step.
pub fn walk(child: &mut Child<'_>) -> (u16, i32) {
    if child.timed {
        sys::put(child.page, TIMES, now());
    }
    for index in 0..child.header.steps {
        let Some(step) = wire::step(child.plan, index) else { return (index, 22) };
        if step.flags & (wire::OPTIONAL | wire::PRESENT) != 0 && (child.slot(step.a) == -1 || child.slot(step.b) == -1) {
            continue;
        }
        let done = child.run(&step);
        if child.timed {
            sys::put(child.page, TIMES + 1 + usize::from(index), now());
        }
        match done {
            Ok(()) => {}
            Err(2 | 20) if step.flags & wire::OPTIONAL != 0 => {}
            Err(17) if step.flags & wire::EXIST_OK != 0 => {}
            Err(errno) => return (index, errno),
        }
    }
    (child.header.steps, 125)
}

impl Child<'_> {
    fn slot(&self, slot: i16) -> i32 {
        usize::try_from(slot).map_or(AT_FDCWD, |slot| self.slots[slot])
    }

    fn at(&self, offset: u32) -> usize {
        self.plan[offset as usize..].as_ptr() as usize
    }

    fn bytes(&self, offset: u32) -> &[u8] {
        wire::string(self.plan, offset).unwrap_or(&[])
    }

    fn fill(&mut self, dst: i16, fd: Res<usize>) -> Res<()> {
        self.slots[dst as usize] = fd? as i32;
        Ok(())
    }

    fn run(&mut self, step: &Step) -> Res<()> {
        let (a, b, s) = (self.slot(step.a) as usize, self.slot(step.b) as usize, self.at(step.s));
        let (x, y, z) = (step.x as usize, step.y as usize, step.z as usize);
        let simple = |number, args| call(number, args).map(drop);
        match step.op {
            Op::Wait => sys::read(a as i32, &mut [0]).map(drop),
            Op::WaitMaps => {
                while sys::get(self.page, MAPPED) as u32 == 0 {
                    let _ = call(nr::FUTEX, [self.page as usize, 0, 0, 0, 0, 0]);
                }
                Ok(())
            }
            Op::Setsid => simple(nr::SETSID, [0; 6]),
            Op::WriteFd => sys::write(a as i32, self.bytes(step.s)).map(drop),
            Op::Unshare => simple(nr::UNSHARE, [x, 0, 0, 0, 0, 0]),
            Op::SetNs => simple(nr::SETNS, [a, x, 0, 0, 0, 0]),
            // The stub's child is born in the pid namespace, as nobody hostile is in there, and enters the others by itself.
            Op::Enter if x == 0 => Ok(()),
            Op::Enter => simple(nr::SETNS, [a, x, 0, 0, 0, 0]),
            Op::SetGroups => simple(nr::SETGROUPS, [step.n as usize / 4, s, 0, 0, 0, 0]),
            Op::SetIds => {
                call(nr::SETRESGID, [y, y, y, 0, 0, 0])?;
                call(nr::SETRESUID, [x, x, x, 0, 0, 0])?;
                simple(nr::PRCTL, [4, 0, 0, 0, 0, 0])
            }
            Op::Propagation => simple(nr::MOUNT, [0, s, 0, x, 0, 0]),
            Op::OpenTree => {
                let made = call(nr::OPEN_TREE, [a, s, x, 0, 0, 0]);
                self.fill(step.dst, made)
            }
            Op::CloneTree => {
                let made = call(nr::OPEN_TREE, [a, c"".as_ptr() as usize, x | AT_EMPTY_PATH, 0, 0, 0]);
                self.fill(step.dst, made)
            }
            Op::NewMount => self.new_mount(step),
            Op::MoveMount => {
                let flags = x | 4 | if self.bytes(step.s).is_empty() { 0x40 } else { 0 };
                simple(nr::MOVE_MOUNT, [a, c"".as_ptr() as usize, b, s, flags, 0])
            }
            Op::MountAttr => {
                let userns = if step.b < 0 { 0 } else { b as u64 };
                let attr = [step.x, step.y, step.z & 0xffff_ffff, userns];
                let flags = (step.z >> 32) as usize | AT_EMPTY_PATH;
                simple(nr::MOUNT_SETATTR, [a, s, flags, attr.as_ptr() as usize, 32, 0])
            }
            Op::Mkdir => simple(nr::MKDIRAT, [a, s, x, 0, 0, 0]),
            Op::Symlink => simple(nr::SYMLINKAT, [self.at(step.t), a, s, 0, 0, 0]),
            Op::Mknod => simple(nr::MKNODAT, [a, s, x, y, 0, 0]),
            Op::MakeFile => self.make_file(step),
            Op::Open => {
                let how = [step.x & 0xffff_ffff | 0o2_000_000, step.x >> 32, step.y];
                let made = call(nr::OPENAT2, [a, s, how.as_ptr() as usize, 24, 0, 0]);
                self.fill(step.dst, made)
            }
            Op::Fchdir => simple(nr::FCHDIR, [a, 0, 0, 0, 0, 0]),
            Op::PivotRoot => {
                let dot = c".".as_ptr() as usize;
                call(nr::PIVOT_ROOT, [dot, dot, 0, 0, 0, 0])?;
                for _ in 0..x {
                    call(nr::UMOUNT2, [dot, 2, 0, 0, 0, 0])?;
                }
                simple(nr::CHDIR, [c"/".as_ptr() as usize, 0, 0, 0, 0, 0])
            }
            Op::Hostname => simple(nr::SETHOSTNAME, [s, self.bytes(step.s).len(), 0, 0, 0, 0]),
            Op::Loopback => loopback(),
            Op::WriteFile => {
                let fd = call(nr::OPENAT, [a, s, 1, 0, 0, 0])? as i32;
                let done = sys::write(fd, self.bytes(step.t));
                sys::close(fd);
                done.map(drop)
            }
            Op::Rlimit => {
                let limit = [step.y, step.z];
                simple(nr::PRLIMIT64, [0, x, limit.as_ptr() as usize, 0, 0, 0])
            }
            Op::Umask => simple(nr::UMASK, [x, 0, 0, 0, 0, 0]),
            Op::Chdir => {
                call(nr::CHDIR, [s, 0, 0, 0, 0, 0])?;
                let mut cwd = [0u8; 4096];
                simple(nr::GETCWD, [cwd.as_mut_ptr() as usize, cwd.len(), 0, 0, 0, 0])
            }
            Op::CapBound => {
                for cap in (0..64).filter(|cap| step.x & 1 << cap == 0) {
                    match call(nr::PRCTL, [24, cap, 0, 0, 0, 0]) {
                        Err(22) => break,
                        other => other?,
                    };
                }
                Ok(())
            }
            Op::CapSet => {
                let head = [0x2008_0522u32, 0];
                let (low, high) = (|n: u64| n as u32, |n: u64| (n >> 32) as u32);
                let [e, p, i] = [step.x, step.y, step.z];
                let data = [low(e), low(p), low(i), high(e), high(p), high(i)];
                simple(nr::CAPSET, [head.as_ptr() as usize, data.as_ptr() as usize, 0, 0, 0, 0])
            }
            Op::CapAmbient => {
                call(nr::PRCTL, [47, 4, 0, 0, 0, 0])?;
                for cap in (0..64).filter(|cap| step.x & 1 << cap != 0) {
                    call(nr::PRCTL, [47, 2, cap, 0, 0, 0])?;
                }
                Ok(())
            }
            Op::Prctl => simple(nr::PRCTL, [x, y, 0, 0, 0, 0]),
            Op::Seccomp => {
                let program = [u64::from(step.n / 8), s as u64];
                simple(nr::SECCOMP, [1, x, program.as_ptr() as usize, 0, 0, 0])
            }
            Op::Install if a == x => simple(nr::FCNTL, [a, 2, 0, 0, 0, 0]),
            Op::Install => simple(nr::DUP3, [a, x, 0, 0, 0, 0]),
            Op::CloseRange => simple(nr::CLOSE_RANGE, [x, u32::MAX as usize, y, 0, 0, 0]),
            Op::Signals => {
                let none = 0u64;
                simple(nr::RT_SIGPROCMASK, [2, &raw const none as usize, 0, 8, 0, 0])
            }
            Op::Name => simple(nr::PRCTL, [15, s, 0, 0, 0, 0]),
            Op::Ready => sys::write(self.slot(self.header.report), &wire::report(wire::REPORT_READY, 0)).map(drop),
            Op::Stub => init(),
            Op::Exec => self.exec(step),
            Op::Close => {
                sys::close(a as i32);
                self.slots[step.a as usize] = -1;
                Ok(())
            }
            Op::CheckDevice => {
                let mut stat = [0u64; 24];
                simple(nr::FSTAT, [a, stat.as_mut_ptr() as usize, 0, 0, 0, 0])
            }
            Op::CheckType => {
                let mut stat = [0u64; 24];
                call(nr::FSTAT, [a, stat.as_mut_ptr() as usize, 0, 0, 0, 0])?;
                let mode = stat[if cfg!(target_arch = "x86_64") { 3 } else { 2 }] as u32;
                if (u64::from(mode & 0o170_000) != step.x) != (step.y == 1) {
                    self.slots[step.a as usize] = -1;
                    return Err(20);
                }
                Ok(())
            }
            Op::CheckFs => {
                let mut stat = [0u64; 16];
                simple(nr::FSTATFS, [a, stat.as_mut_ptr() as usize, 0, 0, 0, 0])
            }
            Op::Keyring => simple(nr::KEYCTL, [1, 0, 0, 0, 0, 0]),
            Op::Lift => {
                let made = call(nr::FCNTL, [a, 1030, x, 0, 0, 0]);
                self.fill(step.a, made)
            }
            Op::Chown => simple(nr::FCHOWNAT, [a, s, x, y, 0x100 | AT_EMPTY_PATH, 0]),
            Op::Umount => simple(nr::UMOUNT2, [s, x, 0, 0, 0, 0]),
            // Added later than this stub; -ENOSYS names the step in the error.
            #[allow(unreachable_patterns)]
            _ => {
                let _ = z;
                Err(38)
            }
        }
    }

    fn new_mount(&mut self, step: &Step) -> Res<()> {
        let fs = call(nr::FSOPEN, [self.at(step.s), 1, 0, 0, 0, 0])?;
        let mut offset = step.t;
        for _ in 0..step.n {
            let value = wire::list_end(self.plan, offset, 1).unwrap_or(offset);
            let (key, text) = (self.at(offset), self.at(value));
            if self.bytes(value).is_empty() {
                call(nr::FSCONFIG, [fs, 0, key, 0, 0, 0])?;
            } else {
                call(nr::FSCONFIG, [fs, 1, key, text, 0, 0])?;
            }
            offset = wire::list_end(self.plan, value, 1).unwrap_or(offset);
        }
        call(nr::FSCONFIG, [fs, 6, 0, 0, 0, 0])?;
        let mounted = call(nr::FSMOUNT, [fs, 1, step.x as usize, 0, 0, 0]);
        sys::close(fs as i32);
        self.fill(step.dst, mounted)
    }

    fn make_file(&self, step: &Step) -> Res<()> {
        // O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC
        let nofollow = if cfg!(target_arch = "x86_64") { 0o400_000 } else { 0o100_000 };
        let flags = 1 | 0o100 | 0o200 | nofollow | 0o2_000_000;
        let fd = call(nr::OPENAT, [self.slot(step.a) as usize, self.at(step.s), flags, step.x as usize, 0, 0])? as i32;
        if step.b >= 0 {
            let mut offset = 0u64;
            let from = self.slot(step.b) as usize;
            while call(nr::SENDFILE, [fd as usize, from, &raw mut offset as usize, 1 << 30, 0, 0])? > 0 {}
        } else if step.t != 0 {
            sys::write(fd, self.bytes(step.t))?;
        }
        sys::close(fd);
        Ok(())
    }

    fn exec(&self, step: &Step) -> Res<()> {
        let ((argv, argc), (envp, envc)) = (wire::pair(step.x), wire::pair(step.y));
        let pointers = |first: u32, count: u32| {
            let mut offset = first;
            let mut table: Vec<usize> = Vec::with_capacity(count as usize + 1);
            for _ in 0..count {
                table.push(self.at(offset));
                offset = wire::list_end(self.plan, offset, 1).unwrap_or(offset);
            }
            table.push(0);
            table
        };
        let (argv, envp) = (pointers(argv, argc), pointers(envp, envc));
        let mut candidate = step.s;
        let mut verdict = 2;
        for _ in 0..step.n {
            let done = call(nr::EXECVE, [self.at(candidate), argv.as_ptr() as usize, envp.as_ptr() as usize, 0, 0, 0]);
            verdict = done.err().unwrap_or(verdict);
            candidate = wire::list_end(self.plan, candidate, 1).unwrap_or(candidate);
        }
        Err(verdict)
    }
}

fn loopback() -> Res<()> {
    let fd = call(nr::SOCKET, [2, 1 | 0o2_000_000, 0, 0, 0, 0])?;
    let mut request = [0u64; 5];
    request[0] = u64::from_le_bytes(*b"lo\0\0\0\0\0\0");
    call(nr::IOCTL, [fd, 0x8913, request.as_mut_ptr() as usize, 0, 0, 0])?;
    request[2] |= 1;
    let up = call(nr::IOCTL, [fd, 0x8914, request.as_mut_ptr() as usize, 0, 0, 0]);
    sys::close(fd as i32);
    up.map(drop)
}

/// pid 1.
fn init() -> ! {
    let _ = call(nr::CLOSE_RANGE, [0, u32::MAX as usize, 0, 0, 0, 0]);
    let child: u64 = 1 << 16;
    loop {
        let mut info = [0i32; 32];
        // P_ALL, WEXITED | WNOHANG
        while call(nr::WAITID, [0, 0, info.as_mut_ptr() as usize, 5, 0, 0]).is_ok() && info[2] != 0 {
            info[2] = 0;
        }
        let _ = call(nr::RT_SIGTIMEDWAIT, [&raw const child as usize, 0, 0, 8, 0, 0]);
    }
}
