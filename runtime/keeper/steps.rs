//! What each step does. All of it runs in the child; every operand has been checked by `wire::check`.

use crate::arch::nr;
use crate::spawn::Birth;
use crate::sys::{self, AT_EMPTY_PATH, CStr, Res, call, lit};
use crate::wire::{self, MAX_SLOTS, Op, Step, pair};
use crate::{attend, child, copyup, hand, landlock, place, spawn, stub, terminal};

/// The descriptors of a plan: received ones first, then what its steps open. -1 is empty.
#[derive(Clone, Copy)]
pub(crate) struct Slots([i32; MAX_SLOTS]);

impl Slots {
    pub(crate) fn new(birth: &Birth) -> Slots {
        let mut slots = [-1; MAX_SLOTS];
        let count = usize::from(birth.header.fds);
        for (slot, fd) in slots.iter_mut().zip(birth.fds.iter().take(count)) {
            *slot = *fd;
        }
        Slots(slots)
    }

    /// The descriptor in `slot`; no slot at all means "the working directory".
    pub(crate) fn get(&self, slot: i16) -> i32 {
        match usize::try_from(slot) {
            Ok(slot) => self.0.get(slot).copied().unwrap_or(-1),
            Err(_) => sys::AT_FDCWD,
        }
    }

    pub(crate) fn is_empty(&self, slot: i16) -> bool {
        self.get(slot) == -1
    }

    fn set(&mut self, slot: i16, fd: i32) {
        if let Some(place) = usize::try_from(slot).ok().and_then(|slot| self.0.get_mut(slot)) {
            *place = fd;
        }
    }
}

fn at(birth: &Birth, offset: u32) -> CStr {
    match birth.plan.get(offset as usize..) {
        Some(text) => CStr(text.as_ptr()),
        None => CStr::EMPTY,
    }
}

fn bytes(birth: &Birth, offset: u32) -> &'static [u8] {
    wire::string(birth.plan, offset).unwrap_or(&[])
}

