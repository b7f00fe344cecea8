//! A second machine, whose user space is Debian's systemd: its files are taken from packages that are installed here, and
//! from those that apt downloads and nobody installs. Its first process is this program, which hands over to systemd.
//!
//! ```text
//!  packages ─► /usr, /etc of the machine      units below ─► /etc/systemd/system
//!     orangery-root.service     `setup`, as root                      session.rs
//!     orangery-user.service     a session of the ordinary user        session.rs
//!     orangery-end.service      switches off                          session.rs
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::archive::Archive;
use crate::kernel::output;
use crate::suites::USER;

/// What is wanted of Debian; apt knows what they need.
const PACKAGES: [&str; 4] = ["systemd", "dbus", "dbus-user-session", "libpam-systemd"];
/// Of those what no program in the machine runs or loads.
const WITHOUT: [&str; 14] = [
    "perl",
    "libperl",
    "gcc",
    "dpkg",
    "tar",
    "debconf",
    "usrmerge",
    "adduser",
    "passwd",
    "init-system-helpers",
    "libdb5",
    "libgdbm",
    "libsemanage",
    "libsepol",
];
const UNREAD: [&str; 7] = [
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/bash",
    "usr/share/zsh",
    "usr/share/lintian",
    "var",
];

const TARGET: &str = "\
[Unit]
Requires=basic.target dbus.service systemd-logind.service user@1000.service
Wants=orangery-root.service orangery-user.service orangery-end.service
After=basic.target
AllowIsolate=yes
";
const ROOT: &str = "\
[Unit]
After=user@1000.service
[Service]
Type=oneshot
Delegate=yes
Environment=ORANGERY_VM_SESSION=root TMPDIR=/tmp PATH=/usr/bin
ExecStart=/suites/vm
StandardOutput=file:/dev/ttyS0
StandardError=file:/dev/ttyS1
";
/// PAM makes it a session of its own, in a scope below `user-1000.slice` that is root's.
const SESSION: &str = "\
[Unit]
After=user@1000.service dbus.service orangery-root.service
[Service]
Type=oneshot
User=user
PAMName=orangery
Environment=ORANGERY_VM_SESSION=user TMPDIR=/tmp PATH=/usr/bin
ExecStart=/suites/vm
StandardOutput=file:/dev/ttyS0
StandardError=file:/dev/ttyS1
";
const END: &str = "\
[Unit]
After=orangery-root.service orangery-user.service
[Service]
Type=oneshot
Environment=ORANGERY_VM_SESSION=end
ExecStart=/suites/vm
StandardOutput=file:/dev/ttyS0
";
const PAM: &str = "\
auth required pam_permit.so
account required pam_permit.so
session required pam_systemd.so
";
/// An administrator's: what docs/rootless.md says. Debian's own unit gives `pids memory cpu`.
const DELEGATE: &str = "[Service]\nDelegate=cpu cpuset io memory pids\n";
const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\nmessagebus:x:100:100::/nonexistent:/bin/false\nuser:x:1000:1000::/home:/bin/sh\nnobody:x:65534:65534::/nonexistent:/bin/false\n";
const GROUP: &[u8] = b"root:x:0:\nmessagebus:x:100:\nuser:x:1000:\nnogroup:x:65534:\n";

/// A file system under construction: where each name comes from.
#[derive(Debug, Default)]
pub(crate) struct Root(BTreeMap<String, PathBuf>);

