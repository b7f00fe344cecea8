//! Writing the encoding of [`wire`]: steps, slots, strings.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::wire::{self, HEADER, NONE, Op, STEP, Step};
use crate::error::Error;
use crate::spec::Device;

/// What a received descriptor of a plan is. The runtime opens them in this order; the number in a variant is an index
/// into the list of that kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Need {
    /// Write end of the pipe that steps report on.
    Report,
    /// Read end of the start gate, or of the line of a stub that is [tied](super::machine::Allotment::tied).
    Gate,
    /// The container's cgroup v2 directory.
    Cgroup,
    /// `tasks` of a v1 hierarchy.
    Tasks(u16),
    /// pidfd of the container's pid 1.
    Init,
    /// Detached mount tree of a layer of the root, the uppermost is 0.
    Layer(u16),
    /// Detached mount tree of a bind mount.
    Bind(u16),
    /// memfd with the content of a staged file.
    File(u16),
    /// A standard stream: 0, 1 or 2.
    Stdio(u16),
    /// A preserved descriptor.
    Preserved(u16),
    /// An existing namespace, by its place in [`wire::JOINABLE`].
    Namespace(u16),
    /// Socket on which the plan sends a descriptor that it has made.
    Channel,
    /// Socket on which a container sends what its root is to be served with.
    Served,
}

impl Need {
    /// What it is called on the keeper's socket.
    #[must_use]
    pub fn purpose(self) -> wire::Purpose {
        use wire::Purpose;
        match self {
            Self::Report => Purpose::Report,
            Self::Gate => Purpose::Gate,
            Self::Cgroup => Purpose::Cgroup,
            Self::Tasks(_) => Purpose::Tasks,
            Self::Init => Purpose::Pidfd,
            Self::Layer(_) | Self::Bind(_) => Purpose::Tree,
            Self::File(_) => Purpose::File,
            Self::Stdio(_) => Purpose::Stdio,
            Self::Preserved(_) => Purpose::Preserved,
            Self::Namespace(place) => wire::JOINED.get(usize::from(place)).copied().unwrap_or(Purpose::Network),
            Self::Channel | Self::Served => Purpose::Channel,
        }
    }
}

impl std::fmt::Display for Need {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Report => f.write_str("report pipe"),
            Self::Gate => f.write_str("start gate"),
            Self::Cgroup => f.write_str("cgroup directory"),
            Self::Tasks(n) => write!(f, "v1 tasks file {n}"),
            Self::Init => f.write_str("pidfd of the container's init"),
            Self::Layer(0) => f.write_str("mount tree of the root"),
            Self::Layer(n) => write!(f, "mount tree of layer {n} of the root"),
            Self::Bind(n) => write!(f, "mount tree of mounts[{n}]"),
            Self::File(n) => write!(f, "content of files[{n}]"),
            Self::Stdio(0) => f.write_str("stdin"),
            Self::Stdio(1) => f.write_str("stdout"),
            Self::Stdio(_) => f.write_str("stderr"),
            Self::Namespace(_) => write!(f, "{} to join", self.purpose().name()),
            Self::Preserved(n) => write!(f, "preserved descriptor {n}"),
            Self::Channel => f.write_str("channel"),
            Self::Served => f.write_str("channel of what serves the root"),
        }
    }
}

/// An encoded plan and what its reader must know beside the bytes.
#[derive(Clone, Debug)]
pub struct Plan {
    bytes: Vec<u8>,
    needs: Vec<Need>,
    fields: Vec<&'static str>,
}

impl Plan {
    /// What the keeper gets.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The descriptors that must come with it, in order.
    #[must_use]
    pub fn needs(&self) -> &[Need] {
        &self.needs
    }

    /// The decoded header.
    #[must_use]
    pub fn header(&self) -> Option<wire::Header> {
        wire::header(&self.bytes)
    }

    /// Step `index`, decoded from the bytes.
    #[must_use]
    pub fn step(&self, index: u16) -> Option<Step> {
        (index < self.header()?.steps).then(|| wire::step(&self.bytes, index)).flatten()
    }