/// In the child.
pub(crate) fn run(slots: &mut Slots, birth: &Birth, step: &Step) -> Res<()> {
    let (a, b) = (slots.get(step.a), slots.get(step.b));
    let s = at(birth, step.s);
    let simple = |number: usize, args: [usize; 6]| call(number, args).map(drop);
    match step.op {
        Op::Wait => wait(a),
        Op::WaitMaps => {
            child::wait_maps(birth);
            Ok(())
        }
        Op::Setsid => simple(nr::SETSID, [0; 6]),
        Op::WriteFd => sys::write(a, bytes(birth, step.s)).map(drop),
        Op::Unshare => sys::unshare(step.x as usize),
        Op::SetNs => sys::setns(a, step.x as usize),
        Op::SetGroups => simple(nr::SETGROUPS, [step.n as usize / 4, s.0 as usize, 0, 0, 0, 0]),
        Op::SetIds => set_ids(step.x as usize, step.y as usize),
        Op::Propagation => simple(nr::MOUNT, [0, s.0 as usize, 0, step.x as usize, 0, 0]),
        Op::OpenTree => {
            fill(slots, step.dst, call(nr::OPEN_TREE, [a as usize, s.0 as usize, step.x as usize, 0, 0, 0]))
        }
        Op::CloneTree => {
            let flags = step.x as usize | AT_EMPTY_PATH;
            fill(slots, step.dst, call(nr::OPEN_TREE, [a as usize, CStr::EMPTY.0 as usize, flags, 0, 0, 0]))
        }
        Op::NewMount => new_mount(slots, birth, step),
        Op::Reconfigure => reconfigure(a, birth, step),
        Op::MoveMount => {
            let flags = step.x as usize | 4 | if s_empty(birth, step.s) { 0x40 } else { 0 };
            simple(nr::MOVE_MOUNT, [a as usize, CStr::EMPTY.0 as usize, b as usize, s.0 as usize, flags, 0])
        }
        Op::MountAttr => mount_attr(a, s, b, step),
        Op::Mkdir => simple(nr::MKDIRAT, [a as usize, s.0 as usize, step.x as usize, 0, 0, 0]),
        Op::Symlink => simple(nr::SYMLINKAT, [at(birth, step.t).0 as usize, a as usize, s.0 as usize, 0, 0, 0]),
        Op::Mknod => simple(nr::MKNODAT, [a as usize, s.0 as usize, step.x as usize, step.y as usize, 0, 0]),
        Op::MakeFile => make_file(slots, birth, step),
        Op::Open => {
            let opened = sys::openat2(a, s, step.x & 0xffff_ffff, step.x >> 32, step.y);
            fill(slots, step.dst, opened.map(|fd| fd as usize))
        }
        Op::Place => fill(slots, step.dst, place::open(a, bytes(birth, step.s), step.x, step.y)),
        Op::CopyUp => copyup::run(a, b, step.x),
        Op::Fchdir => simple(nr::FCHDIR, [a as usize, 0, 0, 0, 0, 0]),
        Op::PivotRoot if step.y != 0 => change_root(step.y == 2),
        Op::PivotRoot => pivot_root(step.x),
        Op::Hostname => simple(nr::SETHOSTNAME, [s.0 as usize, bytes(birth, step.s).len(), 0, 0, 0, 0]),
        Op::Domainname => simple(nr::SETDOMAINNAME, [s.0 as usize, bytes(birth, step.s).len(), 0, 0, 0, 0]),
        Op::Loopback => loopback_up(),
        Op::WriteFile => write_file(a, s, bytes(birth, step.t)),
        Op::Rlimit => {
            let limit = [step.y, step.z];
            simple(nr::PRLIMIT64, [0, step.x as usize, limit.as_ptr() as usize, 0, 0, 0])
        }
        Op::Personality => simple(nr::PERSONALITY, [step.x as usize, 0, 0, 0, 0, 0]),
        Op::IoPriority => simple(nr::IOPRIO_SET, [1, 0, step.x as usize, 0, 0, 0]),
        Op::Scheduler => simple(nr::SCHED_SETATTR, [0, s.0 as usize, 0, 0, 0, 0]),
        Op::MemoryPolicy => {
            let (mask, bits) = if step.n == 0 { (0, 0) } else { (s.0 as usize, step.n as usize * 8 + 1) };
            simple(nr::SET_MEMPOLICY, [step.x as usize, mask, bits, 0, 0, 0])
        }
        Op::Affinity => simple(nr::SCHED_SETAFFINITY, [0, step.n as usize, s.0 as usize, 0, 0, 0]),
        Op::Umask => simple(nr::UMASK, [step.x as usize, 0, 0, 0, 0, 0]),
        Op::Chdir => chdir(s),
        Op::CapBound => cap_bound(step.x),
        Op::CapSet => cap_set(step),
        Op::CapAmbient => cap_ambient(step.x),
        Op::Prctl => simple(nr::PRCTL, [step.x as usize, step.y as usize, 0, 0, 0, 0]),
        Op::Seccomp => seccomp(slots, birth, step),
        Op::Install => install(slots, step),
        Op::CloseRange => {
            let last = if step.z == 0 { usize::MAX >> 32 } else { step.z as usize };
            sys::close_range(step.x as usize, last, step.y as usize)
        }
        Op::Signals => {
            let none = 0u64;
            simple(nr::RT_SIGPROCMASK, [2, &raw const none as usize, 0, 8, 0, 0])
        }
        Op::Name => simple(nr::PRCTL, [15, s.0 as usize, 0, 0, 0, 0]),
        Op::Ready => ready(slots, birth, step.x == 1),
        Op::Stub => stub::run(birth.page, a),
        Op::Guard => stub::guard(birth.page, a),
        Op::Exec => exec(birth, step),
        Op::Find => find(birth, step),
        Op::Close => {
            sys::close(a);
            slots.set(step.a, -1);
            Ok(())
        }
        Op::CheckDevice => check_device(a, step),
        Op::CheckType => {
            let right = (u64::from(stat(a)?.0 & 0o170_000) == step.x) != (step.y == 1);
            if !right && step.flags & wire::OPTIONAL != 0 {
                sys::close(a);
                slots.set(step.a, -1);
            }
            if right { Ok(()) } else { Err(sys::ENOTDIR) }
        }
        Op::CheckFs if fs_magic(a)? == step.x => Ok(()),
        Op::CheckFs => Err(sys::EINVAL),
        Op::Keyring => match call(nr::KEYCTL, [1, 0, 0, 0, 0, 0]) {
            // Kernels without keyrings have nothing to inherit. Keys are counted by user (200 for each by default) and
            // freed late: without room the keeper's own empty keyring, joined at its start, is what is inherited.
            Err(sys::ENOSYS | sys::EDQUOT) => Ok(()),
            other => other.map(drop),
        },
        Op::SendFd => {
            // `wire::check` has seen that it is one.
            let purpose = wire::Purpose::from_u8(step.x as u8).unwrap_or(wire::Purpose::Socket);
            let message = wire::Message { kind: wire::Tell::Sent as u16, ..wire::Message::default() };
            sys::send(a, &message.encode_with(purpose), Some(b))
        }
        Op::Socket => {
            let kind = step.y as usize | sys::O_CLOEXEC;
            fill(slots, step.dst, call(nr::SOCKET, [step.x as usize, kind, 0, 0, 0, 0]))
        }
        Op::Quit => sys::exit_group(0),
        Op::OpenPeer => fill(slots, step.dst, terminal::open_peer(a, step.x as usize)),
        Op::WindowSize => terminal::window_size(a, step.x as u16, step.y as u16),
        Op::ControllingTerminal => terminal::control(a),
        Op::Hand => hand::run(a),
        Op::Attend => attend::run(a),
        // The middle process's.
        Op::Enter => Err(sys::EINVAL),
        Op::LandlockRuleset => fill(slots, step.dst, landlock::ruleset(step.x, step.y, step.z)),
        Op::LandlockPath => landlock::path(a, b, step.x, step.y),
        Op::LandlockPort => landlock::port(a, step.x, step.y),
        Op::LandlockRestrict => landlock::restrict(a),
        Op::Lift => {
            // F_DUPFD_CLOEXEC; the old number is left for the final CloseRange.
            fill(slots, step.a, call(nr::FCNTL, [a as usize, 1030, step.x as usize, 0, 0, 0]))
        }
        Op::Chown => {
            let flags = 0x100 | AT_EMPTY_PATH;
            simple(nr::FCHOWNAT, [a as usize, s.0 as usize, step.x as usize, step.y as usize, flags, 0])
        }
        Op::Umount => simple(nr::UMOUNT2, [s.0 as usize, step.x as usize, 0, 0, 0, 0]),
        Op::Chmod => simple(nr::FCHMOD, [a as usize, step.x as usize, 0, 0, 0, 0]),
        Op::SetXattr => {
            let value = at(birth, step.t).0 as usize;
            simple(nr::FSETXATTR, [a as usize, s.0 as usize, value, step.n as usize, 0, 0])
        }
    }
}

