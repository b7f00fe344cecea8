//! `config.json` of an OCI bundle (runtime-spec 1.x for Linux) as a spec of ours.
//!
//! A field that is known and not supported yet is a refusal that names it, never ignored in silence: docs/oci-fields.md is the
//! table of all of them. The container's mounts are listed (`ContainerSpec::listed`), and its command is pid 1, as the
//! specification says.

mod hooks;
mod keys;
mod linux;
mod mounts;
mod namespaces;
mod other;
mod process;
mod resources;
mod seccomp;

use std::path::Path;

use oci_spec::runtime as oci;
use serde_json::Value;

use super::{Access, CapSet, ContainerSpec, ProcessSpec, Rootfs};
use crate::error::{Error, Errors};

/// Collects refusals, each with the path of the field in `config.json`.
struct Refusals(Vec<Error>);

impl Refusals {
    fn add(&mut self, field: &str, why: impl Into<String>) {
        self.0.push(Error::invalid(field, why));
    }

    fn unsupported(&mut self, field: &str, present: bool) {
        if present {
            let what = "this field of config.json is not supported yet";
            self.0.push(Error::new(crate::ErrorKind::Unsupported, what).with_field(field));
        }
    }
}

/// Read a bundle.
///
/// # Errors
/// The file cannot be read or is not valid, or every refusal at once.
pub fn read(bundle: &Path) -> Result<(ContainerSpec, ProcessSpec), Errors> {
    read_with(bundle, Path::new(CONFIG)).map(|(container, process, _)| (container, process))
}

/// [`read`], with what the bundle says of itself, of a `config` below it or elsewhere: paths in there are the bundle's all the same.
///
/// # Errors
/// As [`read`].
pub fn read_with(bundle: &Path, config: &Path) -> Result<(ContainerSpec, ProcessSpec, Said), Errors> {
    let path = bundle.join(config);
    let one = |error: Error| Errors(vec![error.with_field("bundle")]);
    let text = text(&path).map_err(|error| match error.raw_os_error() {
        Some(_) => one(Error::system(format!("cannot read {}", path.display()), error)),
        None => one(Error::invalid("bundle", format!("{}: {error}", path.display()))),
    })?;
    parse_with(bundle, &path, &text)
}

/// What a bundle's configuration is called.
const CONFIG: &str = "config.json";

/// The options of mounts that mean something to us, whatever the file system; others are handed to it.
#[must_use]
pub fn mount_options() -> Vec<String> {
    mounts::words()
}

/// Largest config.json.
const LARGEST: u64 = 16 << 20;

/// Of a regular file: a device would never end, and a FIFO never begin.
fn text(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let refused = |why: &str| std::io::Error::other(why);
    let file = std::fs::File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(refused("it is no regular file"));
    }
    let mut text = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut text)?;
    if text.len() as u64 > LARGEST { Err(refused("it is larger than 16 MiB")) } else { Ok(text) }
}

/// [`read`], of a text that is at hand; `bundle` is what its paths are relative to.
///
/// # Errors
/// As for [`read`].
pub fn parse(bundle: &Path, text: &[u8]) -> Result<(ContainerSpec, ProcessSpec), Errors> {
    parse_with(bundle, &bundle.join(CONFIG), text).map(|(container, process, _)| (container, process))
}

fn parse_with(bundle: &Path, path: &Path, text: &[u8]) -> Result<(ContainerSpec, ProcessSpec, Said), Errors> {
    let refused = |why: &dyn std::fmt::Display| {
        Errors(vec![Error::invalid("bundle", format!("{} is not a config.json: {why}", path.display()))])
    };
    // serde takes a list for a structure whose fields are all optional.
    if text.trim_ascii_start().first() != Some(&b'{') {
        return Err(refused(&"it does not begin as a JSON object"));
    }
    let mut value: Value = serde_json::from_slice(text).map_err(|error| refused(&error))?;
    keys_as_specified(&mut value)?;
    without_unknown_capabilities(&mut value);
    flags_of_the_scheduler(&mut value);
    user_is_root(&mut value);
    without_empty_policy(&mut value);
    let said = Said::of(&value);
    // Its words begin with the field that they are about.
    let spec: oci::Spec = serde_path_to_error::deserialize(value).map_err(|error| refused(&error))?;
    convert(bundle, &spec).map(|(container, process)| (container, process, said))
}