    /// All steps, decoded from the bytes.
    pub fn steps(&self) -> impl Iterator<Item = Step> + '_ {
        (0..self.header().map_or(0, |header| header.steps)).filter_map(|index| wire::step(&self.bytes, index))
    }

    /// The field of the spec that a step comes from; empty when it is part of every container.
    #[must_use]
    pub fn field(&self, step: &Step) -> &'static str {
        self.fields.get(usize::from(step.field)).copied().unwrap_or("")
    }

    /// The string at `offset`.
    #[must_use]
    pub fn text(&self, offset: u32) -> String {
        String::from_utf8_lossy(wire::string(&self.bytes, offset).unwrap_or_default()).into_owned()
    }

    /// The keeper will take it.
    ///
    /// # Errors
    /// It is too large; the error names the field that most of its steps come from.
    pub fn fits(&self) -> Result<(), Error> {
        if wire::check(&self.bytes, self.needs.len()).is_ok() {
            return Ok(());
        }
        let mut counts = vec![0usize; self.fields.len()];
        for step in self.steps() {
            if let Some(count) = counts.get_mut(usize::from(step.field)) {
                *count += 1;
            }
        }
        let most = counts.iter().zip(&self.fields).max_by_key(|(count, _)| **count).map_or("", |(_, field)| field);
        let (steps, bytes) = (counts.iter().sum::<usize>(), self.bytes.len());
        let why = format!(
            "this needs a plan of {steps} steps and {bytes} bytes; {} and {} are possible",
            wire::MAX_STEPS,
            wire::MAX_PLAN
        );
        Err(Error::invalid(most, why))
    }

    /// The same plan with step `index` replaced by one of the same field that cannot succeed: for tests that fail each
    /// step in turn.
    #[must_use]
    pub fn failing_at(&self, index: u16) -> Plan {
        let mut plan = self.clone();
        let at = HEADER + usize::from(index) * STEP;
        let field = self.step(index).map_or(0, |step| step.field);
        // setns on the report pipe: EINVAL.
        let enters = self.step(index).is_some_and(|step| step.op == Op::Enter);
        let op = if enters { Op::Enter } else { Op::SetNs };
        let step = Step { op, field, a: wire::header(&self.bytes).map_or(0, |h| h.report), ..EMPTY };
        if let Some(place) = plan.bytes.get_mut(at..at + STEP) {
            place.copy_from_slice(&encode_step(&step));
        }
        plan
    }
}

/// A slot number, made by [`Builder::received`] and [`Builder::slot`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(i16);

impl Slot {
    /// No descriptor: paths are relative to the working directory.
    pub const CWD: Slot = Slot(NONE);
}

/// A step with nothing in it.
const EMPTY: Step =
    Step { op: Op::Setsid, flags: 0, dst: NONE, a: NONE, b: NONE, field: 0, s: 0, t: 0, n: 0, x: 0, y: 0, z: 0 };

/// Collects steps; [`Builder::finish`] lays them out. Offsets are relative to the strings until then, plus one, so
/// that zero stays "none".
#[derive(Debug)]
pub struct Builder {
    steps: Vec<Step>,
    blob: Vec<u8>,
    needs: Vec<Need>,
    opened: i16,
    /// Slots that were opened and closed again.
    free: Vec<Slot>,
    fields: Vec<&'static str>,
    field: u16,
    clone: u64,
    flags: u16,
    maps: Option<(u32, u32)>,
    cgroup: i16,
    pidns: i16,
    report: i16,
    join: [i16; wire::JOINABLE.len()],
}

impl Builder {
    /// A plan whose report pipe is its first descriptor. `needs` are the descriptors that come with it.
    #[must_use]
    pub fn new(needs: &[Need]) -> Self {
        let mut all = vec![Need::Report];
        all.extend_from_slice(needs);
        Self {
            steps: Vec::new(),
            blob: Vec::new(),
            opened: 0,
            free: Vec::new(),
            needs: all,
            fields: vec![""],
            field: 0,
            clone: 0,
            flags: 0,
            maps: None,
            cgroup: NONE,
            pidns: NONE,
            report: 0,
            join: [NONE; wire::JOINABLE.len()],
        }
    }

    /// The slot of a received descriptor.
    #[must_use]
    pub fn received(&self, need: Need) -> Option<Slot> {
        let at = self.needs.iter().position(|have| *have == need)?;
        i16::try_from(at).ok().map(Slot)
    }

    /// An empty slot for a step to open into.
    pub fn slot(&mut self) -> Slot {
        if let Some(slot) = self.free.pop() {
            return slot;
        }
        let slot = Slot(i16::try_from(self.needs.len()).unwrap_or(i16::MAX).saturating_add(self.opened));
        self.opened = self.opened.saturating_add(1);
        slot
    }

