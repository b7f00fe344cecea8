//! What a program that is driven cannot do as it is asked for: a refusal that names the field, never silence.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use serde::Serialize;

use super::config;
use super::flavour::{Beyond, Flavour};
use crate::error::{Error, ErrorKind, Errors};
use crate::rootfs::Layering;
use crate::spec::{Access, CheckedSpec, ContainerSpec, ProcessSpec, Rootfs, SharedNamespace, Stdio};

fn unsupported(field: &str, why: &str) -> Error {
    Error::new(ErrorKind::Unsupported, why).with_field(field)
}

/// All that is wrong with a container and its command. `flavour`: `None` where nobody knows yet which program it is.
pub(crate) fn container(spec: &ContainerSpec, main: &ProcessSpec, flavour: Option<&Flavour>) -> Vec<Error> {
    let mut no = Vec::new();
    if spec.rootfs_provider.is_none() && spec.rootfs.access().is_none() {
        let why = "a driver's container has a root of directories: one, or layers";
        no.push(unsupported("rootfs", why).with_hint("roots of the host's are those of our own runtime"));
    }
    let fields = [
        ("files", !spec.files.is_empty(), "a driver stages no files"),
        ("network_provider", spec.network_provider.is_some(), "a driver's network is none or the host's"),
        ("pasta", spec.pasta.is_some(), "a driver's network is none or the host's"),
        ("join", !spec.join.is_empty(), "a driver joins no namespaces"),
        ("shared", spec.shared.contains(&SharedNamespace::Pid), "a driver's container has a pid namespace of its own"),
        ("without_init", spec.listed && !spec.without_init, "the command of a listed container is pid 1"),
    ];
    no.extend(fields.into_iter().filter(|(_, given, _)| *given).map(|(field, _, why)| unsupported(field, why)));
    if spec.domainname.is_some() {
        no.extend(beyond(flavour, Beyond::Domainname, "domainname"));
    }
    for (index, mount) in spec.mounts.iter().enumerate() {
        no.extend(no_text(&format!("mounts[{index}].target"), mount.target.as_os_str()));
    }
    for (field, paths) in [("masked_paths", &spec.masked_paths), ("readonly_paths", &spec.readonly_paths)] {
        no.extend(paths.iter().filter_map(|path| no_text(field, path.as_os_str())));
    }
    no.extend(spec.devices.iter().filter_map(|node| no_text("devices", node.path.as_os_str())));
    if main.shares_keyring && !spec.without_init {
        no.push(unsupported("shares_keyring", "a driver can say that of a command that is pid 1 alone"));
    }
    no.extend(unknown(spec, &CONTAINER));
    no.extend(process(main));
    no
}

/// What of a container is said to a program, or done by us, or looked at above; the id is everybody's.
const CONTAINER: [&str; 27] = [
    "id",
    "rootfs",
    "host_opt",
    "mounts",
    "files",
    "user_namespace",
    "network",
    "pasta",
    "hostname",
    "limits",
    "enforcement",
    "disk",
    "shared",
    "sysctls",
    "masked_paths",
    "readonly_paths",
    "without_init",
    "idle",
    "plain_root",
    "mqueue",
    "listed",
    "domainname",
    "devices",
    "device_rules",
    "id_maps",
    "root_propagation",
    "cgroups_path",
];

/// The same of a process.
const PROCESS: [&str; 23] = [
    "argv",
    "env",
    "cwd",
    "user",
    "groups",
    "umask",
    "caps",
    "new_privileges",
    "rlimits",
    "seccomp",
    "filters",
    "filter_flags",
    "apparmor_profile",
    "selinux_label",
    "oom_score_adj",
    "stdin",
    "stdout",
    "stderr",
    "tty",
    "shares_keyring",
    "mounts",
    "limits",
    "landlock",
];