/// Give every key of a part of a config.json the case that the specification has for it (docs/oci-fields.md).
///
/// # Errors
/// A field that is there in more than one.
pub fn keys_as_specified(part: &mut Value) -> Result<(), Errors> {
    let mut no = Refusals(Vec::new());
    keys::as_specified(&mut no, part);
    if no.0.is_empty() { Ok(()) } else { Err(Errors(no.0)) }
}

/// The specification's words, of which two are other ones to those who read them for us.
fn flags_of_the_scheduler(config: &mut Value) {
    const WORDS: [(&str, &str); 2] =
        [("SCHED_FLAG_RESET_ON_FORK", "SCHED_RESET_ON_FORK"), ("SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_D_L_OVERRUN")];
    let flags = config.pointer_mut("/process/scheduler/flags").and_then(Value::as_array_mut);
    for flag in flags.into_iter().flatten() {
        if let Some((_, theirs)) = WORDS.iter().find(|(word, _)| flag.as_str() == Some(word)) {
            *flag = (*theirs).into();
        }
    }
}

/// Who is not said, as in many a file of `exec --process`: others read it so too.
fn user_is_root(config: &mut Value) {
    let Some(process) = config.get_mut("process").and_then(Value::as_object_mut) else { return };
    let user = process.entry("user").or_insert_with(|| Value::Object(serde_json::Map::new()));
    for id in ["uid", "gid"] {
        if let Some(user) = user.as_object_mut() {
            user.entry(id).or_insert_with(|| 0.into());
        }
    }
}

/// A memory policy of nothing is none, as with runc.
fn without_empty_policy(config: &mut Value) {
    if let Some(linux) = config.get_mut("linux").and_then(Value::as_object_mut)
        && linux.get("memoryPolicy").and_then(Value::as_object).is_some_and(serde_json::Map::is_empty)
    {
        linux.remove("memoryPolicy");
    }
}

/// One that nobody here knows cannot be had, and that is to be logged, not refused.
fn without_unknown_capabilities(config: &mut Value) {
    let sets = config.pointer_mut("/process/capabilities").and_then(Value::as_object_mut);
    for (set, list) in sets.into_iter().flatten() {
        let Value::Array(list) = list else { continue };
        list.retain(|name| {
            let unknown = name.as_str().filter(|name| CapSet::parse(name).is_err());
            if let Some(name) = unknown {
                tracing::warn!(%set, %name, "no capability of this name is known: left out");
            }
            unknown.is_none()
        });
    }
}

/// What a bundle says of itself, for who tells of the container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Said {
    /// `ociVersion`.
    pub version: String,
    /// `annotations`.
    pub annotations: std::collections::BTreeMap<String, String>,
}

impl Said {
    fn of(config: &Value) -> Said {
        let annotations = config.get("annotations").and_then(Value::as_object).into_iter().flatten();
        let annotations = annotations.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
        let version = config.get("ociVersion").and_then(Value::as_str).unwrap_or_default().to_owned();
        Said { version, annotations: annotations.collect() }
    }
}