    /// The steps that follow come from this field.
    pub fn field(&mut self, field: &'static str) -> &mut Self {
        let known = self.fields.iter().position(|have| *have == field);
        let index = known.unwrap_or_else(|| {
            self.fields.push(field);
            self.fields.len() - 1
        });
        self.field = u16::try_from(index).unwrap_or(0);
        self
    }

    /// Namespaces that the child is born in.
    pub fn clone_flags(&mut self, flags: u64) -> &mut Self {
        self.clone |= flags;
        self
    }

    /// The child is born in this cgroup.
    pub fn born_in(&mut self, cgroup: Slot) -> &mut Self {
        self.cgroup = cgroup.0;
        self
    }

    /// From here on it is for the child, which is born in the pid namespace of this pidfd's process and in these others of its.
    pub fn born_beside(&mut self, init: Slot, namespaces: u64) -> &mut Self {
        self.pidns = init.0;
        self.on(Op::Enter, init, namespaces)
    }

    /// The child is born in these existing namespaces, as far as their descriptors come along.
    pub fn born_joined(&mut self) -> &mut Self {
        for place in 0..self.join.len() {
            let need = Need::Namespace(u16::try_from(place).unwrap_or(u16::MAX));
            if let (Some(slot), Some(join)) = (self.received(need), self.join.get_mut(place)) {
                *join = slot.0;
            }
        }
        self
    }

    /// The maps that the keeper writes, and whether `setgroups` is denied first.
    pub fn maps(&mut self, uid: &str, gid: &str, deny_setgroups: bool) -> &mut Self {
        let maps = (self.string(uid), self.string(gid));
        self.maps = Some(maps);
        self.flags |= wire::NEEDS_MAPS | if deny_setgroups { wire::DENY_SETGROUPS } else { 0 };
        self
    }

    fn string(&mut self, text: impl AsRef<OsStr>) -> u32 {
        self.strings(&[text.as_ref()])
    }

    /// Strings one behind the other; an inner NUL has been refused by `check` and is cut here.
    fn strings(&mut self, list: &[&OsStr]) -> u32 {
        let at = self.here();
        for text in list {
            self.blob.extend(text.as_bytes().iter().take_while(|byte| **byte != 0));
            self.blob.push(0);
        }
        if list.is_empty() {
            self.blob.push(0);
        }
        at
    }

    fn here(&self) -> u32 {
        u32::try_from(self.blob.len()).unwrap_or(u32::MAX - 1) + 1
    }

    fn bytes8(&mut self, bytes: &[u8]) -> u32 {
        self.blob.resize(self.blob.len().next_multiple_of(8), 0);
        let at = self.here();
        self.blob.extend_from_slice(bytes);
        at
    }

    fn push(&mut self, step: Step) -> &mut Self {
        self.steps.push(Step { field: self.field, ..step });
        self
    }

    /// Let the last step tolerate what `flags` says ([`wire::OPTIONAL`], [`wire::EXIST_OK`], [`wire::PRESENT`]).
    pub fn tolerate(&mut self, flags: u16) -> &mut Self {
        if let Some(step) = self.steps.last_mut() {
            step.flags |= flags;
        }
        self
    }

    /// The last step is skipped when `slot` has stayed empty.
    pub fn only_if(&mut self, slot: Slot) -> &mut Self {
        if let Some(step) = self.steps.last_mut() {
            step.b = slot.0;
            step.flags |= wire::PRESENT;
        }
        self
    }

    /// Close what a step has opened into `slot`, if anything; the slot may be used again.
    pub fn close(&mut self, slot: Slot) {
        self.on(Op::Close, slot, 0).tolerate(wire::PRESENT);
        self.free.push(slot);
    }

    /// `slot` is emptied if it is a directory.
    pub fn not_a_directory(&mut self, slot: Slot) -> &mut Self {
        let step = Step { op: Op::CheckType, a: slot.0, x: libc::S_IFDIR.into(), y: 1, ..EMPTY };
        self.push(step).tolerate(wire::OPTIONAL)
    }

    /// `slot` must be this device.
    pub fn check_device(&mut self, slot: Slot, device: Device) -> &mut Self {
        self.push(Step { op: Op::CheckDevice, a: slot.0, x: device.rdev, y: device.block.into(), ..EMPTY })
    }