/// Every other field that is not as it is by default, also one that has come since this was written: nothing is left out in
/// silence.
fn unknown<T: Serialize + Default>(spec: &T, known: &[&str]) -> Vec<Error> {
    let (Ok(given), Ok(default)) = (serde_json::to_value(spec), serde_json::to_value(T::default())) else {
        return vec![unsupported("spec", "a path in it is no text, and a driver writes text")];
    };
    let given = given.as_object().into_iter().flatten();
    let others = given.filter(|(key, value)| !known.contains(&key.as_str()) && default.get(key) != Some(value));
    others.map(|(key, _)| unsupported(key, "a driver has no words for this field")).collect()
}

/// Mount points that are not in a root which is only read: programs make them there all the same.
fn points(spec: &ContainerSpec) -> Vec<Error> {
    let Rootfs::Dir { path, access: Access::ReadOnly } = &spec.rootfs else { return Vec::new() };
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = rustix::fs::open(path, flags | OFlags::DIRECTORY, Mode::empty());
    // What is listed comes from somebody who expects that it is made; what is wrong with the root is told elsewhere.
    let Some(root) = root.ok().filter(|_| !spec.listed) else { return Vec::new() };
    let private: &[&str] = if spec.plain_root { &[] } else { &["tmp", "run"] };
    let own: Vec<&Path> = ["proc", "sys", "dev"].iter().chain(private).map(Path::new).collect();
    let there = |inside: &Path| crate::sys::open_inside(&root, inside, flags).is_ok();
    let mut no = Vec::new();
    let mut covered = own;
    for (index, mount) in spec.mounts.iter().enumerate() {
        let inside = mount.target.strip_prefix("/").unwrap_or(&mount.target);
        if !covered.iter().any(|above| inside.starts_with(above)) && !there(inside) {
            let what = format!("there is no {} in the root, which is only read", mount.target.display());
            let error = Error::new(ErrorKind::NotFound, what).with_field(format!("mounts[{index}].target"));
            no.push(error.with_hint("make it there, or let the root be written to"));
        }
        covered.push(inside);
    }
    no
}

/// What is seen when the rest is right: its filter, and its mount points.
pub(crate) fn rest(spec: &CheckedSpec) -> Result<(), Errors> {
    let mut no = points(spec.container());
    no.extend(config::filter(spec).err().map(|why| unsupported("filters", &why)));
    if no.is_empty() { Ok(()) } else { Err(Errors(no)) }
}

/// The one id that there is has to be root's inside, as whom the program makes the container.
pub(crate) fn user(spec: &CheckedSpec, one_id: bool) -> Result<(), Errors> {
    if !one_id || spec.main().ids() == (0, 0) {
        return Ok(());
    }
    let why = "this user has one id, and a driver's container needs it for its root";
    let hint = "run it as root inside, or get a range of ids: usermod --add-subuids, and newuidmap (docs/rootless.md)";
    Err(Errors(vec![unsupported("user", why).with_hint(hint)]))
}

/// A root of layers is an overlay of the kernel's, where that is one of the ways that may be gone.
pub(crate) fn layering(spec: &ContainerSpec, ways: &[Layering]) -> Result<(), Errors> {
    let layered = spec.rootfs.directories().len().max(spec.root_mounts.len()) > 1;
    if !(layered || spec.rootfs.access() == Some(Access::Overlay)) || ways.contains(&Layering::Overlay) {
        return Ok(());
    }
    let why =
        "a driver's root of layers is an overlay of the kernel's, which is none of the ways that may be gone here";
    Err(Errors(vec![unsupported("rootfs", why).with_hint("let `layering` have `overlay`, or give one directory")]))
}