fn convert(bundle: &Path, spec: &oci::Spec) -> Result<(ContainerSpec, ProcessSpec), Errors> {
    let mut no = Refusals(Vec::new());
    if !spec.version().starts_with("1.") {
        no.add("ociVersion", format!("{} is not a version 1 of the runtime specification", spec.version()));
    }
    no.unsupported("vm", spec.vm().is_some());
    let mut container = ContainerSpec { without_init: true, listed: true, ..ContainerSpec::default() };
    container.hostname = spec.hostname().clone().filter(|name| !name.is_empty());
    container.domainname = spec.domainname().clone().filter(|name| !name.is_empty());
    root(&mut no, bundle, spec, &mut container);
    mounts::convert(&mut no, bundle, spec, &mut container);
    let env = spec.process().as_ref().and_then(|process| process.env().clone()).unwrap_or_default();
    container.hooks = spec.hooks().as_ref().map(|all| hooks::convert(&mut no, all, &env)).unwrap_or_default();
    match spec.linux() {
        Some(linux) => {
            namespaces::convert(&mut no, linux, &mut container);
            resources::convert(&mut no, linux, &mut container);
            linux::convert(&mut no, linux, &mut container);
        }
        None => no.add("linux", "the bundle has no part for Linux"),
    }
    let process = spec.process().as_ref().map(|process| process::convert(&mut no, process, spec.linux().as_ref()));
    if process.is_none() {
        no.add("process", "the bundle has no process to run");
    }
    match process {
        Some(process) if no.0.is_empty() => Ok((container, process)),
        _ => Err(Errors(no.0)),
    }
}

fn root(no: &mut Refusals, bundle: &Path, spec: &oci::Spec, container: &mut ContainerSpec) {
    let Some(root) = spec.root() else { return no.add("root", "the bundle has no root") };
    let absolute = std::path::absolute(bundle.join(root.path())).unwrap_or_else(|_| bundle.join(root.path()));
    let access = if root.readonly().unwrap_or(false) { Access::ReadOnly } else { Access::ReadWrite };
    container.rootfs = Rootfs::Dir { path: absolute, access };
}

#[cfg(test)]
mod tests {
    use super::super::{Exact, Mount, MountSource, Network, SharedNamespace, UserNamespace, WindowSize};
    use super::*;

    fn from(json: &str) -> Result<(ContainerSpec, ProcessSpec), Errors> {
        convert(Path::new("/bundle"), &serde_json::from_str(json).unwrap())
    }