fn s_empty(birth: &Birth, offset: u32) -> bool {
    bytes(birth, offset).is_empty()
}

/// In the child.
fn fill(slots: &mut Slots, dst: i16, opened: Res<usize>) -> Res<()> {
    slots.set(dst, opened? as i32);
    Ok(())
}

/// In the child: the start gate. End of file means that the supervisor has gone or has changed its mind.
fn wait(fd: i32) -> Res<()> {
    let mut byte = [0u8; 1];
    if sys::read(fd, &mut byte)? == 1 { Ok(()) } else { Err(sys::ECANCELED) }
}

/// In the child. Group first: afterwards the right to change it is gone.
fn set_ids(uid: usize, gid: usize) -> Res<()> {
    call(nr::SETRESGID, [gid, gid, gid, 0, 0, 0])?;
    call(nr::SETRESUID, [uid, uid, uid, 0, 0, 0])?;
    // A change of ids clears the request to die with the keeper, and leaves it to the machine (`fs.suid_dumpable`) whether others of the
    // new user may look into us (`commit_creds`).
    sys::prctl(sys::PDEATHSIG, 9)?;
    sys::prctl(4, 0).map(drop)
}

/// In the child: `fsopen`, one `fsconfig` for each option, one for the device that serves it, create, `fsmount`.
fn options(fs: usize, birth: &Birth, step: &Step) -> Res<()> {
    let mut offset = step.t;
    let mut left = step.n;
    while left > 0 {
        let key = at(birth, offset);
        let value = wire::list_end(birth.plan, offset, 1).unwrap_or(offset);
        let text = at(birth, value);
        // FSCONFIG_SET_FLAG 0, FSCONFIG_SET_STRING 1
        if s_empty(birth, value) {
            call(nr::FSCONFIG, [fs, 0, key.0 as usize, 0, 0, 0])?;
        } else {
            call(nr::FSCONFIG, [fs, 1, key.0 as usize, text.0 as usize, 0, 0])?;
        }
        offset = wire::list_end(birth.plan, value, 1).unwrap_or(offset);
        left -= 1;
    }
    Ok(())
}