    /// A step of numbers only.
    pub fn op(&mut self, op: Op, x: u64, y: u64, z: u64) -> &mut Self {
        self.push(Step { op, x, y, z, ..EMPTY })
    }

    /// A step on one slot.
    pub fn on(&mut self, op: Op, a: Slot, x: u64) -> &mut Self {
        self.push(Step { op, a: a.0, x, ..EMPTY })
    }

    /// A step on one slot with a string.
    pub fn on_path(&mut self, op: Op, a: Slot, s: impl AsRef<OsStr>, x: u64) -> &mut Self {
        let s = self.string(s);
        self.push(Step { op, a: a.0, s, x, ..EMPTY })
    }

    /// A step on one slot with two strings.
    pub fn on_paths(&mut self, op: Op, a: Slot, s: impl AsRef<OsStr>, t: impl AsRef<OsStr>) -> &mut Self {
        let (s, t) = (self.string(s), self.string(t));
        self.push(Step { op, a: a.0, s, t, ..EMPTY })
    }

    /// `open_tree` of a path.
    pub fn open_tree(&mut self, dir: Slot, path: impl AsRef<OsStr>, recursive: bool) -> Slot {
        // OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE
        let flags = 1 | u64::from(libc::O_CLOEXEC.unsigned_abs()) | if recursive { 0x8000 } else { 0 };
        let (dst, s) = (self.slot(), self.string(path));
        self.push(Step { op: Op::OpenTree, dst: dst.0, a: dir.0, s, x: flags, ..EMPTY });
        dst
    }

    /// A copy of everything below what is open.
    pub fn clone_tree(&mut self, tree: Slot) -> Slot {
        let dst = self.slot();
        // OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE
        let flags = 1 | u64::from(libc::O_CLOEXEC.unsigned_abs()) | 0x8000;
        self.push(Step { op: Op::CloneTree, dst: dst.0, a: tree.0, x: flags, ..EMPTY });
        dst
    }

    /// `openat2` of a path.
    pub fn open(&mut self, dir: Slot, path: impl AsRef<OsStr>, flags: u64, resolve: u64) -> Slot {
        let (dst, s) = (self.slot(), self.string(path));
        self.push(Step { op: Op::Open, dst: dst.0, a: dir.0, s, x: flags, y: resolve, ..EMPTY });
        dst
    }

    /// The place `path` below `root`, for something to be mounted on or made in: links stay inside, what is missing is made.
    /// Nothing is ever mounted on a file system with the magic `not_on` that way.
    pub fn place(&mut self, root: Slot, path: impl AsRef<OsStr>, is_file: bool, not_on: u64) -> Slot {
        self.place_as(root, path, is_file.into(), not_on)
    }

    /// The same of a directory that everybody may write to where it is made.
    pub fn open_place(&mut self, root: Slot, path: impl AsRef<OsStr>, not_on: u64) -> Slot {
        self.place_as(root, path, 2, not_on)
    }

    fn place_as(&mut self, root: Slot, path: impl AsRef<OsStr>, kind: u64, not_on: u64) -> Slot {
        let (dst, s) = (self.slot(), self.string(path));
        self.push(Step { op: Op::Place, dst: dst.0, a: root.0, s, x: kind, y: not_on, ..EMPTY });
        dst
    }

    /// A new file system instance, detached.
    pub fn new_mount(&mut self, fs: &str, options: &[(&str, &str)], attributes: u64) -> Slot {
        let (dst, s) = (self.slot(), self.string(fs));
        let pairs: Vec<&OsStr> = options.iter().flat_map(|(k, v)| [OsStr::new(*k), OsStr::new(*v)]).collect();
        let t = self.strings(&pairs);
        let n = u32::try_from(options.len()).unwrap_or(0);
        self.push(Step { op: Op::NewMount, dst: dst.0, s, t, n, x: attributes, ..EMPTY });
        dst
    }

    /// Other options for the file system that is mounted at `place`.
    pub fn reconfigure(&mut self, place: Slot, options: &[(&str, &str)]) -> &mut Self {
        let pairs: Vec<&OsStr> = options.iter().flat_map(|(k, v)| [OsStr::new(*k), OsStr::new(*v)]).collect();
        let t = self.strings(&pairs);
        let n = u32::try_from(options.len()).unwrap_or(0);
        self.push(Step { op: Op::Reconfigure, a: place.0, t, n, ..EMPTY })
    }

