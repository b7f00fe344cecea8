//! Containers that another program makes (`drivers/`): `call.rs` runs it once, by the keeper; `create.rs` makes a container;
//! `container.rs` is what of it differs from ours; `terminal.rs` waits for the masters of terminals. Everything else of a life is that of our own containers: group, ids, kill,
//! pause, counters, the files of its root. The keeper is the parent of what such a program leaves behind (`Ask::Claim`), so
//! that it is told how that ends, with what it used.

mod call;
mod container;
mod create;
mod hierarchies;
mod own_node;
mod terminal;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::OnceCell;

pub(super) use container::{Brought, Driven};
use hierarchies::Hierarchies;

use super::{Driver, End, Inner, NativeRuntime, Options, helper};
use crate::drivers::{Flavour, Program, refused};
use crate::error::{Error, ErrorKind, Errors};
use crate::plan::wire;
use crate::spec::{ContainerSpec, ProcessSpec};
use crate::{BoxFuture, Container, Runtime};

/// Where a call that makes a container has what is the host's: a directory that every host has.
const PLACES: [&str; 5] = ["/mnt", "/media", "/srv", "/opt", "/home"];

/// Makes containers by a [`Program`]. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DrivenRuntime {
    native: NativeRuntime,
    known: Arc<Known>,
}

/// What is known of the program.
#[derive(Debug)]
struct Known {
    program: Program,
    path: PathBuf,
    flavour: OnceCell<Flavour>,
    /// Our directory: `bundles/ID`, `root`, `init`.
    dir: PathBuf,
    place: &'static str,
    hierarchies: Hierarchies,
}

impl DrivenRuntime {
    /// Start a keeper, as [`NativeRuntime::start`] does. The program is asked who it is with the first container.
    ///
    /// # Errors
    /// As for [`NativeRuntime::start`]; with the field `runtime`: [`ErrorKind::NotFound`] or [`ErrorKind::Permission`] where the
    /// program is not there or cannot be executed, [`ErrorKind::Unsupported`] for root without cgroups, and for
    /// containers that are to outlive us. With the field `cgroup_parent`: [`ErrorKind::Unsupported`] where root's groups have not
    /// one path in all hierarchies.
    pub fn start(program: Program, options: Options) -> Result<(DrivenRuntime, Driver), Error> {
        let refused = |why: &str| Err(Error::new(ErrorKind::Unsupported, why).with_field("runtime"));
        if options.end != End::Kill {
            return refused("containers that a driver has made end with this supervisor");
        }
        let path = find(&program.path)?;
        let (native, driver) = NativeRuntime::start(options)?;
        let cgroups = native.inner.cgroups()?;
        let (roots, privileged) = (cgroups.roots(), native.inner.machine.privileged);
        if roots.is_empty() && privileged {
            return refused("root's driver needs cgroups");
        }
        let (Some(files), _) = native.places() else { return refused("the runtime is shut down") };
        let hierarchies = if privileged { Hierarchies::of(&roots)? } else { Hierarchies::of_a_user() };
        for (parent, name) in hierarchies.further()? {
            native.inner.keeper.register(wire::Tree::Cgroup, parent, &name)?;
        }
        let dir = files.join("driver");
        prepare(&dir)?;
        // What a call itself needs is not to be hidden by it.
        let free =
            |place: &&str| Path::new(place).is_dir() && ![&path, &dir].iter().any(|used| used.starts_with(place));
        let place = PLACES.into_iter().find(free).unwrap_or("/tmp");
        let known = Known { program, path, flavour: OnceCell::new(), dir, place, hierarchies };
        Ok((Self { native, known: Arc::new(known) }, driver))
    }

    /// What it is driven on: keeper, directories, cgroups.
    #[must_use]
    pub fn native(&self) -> &NativeRuntime {
        &self.native
    }

    /// Which program it is, once the first container has been asked for.
    #[must_use]
    pub fn flavour(&self) -> Option<&Flavour> {
        self.known.flavour.get()
    }