    const SMALL: &str = r#"{"ociVersion":"1.0.2","root":{"path":"rootfs","readonly":true},
        "process":{"user":{"uid":0,"gid":0},"args":["sh"],"env":["PATH=/bin","A=b=c"],"cwd":"/","noNewPrivileges":true,
            "rlimits":[{"type":"RLIMIT_NOFILE","hard":1024,"soft":1024}],
            "capabilities":{"bounding":["CAP_KILL"],"effective":["CAP_KILL"],"permitted":["CAP_KILL"]}},
        "mounts":[{"destination":"/proc","type":"proc","source":"proc"},
            {"destination":"/dev/mqueue","type":"mqueue","source":"mqueue","options":["nosuid"]},
            {"destination":"/data","type":"bind","source":"data","options":["rbind","ro","noexec","rslave"]},
            {"destination":"/run","type":"tmpfs","source":"tmpfs","options":["nosuid","nodev","noexec","size=1m"]}],
        "linux":{"namespaces":[{"type":"pid"},{"type":"network"},{"type":"ipc"},{"type":"uts"},{"type":"mount"}],
            "resources":{"devices":[{"allow":false,"access":"rwm"}],"memory":{"limit":1048576,"swap":2097152}},
            "maskedPaths":["/proc/kcore"]}}"#;

    #[test]
    fn an_ordinary_bundle_is_understood() {
        let (container, process) = from(SMALL).unwrap();
        assert_eq!(container.rootfs, Rootfs::Dir { path: "/bundle/rootfs".into(), access: Access::ReadOnly });
        assert!(container.listed && container.without_init && container.id_maps.is_none());
        let targets: Vec<_> = container.mounts.iter().map(|mount| mount.target.to_str().unwrap()).collect();
        assert_eq!(targets, ["/proc", "/dev/mqueue", "/data", "/run"]);
        let mut data = Mount::bind("/bundle/data", "/data");
        data.exact = Some(Exact { set: 9, propagation: vec![1 << 19 | 0x4000], ..Exact::default() });
        assert_eq!(container.mounts[2], data);
        assert!(matches!(&container.mounts[3].source, MountSource::FileSystem { kind, .. } if kind == "tmpfs"));
        assert_eq!(container.shared, [SharedNamespace::Cgroup], "it is not listed");
        assert_eq!((container.limits.memory, container.limits.memory_swap), (Some(1 << 20), Some(1 << 20)));
        assert_eq!((container.network, container.user_namespace), (Network::None, UserNamespace::Host));
        assert_eq!(process.env[1], ("A".into(), "b=c".into()));
        assert_eq!(process.caps.unwrap().effective.names(), ["CAP_KILL"]);
    }

    #[test]
    fn every_unsupported_field_is_named_at_once() {
        let json = SMALL
            .replace(r#""linux":{"#, r#""hooks":{"poststop":[{"path":"relative"}]},"domainname":"d","linux":{"#)
            .replace(r#""uid":0"#, r#""uid":0,"username":"p""#)
            .replace(r#""cwd":"/""#, r#""cwd":"/","consoleSize":{"height":0,"width":80}"#);
        let errors = from(&json).unwrap_err();
        let fields: Vec<_> = errors.0.iter().filter_map(Error::field).collect();
        assert_eq!(fields, ["hooks.poststop[0].path", "process.user.username", "process.consoleSize"]);
    }

    #[test]
    fn who_has_the_wrong_type_is_named() {
        let refused = |from: &str, to: &str| {
            let text = SMALL.replace(from, to);
            parse(Path::new("/bundle"), text.as_bytes()).unwrap_err().to_string()
        };
        let text = refused(r#""limit":1048576"#, r#""limit":"1M""#);
        assert!(text.contains("linux.resources.memory.limit: invalid type: string \"1M\""), "{text}");
        let text = refused(r#""type":"RLIMIT_NOFILE""#, r#""type":"RLIMIT_NOFILES""#);
        assert!(text.contains("process.rlimits[0].type: unknown variant"), "{text}");
        let text = refused(r#""args":["sh"]"#, r#""args":["sh",1]"#);
        assert!(text.contains("process.args[1]: invalid type: integer"), "{text}");
    }

    #[test]
    fn a_terminal_has_the_size_of_the_console() {
        let tty = |text: &str| from(&SMALL.replace(r#""cwd":"/""#, &format!(r#""cwd":"/",{text}"#))).unwrap().1.tty;
        assert_eq!(tty(r#""terminal":true"#), Some(WindowSize::default()));
        assert_eq!(tty(r#""terminal":true,"consoleSize":{"height":0,"width":0}"#), Some(WindowSize::default()));
        let size = r#""consoleSize":{"height":5,"width":7}"#;
        assert_eq!(tty(&format!(r#""terminal":true,{size}"#)), Some(WindowSize { rows: 5, columns: 7 }));
        assert_eq!(tty(size), None, "without a terminal it is ignored");
    }

    #[test]
    fn who_is_not_said_is_root() {
        for user in [r#""user":{"gid":7},"#, ""] {
            let text = SMALL.replace(r#""user":{"uid":0,"gid":0},"#, user);
            let (_, process) = parse(Path::new("/bundle"), text.as_bytes()).unwrap();
            let gid = if user.is_empty() { 0 } else { 7 };
            assert_eq!(process.user, crate::spec::User::Ids { uid: 0, gid });
        }
    }

    #[test]
    fn flags_of_a_scheduler_are_the_specifications() {
        let with = |flags: &str| {
            let scheduler = format!(r#""cwd":"/","scheduler":{{"policy":"SCHED_DEADLINE","flags":{flags}}}"#);
            parse(Path::new("/bundle"), SMALL.replace(r#""cwd":"/""#, &scheduler).as_bytes())
        };
        let all = r#"["SCHED_FLAG_RESET_ON_FORK","SCHED_FLAG_RECLAIM","SCHED_FLAG_DL_OVERRUN","SCHED_FLAG_KEEP_POLICY",
            "SCHED_FLAG_KEEP_PARAMS","SCHED_FLAG_UTIL_CLAMP_MIN","SCHED_FLAG_UTIL_CLAMP_MAX"]"#;
        assert_eq!(with(all).unwrap().1.scheduler.unwrap().flags, 0x7f);
        assert!(with(r#"["SCHED_FLAG_NONE"]"#).is_err());
    }

    #[test]
    fn a_variable_has_one_value() {
        let env = |list: &str| from(&SMALL.replace(r#"["PATH=/bin","A=b=c"]"#, list));
        let (_, process) = env(r#"["A=1","B=2","A=3=4"]"#).unwrap();
        assert_eq!(process.env, [("A".into(), "3=4".into()), ("B".into(), "2".into())]);
        let errors = env(r#"["A=","=x","ALONE"]"#).unwrap_err();
        assert_eq!(errors.0.iter().filter_map(Error::field).collect::<Vec<_>>(), ["process.env[1]", "process.env[2]"]);
    }

    #[test]
    fn shares_of_a_cache_are_lines_of_schemata() {
        let rdt = r#""linux":{"intelRdt":{"l3CacheSchema":"L3:0=f\nL3:1=3","memBwSchema":"MB:0=9",
            "schemata":["L3:0=7"],"enableMonitoring":true},"#;
        let rdt = from(&SMALL.replace(r#""linux":{"#, rdt)).unwrap().0.intel_rdt.unwrap();
        let lines = rdt.schemata.join(";");
        assert_eq!((&*lines, rdt.group, rdt.monitoring), ("L3:0=f;L3:1=3;MB:0=9;L3:0=7", None, true));
    }

    #[test]
    fn clocks_are_those_of_a_new_namespace() {
        let offsets = r#""timeOffsets":{"monotonic":{"secs":-3,"nanosecs":7},"boottime":{"secs":9}}"#;
        let with = |namespaces: &str| {
            let json = SMALL.replace(r#"{"type":"pid"}"#, &format!(r#"{{"type":"pid"}}{namespaces}"#));
            from(&json.replace(r#""linux":{"#, &format!(r#""linux":{{{offsets},"#)))
        };
        let time = with(r#",{"type":"time"}"#).unwrap().0.time.unwrap();
        assert_eq!(time.text(), "monotonic -3 7\nboottime 9 0\n");
        let errors = with("").unwrap_err();
        let mut fields: Vec<_> = errors.0.iter().filter_map(Error::field).collect();
        fields.sort_unstable();
        assert_eq!(fields, ["linux.timeOffsets.boottime", "linux.timeOffsets.monotonic"]);
        assert!(from(SMALL).unwrap().0.time.is_none());
    }

    #[test]
    fn memory_comes_from_the_nodes_of_a_policy() {
        let with =
            |policy: &str| from(&SMALL.replace(r#""linux":{"#, &format!(r#""linux":{{"memoryPolicy":{policy},"#)));
        let flags = r#"{"mode":"MPOL_BIND","nodes":"0-1","flags":["MPOL_F_STATIC_NODES"]}"#;
        let policy = with(flags).unwrap().1.memory_policy.unwrap();
        assert_eq!((policy.mode, policy.mask()), (2 | 1 << 15, 3u64.to_ne_bytes().to_vec()));
        assert!(with(r#"{"mode":"MPOL_BIND"}"#).is_err() && with(r#"{"mode":"MPOL_LOCAL","nodes":"0"}"#).is_err());
    }

    #[test]
    fn a_policy_of_nothing_is_none() {
        let text = SMALL.replace(r#""linux":{"#, r#""linux":{"memoryPolicy":{},"#);
        assert!(parse(Path::new("/bundle"), text.as_bytes()).unwrap().1.memory_policy.is_none());
    }

    #[test]
    fn a_capability_that_nobody_knows_is_left_out() {
        let json = SMALL.replace(r#""bounding":["CAP_KILL"]"#, r#""bounding":["CAP_KILL","CAP_TIME_TRAVEL"]"#);
        let (_, process) = parse(Path::new("/bundle"), json.as_bytes()).unwrap();
        assert_eq!(process.caps.unwrap().bounding.names(), ["CAP_KILL"]);
    }
}