/// In the child.
fn reconfigure(place: i32, birth: &Birth, step: &Step) -> Res<()> {
    // FSPICK_CLOEXEC | FSPICK_EMPTY_PATH
    let fs = call(nr::FSPICK, [place as usize, CStr::EMPTY.0 as usize, 1 | 8, 0, 0, 0])?;
    options(fs, birth, step)?;
    // FSCONFIG_CMD_RECONFIGURE
    call(nr::FSCONFIG, [fs, 7, 0, 0, 0, 0])?;
    sys::close(fs as i32);
    Ok(())
}

/// In the child.
fn new_mount(slots: &mut Slots, birth: &Birth, step: &Step) -> Res<()> {
    let fs = call(nr::FSOPEN, [at(birth, step.s).0 as usize, 1, 0, 0, 0, 0])?;
    options(fs, birth, step)?;
    if step.a >= 0 {
        let mut number = [0u8; 40];
        spawn::fill(&mut number, b"", slots.get(step.a) as u64, b"");
        call(nr::FSCONFIG, [fs, 1, lit(c"fd").0 as usize, number.as_ptr() as usize, 0, 0])?;
    }
    // FSCONFIG_CMD_CREATE
    call(nr::FSCONFIG, [fs, 6, 0, 0, 0, 0])?;
    let mounted = call(nr::FSMOUNT, [fs, 1, step.x as usize, 0, 0, 0]);
    sys::close(fs as i32);
    fill(slots, step.dst, mounted)
}

/// In the child.
fn mount_attr(fd: i32, path: CStr, userns: i32, step: &Step) -> Res<()> {
    let userns = if userns < 0 { 0 } else { userns as u64 };
    let attr = [step.x, step.y, step.z & 0xffff_ffff, userns];
    let flags = (step.z >> 32) as usize | AT_EMPTY_PATH;
    call(nr::MOUNT_SETATTR, [fd as usize, path.0 as usize, flags, attr.as_ptr() as usize, 32, 0]).map(drop)
}

/// In the child: O_CREAT | O_EXCL | O_NOFOLLOW, so that nothing that is already there is written through.
fn make_file(slots: &Slots, birth: &Birth, step: &Step) -> Res<()> {
    let flags = sys::O_WRONLY | 0o100 | 0o200 | sys::O_NOFOLLOW;
    let fd = sys::openat(slots.get(step.a), at(birth, step.s), flags, step.x as usize)?;
    let filled = if step.b >= 0 {
        copy_all(slots.get(step.b), fd)
    } else if step.t != 0 {
        write_all(fd, bytes(birth, step.t))
    } else {
        Ok(())
    };
    sys::close(fd);
    filled
}

fn copy_all(from: i32, to: i32) -> Res<()> {
    let mut offset = 0u64;
    loop {
        let args = [to as usize, from as usize, &raw mut offset as usize, 1 << 30, 0, 0];
        if call(nr::SENDFILE, args)? == 0 {
            return Ok(());
        }
    }
}

fn write_all(fd: i32, mut left: &[u8]) -> Res<()> {
    while !left.is_empty() {
        let wrote = sys::write(fd, left)?;
        left = left.get(wrote..).unwrap_or(&[]);
    }
    Ok(())
}

