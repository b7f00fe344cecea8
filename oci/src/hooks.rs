//! The programs that a bundle has run at points of its container's life, and what they are told. Those of its creation run in
//! `create`, by the library.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use orangery_runtime::native::signal;
use orangery_runtime::native::single::{Beside, Halt, Hooked, Maker};
use orangery_runtime::spec::{HookKind, Network};
use rustix::event::Timespec;
use serde::Serialize;

use crate::agent;
use crate::container::{Container, has_ended};
use crate::failure::Failure;
use crate::record::Record;

/// How long a container that is stopped may take to end.
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// A container's state, as hooks and who answers its filter get it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Told {
    oci_version: String,
    id: String,
    status: &'static str,
    #[serde(skip_serializing_if = "is_zero")]
    pid: i32,
    bundle: PathBuf,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(pid: &i32) -> bool {
    *pid == 0
}

impl Told {
    pub(crate) fn of(record: &Record) -> Told {
        Told {
            oci_version: record.oci_version.clone(),
            id: record.id.clone(),
            status: "creating",
            pid: 0,
            bundle: record.bundle.clone(),
            annotations: record.annotations.clone(),
        }
    }

    pub(crate) fn version(&self) -> &str {
        &self.oci_version
    }

    /// With its status, and the number of its first process.
    pub(crate) fn with(&self, status: &'static str, pid: i32) -> Told {
        Told { status, pid, ..self.clone() }
    }

    /// What a hook of this kind reads.
    pub(crate) fn text(&self, kind: HookKind, pid: i32) -> Vec<u8> {
        let status = match kind {
            HookKind::Prestart | HookKind::CreateRuntime | HookKind::CreateContainer => "creating",
            HookKind::StartContainer => "created",
            HookKind::Poststart => "running",
            HookKind::Poststop => "stopped",
        };
        serde_json::to_vec(&self.with(status, pid)).unwrap_or_default()
    }
}

/// A keeper for the hooks of a start, where there are some; `halt` may want that they are ended.
///
/// # Errors
/// It does not start.
pub(crate) fn maker(container: &Container, halt: Option<Rc<dyn Halt>>) -> Result<Option<Maker>, Failure> {
    let hooks = &container.record.spec.hooks;
    let some = !(hooks.start_container.is_empty() && hooks.poststart.is_empty());
    if !some {
        return Ok(None);
    }
    let (pid, pidfd) = container.alive()?;
    if let Some(owner) = &container.record.systemd {
        owner.come_near()?;
    }
    let mut maker = Maker::start_beside((pid, pidfd))?;
    maker.halted_by(halt);
    Ok(Some(maker))
}

/// In the container, right before its command. If one fails the container is stopped.
///
/// # Errors
/// One has failed.
pub(crate) fn before_start(container: &Container, maker: &mut Maker) -> Result<(), Failure> {
    let (pid, pidfd) = container.alive()?;
    let record = &container.record;
    let (group, ids) = (container.group()?.filter(|group| !group.paths().is_empty()), record.ids()?);
    let own_network = record.spec.network != Network::Host;
    let beside = Beside {
        init: (pid, pidfd),
        spec: &record.spec,
        ids: ids.as_ref(),
        own_network,
        group: group.as_ref(),
        below: &[],
    };
    let told = Told::of(record);
    let hooked = Hooked { state: &|kind, pid| told.text(kind, pid), bundle: &record.bundle };
    let agent = record.spec.filter_listener.as_ref();
    let listening = &mut |listener, hook| agent::tell(agent, listener, hook, &told.with("created", pid));
    let ran = maker.hooks_of_start(&beside, &record.process, hooked, listening);
    ran.map_err(|errors| stopped(container, errors.into()))
}

/// When its command runs. If one fails the container is stopped.
///
/// # Errors
/// One has failed.
pub(crate) fn after_start(container: &Container, maker: &mut Maker) -> Result<(), Failure> {
    let record = &container.record;
    let pid = container.init.as_ref().map_or(0, |(pid, _)| *pid);
    let ran = outside(record, HookKind::Poststart, pid, maker, |_| false);
    ran.map_err(|failure| stopped(container, failure))
}

fn stopped(container: &Container, failure: Failure) -> Failure {
    if let Some((_, pidfd)) = &container.init {
        let _ = signal(pidfd, 9);
        has_ended(pidfd, Some(PATIENCE));
    }
    failure
}

/// When the container is gone: what fails is a warning.
pub(crate) fn after_end(record: &Record, halt: Option<Rc<dyn Halt>>) {
    if record.spec.hooks.poststop.is_empty() {
        return;
    }
    let warn = |failure: &Failure| {
        tracing::warn!("{failure}");
        true
    };
    let ran = Maker::start().map_err(Failure::from).and_then(|mut maker| {
        maker.halted_by(halt);
        outside(record, HookKind::Poststop, 0, &mut maker, warn)?;
        Ok(maker.leave()?)
    });
    if let Err(failure) = ran {
        warn(&failure);
    }
}

/// One after the other; `goes_on` says what becomes of the rest when one has failed.
fn outside(
    record: &Record,
    kind: HookKind,
    pid: i32,
    maker: &mut Maker,
    goes_on: impl Fn(&Failure) -> bool,
) -> Result<(), Failure> {
    let told = Told::of(record);
    let bundle: &Path = if record.bundle.is_dir() { &record.bundle } else { Path::new("/") };
    let hooked = Hooked { state: &|kind, pid| told.text(kind, pid), bundle };
    for (index, hook) in record.spec.hooks.of(kind).iter().enumerate() {
        if let Err(error) = maker.hook(kind, index, hook, hooked, pid) {
            let failure = Failure::from(error);
            if !goes_on(&failure) {
                return Err(failure);
            }
        }
    }
    Ok(())
}
