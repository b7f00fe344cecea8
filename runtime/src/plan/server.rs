//! The plan of `fuse-overlayfs`, which serves the root of one container (`native/serving.rs`). As `helper.rs` has it, it lives in the
//! pid namespace of a guard that ends with the container, as the first user of the container's user namespace. It sees the
//! host's files, which it cannot write to, and the container's layers and scratch; it has no network, and of the container's
//! user namespace the rights over files alone.

use std::ffi::{OsStr, OsString};

use super::encode::{Builder, Need, Plan, Slot};
use super::helper::{enter, finish};
use super::idmap::IdMap;
use super::rootfs::{PATH_DIR, PRIVATE, RDONLY};
use super::wire::{NEWIPC, NEWNET, NEWNS, Op};

/// CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_FSETID, CAP_MKNOD, CAP_SETFCAP.
const CAPS: u64 = 1 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 27 | 1 << 31;

/// Where it has the container's scratch: a directory that every host has, and that it has no use for.
const PLACE: &str = "/sys";

/// The server beside its guard ([`Need::Init`]), with the device ([`Need::Stdio`] 0) and the scratch ([`Need::Layer`] 0) that
/// the container has sent.
#[must_use]
pub fn server(ids: Option<&IdMap>, nofile: (u64, u64), programs: &[OsString], shape: Shape) -> Plan {
    let mut b = Builder::new(&[Need::Init, Need::Stdio(0), Need::Stdio(1), Need::Stdio(2), Need::Layer(0)]);
    b.field("rootfs");
    let guard = b.received(Need::Init).unwrap_or(Slot::CWD);
    b.born_beside(guard, 0);
    enter(&mut b, guard, ids);
    b.op(Op::Unshare, NEWNS | NEWIPC | NEWNET, 0, 0);
    // MS_REC | MS_PRIVATE
    b.on_path(Op::Propagation, Slot::CWD, "/", 0x4000 | 0x4_0000);
    let host = b.open(Slot::CWD, "/", PATH_DIR, 0);
    b.mount_attr(host, RDONLY, PRIVATE, true);
    let scratch = b.received(Need::Layer(0)).unwrap_or(Slot::CWD);
    b.move_mount(scratch, Slot::CWD, PLACE);
    let options = shape.options();
    // As the manual page of fuse(8) has it, the descriptor of a file system that is mounted already.
    let argv = ["fuse-overlayfs", "-f", "-o", options.as_str(), "/dev/fd/0"].map(OsStr::new);
    finish(b, CAPS, nofile, programs, &argv)
}

/// What lies on the scratch.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// How many layers.
    pub layers: usize,
    /// It is written to.
    pub writable: bool,
}

impl Shape {
    fn options(self) -> String {
        let lower = match self.layers {
            0 | 1 => format!("{PLACE}/lower"),
            layers => (0..layers).map(|index| format!("{PLACE}/lower/{index}")).collect::<Vec<_>>().join(":"),
        };
        match self.writable {
            true => format!("lowerdir={lower},upperdir={PLACE}/upper,workdir={PLACE}/work"),
            false => format!("lowerdir={lower}"),
        }
    }
}