/// In the child, whose working directory is the new root. Afterwards the old root lies on top of the new one, and on
/// top of it what was stacked there: `.` of an unmount means the topmost, so one call for each of the `stacked`.
fn pivot_root(stacked: u64) -> Res<()> {
    let dot = lit(c".");
    call(nr::PIVOT_ROOT, [dot.0 as usize, dot.0 as usize, 0, 0, 0, 0])?;
    let mut left = stacked;
    while left > 0 {
        // MNT_DETACH
        call(nr::UMOUNT2, [dot.0 as usize, 2, 0, 0, 0, 0])?;
        left -= 1;
    }
    call(nr::CHDIR, [lit(c"/").0 as usize, 0, 0, 0, 0, 0]).map(drop)
}

/// In the child, whose working directory is the new root: it lies on the old one, which stays, as the one of an initramfs must. What shows
/// the host there is covered, by what lies on its /proc already: as long as a whole procfs or sysfs is seen in a mount namespace, the kernel
/// lets whoever has a user namespace below it mount another one, which nothing masks.
fn change_root(lies_elsewhere: bool) -> Res<()> {
    let (proc, sys) = (lit(c"/proc").0 as usize, lit(c"/sys").0 as usize);
    // MNT_DETACH; in a user namespace nothing of the host's goes.
    while call(nr::UMOUNT2, [sys, 2, 0, 0, 0, 0]).is_ok() {}
    // MS_BIND. Where no such directory is nothing is shown.
    match call(nr::MOUNT, [proc, sys, 0, 4096, 0, 0]) {
        Ok(_) | Err(sys::ENOENT) => {}
        Err(errno) => return Err(errno),
    }
    if lies_elsewhere {
        // Whoever enters the mount namespace comes to what is topmost at its root.
        let (here, top) = (lit(c".").0 as usize, lit(c"/").0 as usize);
        call(nr::MOVE_MOUNT, [sys::AT_FDCWD as usize, here, sys::AT_FDCWD as usize, top, 0, 0])?;
    }
    call(nr::CHROOT, [lit(c".").0 as usize, 0, 0, 0, 0, 0])?;
    call(nr::CHDIR, [lit(c"/").0 as usize, 0, 0, 0, 0, 0]).map(drop)
}

/// In the child: one socket and two ioctls.
fn loopback_up() -> Res<()> {
    let fd = call(nr::SOCKET, [2, 1 | sys::O_CLOEXEC, 0, 0, 0, 0])?;
    // struct ifreq: name (16), flags (i16)
    let mut request = [0u64; 5];
    if let Some(name) = request.first_mut() {
        *name = u64::from_le_bytes(*b"lo\0\0\0\0\0\0");
    }
    // SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP
    call(nr::IOCTL, [fd, 0x8913, request.as_mut_ptr() as usize, 0, 0, 0])?;
    if let Some(flags) = request.get_mut(2) {
        *flags |= 1;
    }
    let up = call(nr::IOCTL, [fd, 0x8914, request.as_mut_ptr() as usize, 0, 0, 0]);
    sys::close(fd as i32);
    up.map(drop)
}

/// In the child.
fn write_file(dir: i32, path: CStr, content: &[u8]) -> Res<()> {
    let fd = sys::openat(dir, path, sys::O_WRONLY, 0)?;
    let wrote = sys::write(fd, content);
    sys::close(fd);
    wrote.map(drop)
}

/// In the child: a working directory outside the root would name host files ("(unreachable)" in getcwd).
fn chdir(path: CStr) -> Res<()> {
    call(nr::CHDIR, [path.0 as usize, 0, 0, 0, 0, 0])?;
    let mut cwd = [0u8; 4096];
    let len = call(nr::GETCWD, [cwd.as_mut_ptr() as usize, cwd.len(), 0, 0, 0, 0])?;
    if len == 0 || cwd.first() != Some(&b'/') {
        return Err(sys::ENOENT);
    }
    Ok(())
}

