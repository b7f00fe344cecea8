//! A network for trials of networks: as root one of the trial's own with a default route, so that no address of the machine's
//! is in the way; an ordinary user has the machine's.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::Scene;

/// Mounts and interfaces of one trial. Dropped, its mounts go; its network goes with the process.
#[derive(Debug, Default)]
pub struct Net {
    mounts: Vec<PathBuf>,
}

/// The trial's own addresses, as root: what containers share with the host, and what they reach.
pub const SHARED: &str = "10.77.0.1/24";
/// The same.
pub const OTHER: &str = "10.78.0.1";

impl Net {
    /// Make it; before anything that is to be in it is started, and on the thread that starts it.
    #[must_use]
    pub fn set(scene: &Scene) -> Self {
        let mut net = Self::default();
        if scene.root() {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            ip("link set lo up");
            net.tun(scene);
        }
        net
    }

    /// A default route, over an interface whose other end is here too.
    pub fn route(&self) {
        ip("link add up0 type veth peer name down0");
        ip("link add up1 type veth peer name down1");
        for name in ["up0", "down0", "up1", "down1"] {
            ip(&format!("link set {name} up"));
        }
        ip(&format!("addr add {SHARED} dev up0"));
        ip(&format!("addr add {OTHER}/24 dev up1"));
        ip("route add default via 10.77.0.2");
    }

    /// /dev/net/tun as udev has it: open to everybody.
    fn tun(&mut self, scene: &Scene) {
        let device = scene.dir().join("tun");
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
        let number = nix::sys::stat::makedev(10, 200);
        nix::sys::stat::mknod(&device, nix::sys::stat::SFlag::S_IFCHR, mode, number).expect("a device node");
        fs::set_permissions(&device, fs::Permissions::from_mode(0o666)).expect("its mode");
        if !Path::new(TUN).exists() {
            let _ = fs::create_dir("/dev/net");
            fs::write(TUN, "").expect("a place for it");
        }
        self.over(&device, TUN);
    }

    /// `what` in the place of `path`.
    pub fn over(&mut self, what: &Path, path: &str) {
        mount(Some(what), path, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("a bind mount");
        self.mounts.push(path.into());
    }
}

const TUN: &str = "/dev/net/tun";

impl Drop for Net {
    fn drop(&mut self) {
        for path in self.mounts.iter().rev() {
            let _ = umount2(path, MntFlags::MNT_DETACH);
        }
    }
}

/// ip(8) of iproute2, in the network that this thread is in.
#[expect(clippy::disallowed_methods, reason = "sets the scene of a trial")]
pub fn ip(words: &str) {
    let output = std::process::Command::new("ip").args(words.split(' ')).output().expect("ip of iproute2");
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What ip(8) answers.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "looks at the scene of a trial")]
pub fn ip_says(words: &str) -> String {
    let output = std::process::Command::new("ip").args(words.split(' ')).output().expect("ip of iproute2");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Why there is no network by pasta here.
///
/// # Errors
/// In words.
pub(crate) fn pasta() -> Result<(), String> {
    if orangery_runtime::network::Pasta::find().is_none() {
        return Err("needs pasta (Debian: passt)".into());
    }
    if rustix::process::geteuid().is_root() {
        return nets();
    }
    orangery_runtime::network::Pasta::look_for_tun().map_err(|error| format!("needs pasta: {error}"))?;
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let default = routes.lines().skip(1).any(|line| line.split_ascii_whitespace().nth(1) == Some("00000000"));
    if default { Ok(()) } else { Err("needs a default route".into()) }
}

/// Why no network can be made here for a trial.
#[expect(clippy::disallowed_methods, reason = "asks what this machine can do")]
pub(crate) fn nets() -> Result<(), String> {
    let made = "ip link add va0 type veth peer name vb0 && ip link add br0 type bridge && ip tuntap add tun0 mode tun";
    match std::process::Command::new("unshare").args(["-n", "sh", "-c", made]).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
            Err(format!("needs ip (iproute2), veth, bridge and tun: {said}"))
        }
        Err(error) => Err(format!("needs unshare: {error}")),
    }
}