impl Root {
    /// All that systemd needs, of packages; `cache` has what was downloaded before.
    pub(crate) fn gather(cache: &Path) -> Result<Self, String> {
        fs::create_dir_all(cache).map_err(|error| format!("{}: {error}", cache.display()))?;
        // As on a machine without any package: what is installed here need not be what these need.
        let status = cache.join("status");
        fs::write(&status, "").map_err(|error| error.to_string())?;
        let status = format!("Dir::State::status={}", status.display());
        let mut args = vec!["-s", "-o", &status, "install", "--no-install-recommends"];
        args.extend(PACKAGES);
        let planned = output(cache, "apt-get", &args)?;
        let names = planned.lines().filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next());
        let wanted = |name: &&str| !WITHOUT.iter().any(|prefix| name.starts_with(prefix)) && !name.ends_with("-perl");
        let mut root = Self::default();
        for name in names.filter(wanted) {
            root.package(cache, name)?;
        }
        if root.0.contains_key("usr/lib/systemd/systemd") {
            Ok(root)
        } else {
            Err("there is no systemd in them".into())
        }
    }

    fn package(&mut self, cache: &Path, name: &str) -> Result<(), String> {
        let installed = output(cache, "dpkg-query", &["-W", "-f", "${db:Status-Status}", name]);
        if installed.is_ok_and(|status| status == "installed") {
            let listed = output(cache, "dpkg-query", &["-L", name])?;
            listed
                .lines()
                .filter(|line| line.starts_with('/'))
                .for_each(|line| self.add(Path::new("/"), Path::new(line)));
            return Ok(());
        }
        let unpacked = cache.join(name);
        if !unpacked.exists() {
            let dir = cache.join("downloaded");
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir(&dir).map_err(|error| error.to_string())?;
            output(&dir, "apt-get", &["download", name])?;
            let deb = fs::read_dir(&dir).ok().and_then(|mut found| found.next()?.ok());
            let deb = deb.ok_or(format!("apt-get downloaded no {name}"))?.path();
            output(cache, "dpkg-deb", &["-x", &deb.to_string_lossy(), &unpacked.to_string_lossy()])?;
            let _ = fs::remove_dir_all(&dir);
        }
        self.tree(&unpacked, &unpacked);
        Ok(())
    }

    fn tree(&mut self, top: &Path, dir: &Path) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            self.add(top, &entry.path());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.tree(top, &entry.path());
            }
        }
    }

    /// One name, in a `/usr` that has everything.
    fn add(&mut self, top: &Path, path: &Path) {
        let Some(name) = path.strip_prefix(top).ok().and_then(|path| in_usr(&Path::new("/").join(path))) else {
            return;
        };
        let unread = UNREAD.iter().any(|prefix| name.starts_with(prefix));
        if !unread && name.contains('/') && !name.starts_with("etc/pam.d") {
            self.0.entry(name).or_insert_with(|| path.to_owned());
        }
    }

    /// A file of this machine, unless there is one of that name.
    pub(crate) fn also(&mut self, path: &Path) {
        if let (Some(name), Ok(real)) = (in_usr(path), path.canonicalize()) {
            self.0.entry(name).or_insert(real);
        }
    }

    /// Everything into the archive, with our own files in the place of what an installation would have made.
    pub(crate) fn pack(&self, archive: &mut Archive) -> std::io::Result<()> {
        let mut made: BTreeSet<String> = BTreeSet::new();
        for dir in [
            "usr", "etc", "new", "proc", "sys", "dev", "run", "tmp", "root", "home", "var", "suites", "modules",
            "usr/bin",
        ] {
            directory(archive, &mut made, dir);
        }
        for (link, target) in [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")] {
            archive.link(link, target);
        }
        for (name, from) in &self.0 {
            let Ok(meta) = from.symlink_metadata() else { continue };
            if meta.is_dir() {
                directory(archive, &mut made, name);
                continue;
            }
            if let Some((parent, _)) = name.rsplit_once('/') {
                directory(archive, &mut made, parent);
            }
            if meta.is_symlink() {
                archive.link(name, &fs::read_link(from)?.to_string_lossy());
            } else if meta.permissions().mode() & 0o111 != 0 {
                archive.program(name, from)?;
            } else {
                archive.file(name, &fs::read(from)?);
            }
        }
        for (name, content) in own() {
            if let Some((parent, _)) = name.rsplit_once('/') {
                directory(archive, &mut made, parent);
            }
            archive.file(name, content);
        }
        Ok(())
    }
}

fn own() -> Vec<(&'static str, &'static [u8])> {
    assert_eq!(USER, 1000, "the units say so");
    vec![
        ("etc/passwd", PASSWD),
        ("etc/group", GROUP),
        ("etc/nsswitch.conf", b"passwd: files\ngroup: files\n"),
        ("etc/machine-id", b"0123456789abcdef0123456789abcdef\n"),
        ("etc/hostname", b"machine\n"),
        ("etc/pam.d/orangery", PAM.as_bytes()),
        ("etc/pam.d/systemd-user", PAM.as_bytes()),
        ("etc/pam.d/other", b"account required pam_deny.so\n"),
        // Its manager is there without a session.
        ("var/lib/systemd/linger/user", b""),
        ("etc/systemd/system/user@.service.d/delegate.conf", DELEGATE.as_bytes()),
        ("etc/systemd/system/orangery.target", TARGET.as_bytes()),
        ("etc/systemd/system/orangery-root.service", ROOT.as_bytes()),
        ("etc/systemd/system/orangery-user.service", SESSION.as_bytes()),
        ("etc/systemd/system/orangery-end.service", END.as_bytes()),
    ]
}

/// A directory with those above it, once.
/// Where an absolute path is in a root whose /usr has everything.
pub(crate) fn in_usr(path: &Path) -> Option<String> {
    let name = path.strip_prefix("/").ok()?.to_str()?;
    let merged = ["lib/", "lib64/", "bin/", "sbin/"].iter().any(|dir| name.starts_with(dir));
    Some(if merged { format!("usr/{name}") } else { name.to_owned() })
}

fn directory(archive: &mut Archive, made: &mut BTreeSet<String>, name: &str) {
    if made.contains(name) {
        return;
    }
    if let Some((parent, _)) = name.rsplit_once('/') {
        directory(archive, made, parent);
    }
    archive.directory(name);
    made.insert(name.to_owned());
}