/// In the child: PR_CAPBSET_DROP for each capability that the kernel knows and `keep` lacks.
fn cap_bound(keep: u64) -> Res<()> {
    let mut cap = 0;
    while cap < 64 {
        if keep & (1 << cap) == 0 {
            match sys::prctl(24, cap) {
                // Beyond the kernel's last capability.
                Err(sys::EINVAL) => return Ok(()),
                other => other?,
            };
        }
        cap += 1;
    }
    Ok(())
}

/// In the child.
fn cap_set(step: &Step) -> Res<()> {
    // _LINUX_CAPABILITY_VERSION_3, this process; then (effective, permitted, inheritable) low and high.
    let head = [0x2008_0522u32, 0];
    let low = [step.x as u32, step.y as u32, step.z as u32];
    let high = [(step.x >> 32) as u32, (step.y >> 32) as u32, (step.z >> 32) as u32];
    let data = [low, high];
    call(nr::CAPSET, [head.as_ptr() as usize, data.as_ptr() as usize, 0, 0, 0, 0]).map(drop)
}

/// In the child: PR_CAP_AMBIENT_CLEAR_ALL, then PR_CAP_AMBIENT_RAISE for each of `raise`.
fn cap_ambient(raise: u64) -> Res<()> {
    call(nr::PRCTL, [47, 4, 0, 0, 0, 0])?;
    let mut cap = 0;
    while cap < 64 {
        if raise & (1 << cap) != 0 {
            call(nr::PRCTL, [47, 2, cap, 0, 0, 0])?;
        }
        cap += 1;
    }
    Ok(())
}

/// In the child, last before exec.
fn seccomp(slots: &mut Slots, birth: &Birth, step: &Step) -> Res<()> {
    // struct sock_fprog: length (u16), padding, pointer
    let program = [u64::from(step.n / 8), at(birth, step.s).0 as u64];
    let made = call(nr::SECCOMP, [1, step.x as usize, program.as_ptr() as usize, 0, 0, 0])?;
    if step.dst >= 0 {
        slots.set(step.dst, made as i32);
    }
    Ok(())
}

/// In the child. The planner orders these steps so that no source is overwritten; equal numbers only lose CLOEXEC.
fn install(slots: &Slots, step: &Step) -> Res<()> {
    let (from, to) = (slots.get(step.a), step.x as i32);
    if from == to { sys::clear_cloexec(from) } else { sys::dup3(from, to, false) }
}

/// In the child: the report pipe stays open for what may still fail behind the gate. One that is `tied` goes with the keeper.
fn ready(slots: &Slots, birth: &Birth, tied: bool) -> Res<()> {
    child::wait_told(birth);
    if tied {
        // Whoever came late enough has not asked for it (`child::main`).
        sys::prctl(sys::PDEATHSIG, 9)?;
    } else {
        sys::prctl(sys::PDEATHSIG, 0)?;
    }
    let report = wire::report(wire::REPORT_READY, 0);
    if sys::write(slots.get(birth.header.report), &report)? == report.len() { Ok(()) } else { Err(sys::EPIPE) }
}

/// What is asked of a file.
pub(crate) struct Stat {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) rdev: u64,
    pub(crate) size: u64,
}

pub(crate) fn look(fd: i32) -> Res<Stat> {
    let mut stat = [0u64; 24];
    call(nr::FSTAT, [fd as usize, stat.as_mut_ptr() as usize, 0, 0, 0, 0])?;
    let word = |index: usize| stat.get(index).copied().unwrap_or(0);
    let (low, high) = (|index: usize| word(index) as u32, |index: usize| (word(index) >> 32) as u32);
    // struct stat: x86-64 has mode, uid and gid from byte 24 and rdev at 40, aarch64 mode at 16, uid and gid from 24 and rdev
    // at 32; the size is at 48 on both.
    Ok(if cfg!(target_arch = "x86_64") {
        Stat { mode: low(3), uid: high(3), gid: low(4), rdev: word(5), size: word(6) }
    } else {
        Stat { mode: low(2), uid: low(3), gid: high(3), rdev: word(4), size: word(6) }
    })
}

/// Mode and device number.
pub(crate) fn stat(fd: i32) -> Res<(u32, u64)> {
    look(fd).map(|stat| (stat.mode, stat.rdev))
}