    /// Copy what lies at `place` into `made`, with the `mode` and the `owner` of the directory.
    pub fn copy_up(&mut self, place: Slot, made: Slot, mode: bool, owner: bool) -> &mut Self {
        let x = u64::from(mode) | u64::from(owner) << 1;
        self.push(Step { op: Op::CopyUp, a: place.0, b: made.0, x, ..EMPTY })
    }

    /// Give `made` the mode of the directory at `place`.
    pub fn copy_mode(&mut self, place: Slot, made: Slot) -> &mut Self {
        self.push(Step { op: Op::CopyUp, a: place.0, b: made.0, x: 5, ..EMPTY })
    }

    /// One that is served through `device`.
    pub fn new_served_mount(&mut self, fs: &str, options: &[(&str, &str)], device: Slot, attributes: u64) -> Slot {
        let dst = self.new_mount(fs, options, attributes);
        if let Some(step) = self.steps.last_mut() {
            step.a = device.0;
        }
        dst
    }

    /// Attach a detached tree; an empty path attaches onto `dir` itself.
    pub fn move_mount(&mut self, tree: Slot, dir: Slot, path: impl AsRef<OsStr>) -> &mut Self {
        let s = self.string(path);
        self.push(Step { op: Op::MoveMount, a: tree.0, b: dir.0, s, ..EMPTY })
    }

    /// `mount_setattr` on the tree behind `slot`.
    pub fn mount_attr(&mut self, slot: Slot, set: u64, propagation: u64, recursive: bool) -> &mut Self {
        let s = self.string("");
        let z = propagation | if recursive { 0x8000 << 32 } else { 0 };
        self.push(Step { op: Op::MountAttr, a: slot.0, s, x: set, z, ..EMPTY })
    }

    /// [`mount_attr`](Self::mount_attr), with attributes that are taken away.
    pub fn mount_attrs(&mut self, slot: Slot, set: u64, clear: u64, recursive: bool) -> &mut Self {
        let s = self.string("");
        let z = if recursive { 0x8000 << 32 } else { 0 };
        self.push(Step { op: Op::MountAttr, a: slot.0, s, x: set, y: clear, z, ..EMPTY })
    }

    /// A device node below `dir`.
    pub fn mknod(&mut self, dir: Slot, name: impl AsRef<OsStr>, mode: u32, rdev: u64) -> &mut Self {
        let s = self.string(name);
        self.push(Step { op: Op::Mknod, a: dir.0, s, x: mode.into(), y: rdev, ..EMPTY })
    }

    /// A new file below `dir`: from the memfd in `content`, or with `text`.
    pub fn make_file(
        &mut self,
        dir: Slot,
        path: impl AsRef<OsStr>,
        mode: u64,
        text: Option<&str>,
        content: Slot,
    ) -> &mut Self {
        let s = self.string(path);
        let t = text.map_or(0, |text| self.string(text));
        self.push(Step { op: Op::MakeFile, a: dir.0, b: content.0, s, t, x: mode, ..EMPTY })
    }

    /// Owner of something below `dir`.
    pub fn chown(&mut self, dir: Slot, path: impl AsRef<OsStr>, uid: u32, gid: u32) -> &mut Self {
        let s = self.string(path);
        self.push(Step { op: Op::Chown, a: dir.0, s, x: uid.into(), y: gid.into(), ..EMPTY })
    }

    /// Permission bits of what is open there.
    pub fn chmod(&mut self, file: Slot, mode: u32) -> &mut Self {
        self.push(Step { op: Op::Chmod, a: file.0, x: mode.into(), ..EMPTY })
    }

    /// An extended attribute of what is open there.
    pub fn set_xattr(&mut self, file: Slot, name: &str, value: &[u8]) -> &mut Self {
        let (s, t) = (self.string(name), self.bytes8(value));
        self.push(Step { op: Op::SetXattr, a: file.0, s, t, n: u32::try_from(value.len()).unwrap_or(0), ..EMPTY })
    }

    /// A scheduling policy: a `struct sched_attr` of [`wire::SCHED_ATTR`] bytes.
    pub fn scheduler(&mut self, attributes: &[u8]) -> &mut Self {
        let s = self.bytes8(attributes);
        self.push(Step { op: Op::Scheduler, s, n: u32::try_from(attributes.len()).unwrap_or(0), ..EMPTY })
    }