/// All that is wrong with a process.
pub(crate) fn process(spec: &ProcessSpec) -> Vec<Error> {
    let mut no = Vec::new();
    let fields = [
        ("hold", spec.hold.is_some(), "a driver's processes end with this supervisor"),
        ("mounts", !spec.mounts.is_empty(), "a driver gives a process no mounts of its own"),
        ("preserved_at", !spec.preserved_at.is_empty(), "a driver numbers descriptors from 3 up"),
        ("limits", !spec.limits.is_empty(), "a driver gives a process no limits of its own"),
        ("filter_flags", spec.filter_flags & !(2 | 4) != 0, "a driver can pass LOG and SPEC_ALLOW on"),
    ];
    no.extend(fields.into_iter().filter(|(_, given, _)| *given).map(|(field, _, why)| unsupported(field, why)));
    if let Some(rules) = spec.landlock.as_ref().filter(|rules| !rules.is_empty()) {
        let why = format!("a config.json has no words for rules of landlock: {rules}");
        let hint =
            "go without them: Landlock::none(), or --landlock none; of the presets `strict` chooses scope:signals";
        no.push(unsupported("landlock", &why).with_hint(hint));
    }
    // Descriptors are not written down.
    let written = ProcessSpec { stdin: Stdio::Null, stdout: Stdio::Null, stderr: Stdio::Null, ..spec.clone() };
    no.extend(unknown(&written, &PROCESS));
    for (index, word) in spec.argv.iter().enumerate() {
        no.extend(no_text(&format!("argv[{index}]"), word));
    }
    for (key, value) in &spec.env {
        no.extend(no_text("env", key).or_else(|| no_text("env", value)));
    }
    no.extend(spec.cwd.as_ref().and_then(|cwd| no_text("cwd", cwd.as_os_str())));
    no
}

/// Of a further process, whose mask is another one than its container's command has.
pub(crate) fn umask(flavour: &Flavour) -> Option<Error> {
    beyond(Some(flavour), Beyond::OwnUmask, "umask")
}

fn beyond(flavour: Option<&Flavour>, what: Beyond, field: &str) -> Option<Error> {
    let flavour = flavour.filter(|flavour| !flavour.says(what))?;
    Some(unsupported(field, &format!("{flavour} is not known to heed it")))
}

/// A config.json is UTF-8.
fn no_text(field: &str, word: &OsStr) -> Option<Error> {
    let why = || format!("{:?} is not UTF-8, which a config.json has to be", String::from_utf8_lossy(word.as_bytes()));
    word.to_str().is_none().then(|| Error::invalid(field, why()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::StagedFile;

    fn fields(spec: &ContainerSpec, main: &ProcessSpec, flavour: Option<&Flavour>) -> Vec<String> {
        container(spec, main, flavour).iter().filter_map(Error::field).map(str::to_owned).collect()
    }

    #[test]
    fn each_is_named() {
        let old = Flavour::of("runc version 1.1.5+ds1\nspec: 1.0.2");
        let mut spec = ContainerSpec { domainname: Some("d".into()), ..ContainerSpec::default() };
        spec.files.push(StagedFile { path: "/tmp/x".into(), content: [].into(), mode: 0o600 });
        spec.shared.push(SharedNamespace::Pid);
        let mut main = ProcessSpec { personality: Some(8), ..ProcessSpec::default() };
        main.argv.push(OsStr::from_bytes(b"\xff").to_owned());
        main.shares_keyring = true;
        let all = ["rootfs", "files", "shared", "domainname", "shares_keyring", "personality", "argv[0]"];
        assert_eq!(fields(&spec, &main, Some(&old)), all);
        let new = Flavour::of("runc version 1.2.0\n");
        assert!(!fields(&spec, &main, Some(&new)).contains(&"domainname".to_owned()));
    }

    #[test]
    fn what_a_driver_has_no_words_for_is_refused() {
        let access = Access::ReadWrite;
        let mut spec = ContainerSpec { rootfs: Rootfs::Dir { path: "/r".into(), access }, ..ContainerSpec::default() };
        spec.mount_label = Some("label".into());
        spec.masked_paths.push(OsStr::from_bytes(b"/\xff").into());
        let main = ProcessSpec { cpus: Some("0".into()), ..ProcessSpec::default() };
        assert_eq!(fields(&spec, &main, None), ["masked_paths", "spec", "cpus"]);
    }

    #[test]
    fn a_directory_is_taken() {
        let access = Access::ReadWrite;
        let spec = ContainerSpec { rootfs: Rootfs::Dir { path: "/r".into(), access }, ..ContainerSpec::default() };
        assert!(container(&spec, &ProcessSpec::default(), None).is_empty());
    }
}