/// In the child: a mount source that pretends to be a device is not taken.
fn check_device(fd: i32, step: &Step) -> Res<()> {
    let (mode, found) = stat(fd)?;
    let kind = if step.y == 1 { 0o060_000 } else { 0o020_000 };
    if mode & 0o170_000 == kind && found == step.x { Ok(()) } else { Err(sys::ENODEV) }
}

/// In the child.
pub(crate) fn fs_magic(fd: i32) -> Res<u64> {
    let mut stat = [0u64; 16];
    call(nr::FSTATFS, [fd as usize, stat.as_mut_ptr() as usize, 0, 0, 0, 0])?;
    Ok(stat.first().copied().unwrap_or(0))
}

/// It goes on ending with the keeper (`Builder::tie`).
pub(crate) fn is_tied(birth: &Birth) -> bool {
    let last = birth.header.steps.checked_sub(1).and_then(|index| wire::step(birth.plan, index));
    last.is_some_and(|step| step.op == Op::Exec && step.z != 0)
}

/// In the child: try each candidate of the search path as `execvp` does. Comes back only with an error.
fn exec(birth: &Birth, step: &Step) -> Res<()> {
    let ((argv, argc), (envp, envc)) = (pair(step.x), pair(step.y));
    let table = at(birth, step.t).0.cast_mut().cast::<usize>();
    let env_table = table.wrapping_add(argc as usize + 1);
    pointers(birth, table, argv, argc);
    pointers(birth, env_table, envp, envc);
    if step.z == 0 {
        sys::prctl(sys::PDEATHSIG, 0)?;
    }
    let mut verdict = sys::ENOENT;
    let mut candidate = step.s;
    let mut left = step.n;
    while left > 0 {
        let path = at(birth, candidate);
        let failed = call(nr::EXECVE, [path.0 as usize, table as usize, env_table as usize, 0, 0, 0]);
        match failed {
            // Go on looking; but a file that is there and may not be executed is the better story.
            Err(sys::ENOENT | sys::ENOTDIR | sys::ENODEV) => {}
            Err(sys::EACCES) => verdict = sys::EACCES,
            Err(errno) => return Err(errno),
            Ok(_) => {}
        }
        candidate = wire::list_end(birth.plan, candidate, 1).unwrap_or(candidate);
        left -= 1;
    }
    Err(verdict)
}

/// In the child: what [`exec`] would find, as far as rights and types tell that.
fn find(birth: &Birth, step: &Step) -> Res<()> {
    let mut verdict = sys::ENOENT;
    let mut candidate = step.s;
    let mut left = step.n;
    while left > 0 {
        match executable(at(birth, candidate)) {
            Ok(()) => return Ok(()),
            Err(sys::ENOENT | sys::ENOTDIR) => {}
            Err(errno) => verdict = errno,
        }
        candidate = wire::list_end(birth.plan, candidate, 1).unwrap_or(candidate);
        left -= 1;
    }
    Err(verdict)
}

/// In the child.
fn executable(path: CStr) -> Res<()> {
    let fd = sys::openat(sys::AT_FDCWD, path, sys::O_PATH, 0)?;
    let mode = stat(fd);
    // X_OK; AT_EACCESS
    let may = call(nr::FACCESSAT2, [fd as usize, CStr::EMPTY.0 as usize, 1, AT_EMPTY_PATH | 0x200, 0, 0]);
    sys::close(fd);
    if mode?.0 & 0o170_000 != 0o100_000 {
        return Err(sys::EACCES);
    }
    may.map(drop)
}

/// In the child: fill `count` pointers and a null into the table that the plan reserves for them.
fn pointers(birth: &Birth, table: *mut usize, first: u32, count: u32) {
    let mut offset = first;
    let mut index = 0;
    while index < count as usize {
        // SAFETY: `wire::check` has seen that the table lies in the plan; the plan lies in private, writable memory.
        unsafe { table.add(index).write_unaligned(at(birth, offset).0 as usize) };
        offset = wire::list_end(birth.plan, offset, 1).unwrap_or(offset);
        index += 1;
    }
    // SAFETY: as above; the table has one word more than there are strings.
    unsafe { table.add(index).write_unaligned(0) };
}
