//! Cgroups that systemd makes (`--systemd-cgroup`): each container's is a transient unit's, whose properties say what systemd would
//! otherwise undo. docs/decisions/0069 says why it is as it is.
//!
//! ```text
//!   name.rs        linux.cgroupsPath -> slice and unit
//!   properties.rs  limits -> properties, as this systemd knows them
//!   annotations.rs org.systemd.property.* -> properties
//! ```

mod annotations;
mod name;
mod properties;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use orangery_runtime::cgroup::{self, Limits};
use orangery_runtime::systemd::{self, Manager, Property, Unit, Variant};
use serde::{Deserialize, Serialize};

use crate::container::reason;
use crate::failure::Failure;
use name::Name;

/// The unit of a container, as it is written down.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Owner {
    /// With its `.scope` or `.slice`.
    pub(crate) unit: String,
    /// Of the user's own manager.
    pub(crate) user: bool,
}

impl Owner {
    fn manager(&self) -> Result<Manager, Failure> {
        let manager = if self.user { Manager::of_user() } else { Manager::of_machine() };
        manager.map_err(|error| Failure::new(format!("--systemd-cgroup: {error}")))
    }

    /// The manager knows of other limits as well.
    ///
    /// # Errors
    /// It cannot be asked, or refuses.
    pub(crate) fn knows(&self, limits: &Limits) -> Result<(), Failure> {
        let mut manager = self.manager()?;
        let version = manager.version()?;
        let properties = properties::of(limits, unified()?, version);
        if properties.is_empty() {
            return Ok(());
        }
        manager.set(&self.unit, &properties)?;
        // It answers before it writes them into the cgroup, and writes before it answers what comes next.
        manager.version()?;
        Ok(())
    }

    /// The unit goes, with all that is in it. A manager that cannot be asked takes a scope away by itself once it is empty.
    pub(crate) fn stop(&self) {
        let stopped = self.manager().and_then(|mut manager| Ok(manager.stop(&self.unit)?));
        if let Err(failure) = stopped {
            tracing::warn!(unit = self.unit, "{failure}");
        }
    }

    /// Before anything is started that is to be in the unit: who is in a session of the user's that is not the user's own may start
    /// nothing in another group, and moves to a scope that is.
    ///
    /// # Errors
    /// There is none to be had.
    pub(crate) fn come_near(&self) -> Result<(), Failure> {
        let may =
            || cgroup::is_delegated().map_err(|error| Failure::system("cannot look at our cgroup", reason(&error)));
        if self.user && !may()? {
            systemd::enter_scope("orangery-oci")?;
        }
        Ok(())
    }
}

/// A unit that is to be made, and its manager.
#[derive(Debug)]
pub(crate) struct Wanted {
    name: Name,
    id: String,
    user: bool,
    asked: Vec<Property>,
    manager: Manager,
    version: u32,
    unified: bool,
}

impl Wanted {
    /// What this bundle wants; its manager is there.
    ///
    /// # Errors
    /// `linux.cgroupsPath` or an annotation that is none; no manager.
    pub(crate) fn of(
        path: Option<&Path>,
        id: &str,
        annotations: &BTreeMap<String, String>,
        user: bool,
    ) -> Result<Wanted, Failure> {
        let name = Name::of(path, id, user)?;
        let asked = annotations::properties(annotations)?;
        let mut manager = Owner { unit: name.unit.clone(), user }.manager()?;
        let version = manager.version()?;
        Ok(Wanted { name, id: id.to_owned(), user, asked, manager, version, unified: unified()? })
    }

    pub(crate) fn owner(&self) -> Owner {
        Owner { unit: self.name.unit.clone(), user: self.user }
    }

    /// Make it, around this process; where its cgroup is.
    ///
    /// # Errors
    /// There is such a unit already; the manager refuses; what it has made cannot be found.
    pub(crate) fn start(&mut self, pid: i32, limits: &Limits) -> Result<PathBuf, Failure> {
        let unit = self.unit(pid, limits);
        self.manager.start(&unit)?;
        let found = cgroup::of_process(pid)
            .map_err(|error| Failure::system("cannot find the unit's cgroup", reason(&error)))?;
        match found {
            Some(path) if path.file_name().is_some_and(|group| name::is_group_of(&unit.name, group)) => Ok(path),
            found => {
                self.owner().stop();
                let at = found.unwrap_or_default();
                Err(Failure::new(format!("systemd has made {}, and its process is in {}", unit.name, at.display())))
            }
        }
    }

    fn unit(&self, pid: i32, limits: &Limits) -> Unit {
        let text = |name: &str, text: String| Property::new(name, Variant::Text(text));
        let flag = |name: &str, flag| Property::new(name, Variant::Flag(flag));
        let mut properties = vec![
            text("Description", format!("orangery-oci container {}", self.id)),
            text("Slice", self.name.slice.clone()),
            flag("Delegate", true),
            flag("DefaultDependencies", false),
        ];
        // Nobody looks at one that has failed: it would be in the way of the next of its name. Since 236.
        properties.extend((self.version >= 236).then(|| text("CollectMode", "inactive-or-failed".into())));
        properties.extend(properties::of(limits, self.unified, self.version));
        // Last, so that who asks for one by its name has it.
        properties.retain(|ours| self.asked.iter().all(|theirs| theirs.name != ours.name));
        properties.extend(self.asked.iter().cloned());
        Unit { name: self.name.unit.clone(), processes: pid.try_into().ok().into_iter().collect(), properties }
    }
}

fn unified() -> Result<bool, Failure> {
    cgroup::is_unified().map_err(|error| Failure::system("cannot look at what cgroups are mounted", reason(&error)))
}
