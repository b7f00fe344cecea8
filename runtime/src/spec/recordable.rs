//! What of a spec cannot be written down, for whoever wants to make it again in another process.

use super::{ContainerSpec, ProcessSpec, Stdio};
use crate::error::{Error, ErrorKind};

fn refusal(field: &str, what: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("{what} cannot be written down: it is gone with this process"))
        .with_field(field)
}

const DESCRIPTOR: &str = "a descriptor";

impl ContainerSpec {
    /// What serde leaves out, by field: descriptors and providers.
    #[must_use]
    pub fn unrecordable(&self) -> Vec<Error> {
        [
            ("root_mounts", !self.root_mounts.is_empty(), DESCRIPTOR),
            ("rootfs_provider", self.rootfs_provider.is_some(), "a provider"),
            ("network_provider", self.network_provider.is_some(), "a provider"),
            ("join", !self.join.is_empty(), DESCRIPTOR),
        ]
        .into_iter()
        .filter(|(_, there, _)| *there)
        .map(|(field, _, what)| refusal(field, what))
        .collect()
    }
}

impl ProcessSpec {
    /// What serde leaves out or refuses, by field: descriptors.
    #[must_use]
    pub fn unrecordable(&self) -> Vec<Error> {
        let own = |stdio: &Stdio| matches!(stdio, Stdio::Fd(_));
        [
            ("stdin", own(&self.stdin)),
            ("stdout", own(&self.stdout)),
            ("stderr", own(&self.stderr)),
            ("preserved", !self.preserved.is_empty()),
        ]
        .into_iter()
        .filter(|(_, there)| *there)
        .map(|(field, _)| refusal(field, DESCRIPTOR))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;
    use std::sync::Arc;

    use super::super::{Access, Caps, Limits, Mount, Resource, Rlimit, Rootfs, StagedFile, User, rlimit};
    use super::*;
    use crate::seccomp::{Action, Arch, ArgCheck, Filter, Op, Rule};

    fn again<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
        serde_json::from_str(&serde_json::to_string(value).unwrap()).unwrap()
    }

    /// What of it is compared: specs have no equality.
    fn text(value: &impl std::fmt::Debug) -> String {
        format!("{value:?}")
    }

    #[test]
    fn a_spec_is_read_as_it_was_written() {
        let spec = ContainerSpec {
            rootfs: Rootfs::Layers { lower: vec!["/a".into()], access: Access::Overlay },
            mounts: vec![Mount::bind("/b", "/c").read_only(), Mount::tmpfs("/d")],
            files: vec![
                StagedFile { path: "/in/a".into(), content: Arc::from(&b"text"[..]), mode: 0o644 },
                StagedFile { path: "/in/b".into(), content: Arc::from(&[0xff, 0, 1][..]), mode: 0o600 },
            ],
            sysctls: [("net.ipv4.ip_forward".into(), "1".into())].into(),
            limits: Limits { memory: Some(1 << 20), ..Limits::default() },
            ..ContainerSpec::default()
        };
        assert_eq!(text(&again(&spec)), text(&spec));
        let check = ArgCheck { index: 1, op: Op::MaskedEq(3), value: 2 };
        let rules = vec![Rule { syscall: 7, args: vec![check], action: Action::Errno(1) }];
        let process = ProcessSpec {
            argv: vec!["echo".into(), OsString::from_vec(vec![0xff, b'a'])],
            env: vec![("A".into(), "b".into()), (OsString::from_vec(vec![0xfe]), "".into())],
            user: User::Ids { uid: 1, gid: 2 },
            caps: Some(Caps::default()),
            rlimits: vec![Rlimit::new(Resource::Nofile, 64, rlimit::INFINITY).unwrap()],
            filters: vec![Filter { default: Action::Allow, rules, arches: vec![Arch::native()] }],
            stdout: Stdio::Piped,
            ..ProcessSpec::default()
        };
        assert_eq!(text(&again(&process)), text(&process));
        assert!(spec.unrecordable().is_empty() && process.unrecordable().is_empty());
    }

    #[test]
    fn what_cannot_be_written_down_is_named() {
        let (ours, theirs) = std::io::pipe().unwrap();
        let fd = Arc::new(std::os::fd::OwnedFd::from(ours));
        let spec = ContainerSpec {
            join: vec![Arc::clone(&fd)],
            root_mounts: vec![Arc::clone(&fd)],
            ..ContainerSpec::default()
        };
        let process = ProcessSpec {
            stdin: Stdio::Fd(Arc::clone(&fd)),
            stderr: Stdio::Fd(fd),
            preserved: vec![Arc::new(theirs.into())],
            ..ProcessSpec::default()
        };
        let fields = |errors: Vec<Error>| errors.iter().map(|it| it.field().unwrap().to_owned()).collect::<Vec<_>>();
        assert_eq!(fields(spec.unrecordable()), ["root_mounts", "join"]);
        assert_eq!(fields(process.unrecordable()), ["stdin", "stderr", "preserved"]);
    }
}
