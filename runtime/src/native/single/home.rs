//! `HOME` of a process that was given none: what the container's /etc/passwd says of its user, else `/`.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use crate::spec::check::read_inside;
use crate::spec::user::{NameOrId, UserRequest, parse_user, resolve};
use crate::spec::{ContainerSpec, MountSource, ProcessSpec, User};

const PASSWD: &str = "etc/passwd";

/// Of a container that is not there yet: its file is that of the last mount that covers it, or of its root.
pub(super) fn of_new(container: &ContainerSpec, process: &mut ProcessSpec) {
    complete(process, || {
        let wanted = Path::new("/").join(PASSWD);
        let over = container.mounts.iter().rev().find(|mount| wanted.starts_with(&mount.target));
        let Some(mount) = over else {
            let root = container.rootfs.directories().first()?;
            return read_inside(&File::open(root).ok()?, PASSWD);
        };
        // Of any other mount nothing is known yet.
        let MountSource::Bind(source) = &mount.source else { return None };
        let below = wanted.strip_prefix(&mount.target).ok()?;
        if below.as_os_str().is_empty() {
            let (dir, name) = (source.parent()?, source.file_name()?.to_str()?);
            return read_inside(&File::open(dir).ok()?, name);
        }
        read_inside(&File::open(source).ok()?, below.to_str()?)
    });
}

/// Of one that is there, whose root this is.
pub(super) fn of_living(root: &OwnedFd, process: &mut ProcessSpec) {
    complete(process, || read_inside(root.as_fd(), PASSWD));
}

fn complete(process: &mut ProcessSpec, passwd: impl FnOnce() -> Option<Vec<u8>>) {
    // As runc has it, an empty one is none.
    if process.env.iter().any(|(key, value)| key == "HOME" && !value.is_empty()) {
        return;
    }
    let request = match &process.user {
        User::Root => Ok(UserRequest { user: NameOrId::Id(0), group: None }),
        User::Ids { uid, .. } => Ok(UserRequest { user: NameOrId::Id(*uid), group: None }),
        User::Name(name) => parse_user(name),
    };
    let passwd = passwd();
    // A name that nobody has is refused elsewhere.
    let home = request.ok().and_then(|request| resolve(&request, passwd.as_deref(), None).ok()?.home);
    process.env.retain(|(key, _)| key != "HOME");
    process.env.push(("HOME".into(), home.unwrap_or_else(|| "/".into()).into()));
}