    /// A memory policy, with its mask of nodes.
    pub fn memory_policy(&mut self, mode: u32, nodes: &[u8]) -> &mut Self {
        let s = self.bytes8(nodes);
        let n = u32::try_from(nodes.len()).unwrap_or(0);
        self.push(Step { op: Op::MemoryPolicy, s, n, x: mode.into(), ..EMPTY })
    }

    /// The CPUs to run on, by a mask.
    pub fn affinity(&mut self, cpus: &[u8]) -> &mut Self {
        let s = self.bytes8(cpus);
        self.push(Step { op: Op::Affinity, s, n: u32::try_from(cpus.len()).unwrap_or(0), ..EMPTY })
    }

    /// Supplementary groups.
    pub fn set_groups(&mut self, groups: &[u32]) -> &mut Self {
        let bytes: Vec<u8> = groups.iter().flat_map(|group| group.to_le_bytes()).collect();
        let s = self.bytes8(&bytes);
        self.push(Step { op: Op::SetGroups, s, n: u32::try_from(bytes.len()).unwrap_or(0), ..EMPTY })
    }

    /// `socket(family, kind)`.
    pub fn socket(&mut self, family: u32, kind: u32) -> Slot {
        let dst = self.slot();
        self.push(Step { op: Op::Socket, dst: dst.0, x: family.into(), y: kind.into(), ..EMPTY });
        dst
    }

    /// The other end of a pseudoterminal.
    pub fn open_peer(&mut self, master: Slot, flags: u64) -> Slot {
        let dst = self.slot();
        self.push(Step { op: Op::OpenPeer, dst: dst.0, a: master.0, x: flags, ..EMPTY });
        dst
    }

    /// The size of a terminal's window.
    pub fn window_size(&mut self, terminal: Slot, rows: u16, columns: u16) -> &mut Self {
        self.push(Step { op: Op::WindowSize, a: terminal.0, x: rows.into(), y: columns.into(), ..EMPTY })
    }

    /// Send a descriptor over the channel.
    pub fn send(&mut self, channel: Slot, fd: Slot, purpose: wire::Purpose) -> &mut Self {
        self.push(Step { op: Op::SendFd, a: channel.0, b: fd.0, x: u64::from(purpose as u8), ..EMPTY })
    }

    /// Rules of landlock, none yet.
    pub fn landlock_ruleset(&mut self, files: u64, network: u64, scopes: u64) -> Slot {
        let dst = self.slot();
        self.push(Step { op: Op::LandlockRuleset, dst: dst.0, x: files, y: network, z: scopes, ..EMPTY });
        dst
    }

    /// What is allowed at and below `place`; `of_file`, where that is no directory.
    pub fn landlock_path(&mut self, ruleset: Slot, place: Slot, access: u64, of_file: u64) -> &mut Self {
        self.push(Step { op: Op::LandlockPath, a: ruleset.0, b: place.0, x: access, y: of_file, ..EMPTY })
    }

    /// What is allowed of a TCP port.
    pub fn landlock_port(&mut self, ruleset: Slot, access: u64, port: u16) -> &mut Self {
        self.push(Step { op: Op::LandlockPort, a: ruleset.0, x: access, y: port.into(), ..EMPTY })
    }

    /// A seccomp filter with a listener.
    pub fn seccomp_listener(&mut self, filter: &[u8], flags: u64) -> Slot {
        let dst = self.slot();
        // SECCOMP_FILTER_FLAG_NEW_LISTENER
        self.seccomp(filter, 8 | flags);
        if let Some(step) = self.steps.last_mut() {
            step.dst = dst.0;
        }
        dst
    }

    /// A seccomp filter, as `struct sock_filter` records.
    pub fn seccomp(&mut self, filter: &[u8], flags: u64) -> &mut Self {
        let s = self.bytes8(filter);
        self.push(Step { op: Op::Seccomp, s, n: u32::try_from(filter.len()).unwrap_or(0), x: flags, ..EMPTY })
    }