    fn refusals(&self, spec: &ContainerSpec, main: &ProcessSpec) -> Result<(), Errors> {
        let no = refused::container(spec, main, self.flavour());
        if no.is_empty() { Ok(()) } else { Err(Errors(no)) }
    }
}

impl Runtime for DrivenRuntime {
    fn create(&self, spec: ContainerSpec, main: ProcessSpec) -> BoxFuture<Result<Box<dyn Container>, Errors>> {
        let (inner, known) = (Arc::clone(&self.native.inner), Arc::clone(&self.known));
        Box::pin(async move {
            let container = create::create(inner, known, spec, main).await?;
            Ok(Box::new(container) as Box<dyn Container>)
        })
    }

    fn check(&self, spec: &ContainerSpec, main: &ProcessSpec) -> Result<(), Errors> {
        self.refusals(spec, main)?;
        let checked = self.native.inner.check(spec.clone(), main.clone())?;
        refused::user(&checked, self.native.inner.has_one_id())?;
        refused::layering(checked.container(), &self.native.inner.layering)?;
        refused::rest(&checked)
    }

    fn shutdown(&self) -> BoxFuture<()> {
        let (native, known) = (self.native.clone(), Arc::clone(&self.known));
        Box::pin(async move {
            native.shutdown().await;
            known.hierarchies.remove();
        })
    }
}

/// Which program it is: it is asked, by a keeper of its own. Nothing is made.
///
/// # Errors
/// With the field `runtime`: it is not there ([`ErrorKind::NotFound`]), cannot be executed, fails, or is too old to be driven.
pub async fn flavour_of(program: Program) -> Result<Flavour, Error> {
    let path = find(&program.path)?;
    let (native, driver) = NativeRuntime::start(Options::default())?;
    let driver = tokio::spawn(driver.run());
    let (flavour, hierarchies) = (OnceCell::new(), Hierarchies::default());
    let known = Arc::new(Known { program, path, flavour, dir: PathBuf::new(), place: "/tmp", hierarchies });
    let asked = known.flavour(&native.inner).await.cloned();
    native.shutdown().await;
    let _ = driver.await;
    asked
}

/// The program, and that it can be executed.
fn find(path: &Path) -> Result<PathBuf, Error> {
    use rustix::fs::{Access, access};
    let bare = path.components().count() == 1 && !path.is_absolute();
    let missing = || {
        let what = format!("there is no program {}", path.display());
        Error::new(ErrorKind::NotFound, what).with_field("runtime")
    };
    let found = match path.to_str().filter(|_| bare) {
        Some(name) => helper::find(name).ok_or_else(missing)?,
        None => std::path::absolute(path).map_err(|_| missing())?,
    };
    if !found.is_file() {
        return Err(missing());
    }
    access(&found, Access::EXEC_OK)
        .map(|()| found.clone())
        .map_err(|error| Error::system(format!("{} cannot be executed", found.display()), error).with_field("runtime"))
}

/// Our directory, with the program that is pid 1 of containers.
fn prepare(dir: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt as _;
    let failed = |error: std::io::Error| Error::system(format!("cannot prepare {}", dir.display()), error);
    for dir in [dir.to_path_buf(), dir.join("bundles"), dir.join("root")] {
        std::fs::DirBuilder::new().mode(0o700).create(dir).map_err(failed)?;
    }
    crate::keeper::write_program(&dir.join("init")).map_err(failed)
}

impl Known {
    /// Who it is; asked once.
    async fn flavour(self: &Arc<Self>, inner: &Arc<Inner>) -> Result<&Flavour, Error> {
        let asked = self.flavour.get_or_try_init(|| async {
            let text = call::version(inner, self).await?;
            let flavour = Flavour::of(&text);
            if flavour.is_too_old() {
                let why = format!("{flavour} is too old to be driven");
                let hint = "runc from 1.1 on, crun from 1.0 on";
                return Err(Error::new(ErrorKind::Unsupported, why).with_field("runtime").with_hint(hint));
            }
            tracing::debug!(%flavour, "driven");
            Ok(flavour)
        });
        asked.await
    }
}