    /// The last step of a process: try the candidates in order.
    pub fn exec(&mut self, candidates: &[&OsStr], argv: &[&OsStr], env: &[&OsStr]) -> &mut Self {
        let count = |list: &[&OsStr]| u32::try_from(list.len()).unwrap_or(u32::MAX);
        let (s, args, envs) = (self.strings(candidates), self.strings(argv), self.strings(env));
        let table = self.bytes8(&vec![0; (argv.len() + env.len() + 2) * 8]);
        let pack = |offset: u32, n: u32| u64::from(offset) << 32 | u64::from(n);
        let (x, y) = (pack(args, count(argv)), pack(envs, count(env)));
        self.push(Step { op: Op::Exec, s, n: count(candidates), t: table, x, y, ..EMPTY })
    }

    /// As [`exec`](Self::exec), of a process that goes on ending with its parent.
    pub fn exec_tied(&mut self, candidates: &[&OsStr], argv: &[&OsStr], env: &[&OsStr]) -> &mut Self {
        self.exec(candidates, argv, env).tie()
    }

    /// Of what was just told to [`exec`](Self::exec): it goes on ending with its parent.
    pub fn tie(&mut self) -> &mut Self {
        if let Some(step) = self.steps.last_mut().filter(|step| step.op == Op::Exec) {
            step.z = 1;
        }
        self
    }

    /// One of these must be a program that the process may execute.
    pub fn find(&mut self, candidates: &[&OsStr]) -> &mut Self {
        let (s, n) = (self.strings(candidates), u32::try_from(candidates.len()).unwrap_or(u32::MAX));
        self.push(Step { op: Op::Find, s, n, ..EMPTY })
    }

    /// Lay the plan out.
    #[must_use]
    pub fn finish(self) -> Plan {
        let base = u32::try_from(HEADER + self.steps.len() * STEP).unwrap_or(u32::MAX);
        let place = |offset: u32| if offset == 0 { 0 } else { base.saturating_add(offset - 1) };
        let mut bytes = vec![0; HEADER];
        for step in &self.steps {
            let mut step = Step { s: place(step.s), t: place(step.t), ..*step };
            if step.op == Op::Exec {
                let moved = |packed: u64| {
                    let (offset, count) = wire::pair(packed);
                    u64::from(place(offset)) << 32 | u64::from(count)
                };
                (step.x, step.y) = (moved(step.x), moved(step.y));
            }
            bytes.extend_from_slice(&encode_step(&step));
        }
        bytes.extend_from_slice(&self.blob);
        let slots = self.needs.len() + usize::try_from(self.opened).unwrap_or(0);
        let (uid, gid) = self.maps.map_or((0, 0), |(uid, gid)| (place(uid), place(gid)));
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let mut put = |at: usize, value: &[u8]| {
            if let Some(place) = bytes.get_mut(at..at + value.len()) {
                place.copy_from_slice(value);
            }
        };
        let short = |n: usize| u16::try_from(n).unwrap_or(u16::MAX).to_le_bytes();
        put(0, &wire::MAGIC.to_le_bytes());
        put(4, &wire::VERSION.to_le_bytes());
        put(8, &len.to_le_bytes());
        put(12, &short(self.steps.len()));
        put(14, &short(slots));
        put(16, &short(self.needs.len()));
        put(18, &self.flags.to_le_bytes());
        put(24, &self.clone.to_le_bytes());
        put(32, &self.cgroup.to_le_bytes());
        put(34, &self.pidns.to_le_bytes());
        put(36, &self.report.to_le_bytes());
        for (index, slot) in self.join.iter().enumerate() {
            put(wire::JOIN_AT + 2 * index, &slot.to_le_bytes());
        }
        put(40, &uid.to_le_bytes());
        put(44, &gid.to_le_bytes());
        Plan { bytes, needs: self.needs, fields: self.fields }
    }
}

fn encode_step(step: &Step) -> [u8; STEP] {
    let mut out = [0; STEP];
    let mut put = |at: usize, value: &[u8]| {
        if let Some(place) = out.get_mut(at..at + value.len()) {
            place.copy_from_slice(value);
        }
    };
    put(0, &(step.op as u16).to_le_bytes());
    put(2, &step.flags.to_le_bytes());
    put(4, &step.dst.to_le_bytes());
    put(6, &step.a.to_le_bytes());
    put(8, &step.b.to_le_bytes());
    put(10, &step.field.to_le_bytes());
    put(12, &step.s.to_le_bytes());
    put(16, &step.t.to_le_bytes());
    put(20, &step.n.to_le_bytes());
    put(24, &step.x.to_le_bytes());
    put(32, &step.y.to_le_bytes());
    put(40, &step.z.to_le_bytes());
    out
}
