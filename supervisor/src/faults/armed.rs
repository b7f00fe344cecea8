//! A supervisor's policy and on whose behalf it is asked.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::mem::{Discriminant, discriminant};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use orangery_runtime::native::{self, Point};

use super::{Fault, FaultPoint, FaultPolicy, Site};
use crate::error::Error;

/// The policy of one supervisor, asked for one of its containers or for none. Cheap to clone, and nothing without a
/// policy.
#[derive(Clone, Default)]
pub(crate) struct Faults(Option<Arc<Asker>>);

/// Who asks.
struct Asker {
    armed: Arc<Armed>,
    container: String,
    labels: BTreeMap<String, String>,
    generation: u32,
    passed: Mutex<HashMap<Site, u64>>,
}

/// What the askers of one supervisor share.
struct Armed {
    policy: Arc<dyn FaultPolicy>,
    /// Containers, for sites that know only an id.
    known: Mutex<HashMap<String, Weak<Asker>>>,
    /// At which kinds of sites an answer that makes no sense there was given, and said so.
    senseless: Mutex<HashSet<Discriminant<Site>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Faults {
    #[cfg_attr(not(any(test, feature = "faults")), expect(dead_code, reason = "nobody can set a policy"))]
    pub(crate) fn new(policy: Arc<dyn FaultPolicy>) -> Self {
        let armed = Armed { policy, known: Mutex::default(), senseless: Mutex::default() };
        Self(Some(Arc::new(Asker::new(Arc::new(armed), "", BTreeMap::new(), 0))))
    }

    /// Asked for a container from now on.
    pub(crate) fn of(&self, id: &str, labels: &BTreeMap<String, String>, generation: u32) -> Self {
        Self(self.0.as_ref().map(|asker| Arc::new(Asker::new(asker.armed.clone(), id, labels.clone(), generation))))
    }

    /// Be found by the container's id, which is taken by nobody else.
    pub(crate) fn enlist(&self) {
        if let Some(asker) = &self.0 {
            let mut known = lock(&asker.armed.known);
            known.retain(|_, asker| asker.strong_count() > 0);
            known.insert(asker.container.clone(), Arc::downgrade(asker));
        }
    }

    /// Asked for the container with this id, or for none.
    pub(crate) fn named(&self, id: &str) -> Self {
        let found = self.0.as_ref().and_then(|asker| lock(&asker.armed.known).get(id)?.upgrade());
        found.map_or_else(|| self.clone(), |asker| Self(Some(asker)))
    }

    /// Pass a site: panic, or come back with what to do, which means something there.
    pub(crate) fn ask(&self, site: Site) -> Fault {
        let Some(asker) = &self.0 else { return Fault::Continue };
        match asker.ask(site) {
            #[expect(clippy::panic, reason = "that is what the policy asked for")]
            Fault::Panic => panic!("injected at {site:?}"),
            fault => fault,
        }
    }

    /// Pass the start of a process.
    pub(crate) async fn pass_start(&self, site: Site) -> Result<(), Error> {
        match self.ask(site) {
            Fault::Delay(time) => tokio::time::sleep(time).await,
            Fault::Errno(errno) => return Err(injected(orangery_runtime::ErrorKind::Creation, Some(errno))),
            _ => {}
        }
        Ok(())
    }

    /// Pass the admission of a container.
    pub(crate) fn pass_admission(&self) -> Result<(), Error> {
        let errno = match self.ask(Site::Admission) {
            Fault::Errno(errno) => Some(errno),
            Fault::Drop => None,
            _ => return Ok(()),
        };
        Err(injected(orangery_runtime::ErrorKind::Exhausted, errno))
    }

    /// Pass the delivery of a report; the exit code that shall stand in it instead.
    pub(crate) async fn pass_report(&self) -> Option<i32> {
        match self.ask(Site::ReportDelivery) {
            Fault::Delay(time) => tokio::time::sleep(time).await,
            Fault::Override(code) => return Some(code),
            _ => {}
        }
        None
    }

    /// For the runtime's own points.
    pub(crate) fn of_runtime(&self) -> native::Faults {
        if self.0.is_none() {
            return native::Faults::default();
        }
        let faults = self.clone();
        native::Faults::with_errno(move |id, point| {
            let site = match point {
                Point::ContainerStep(step) => Site::PlanStep(step),
                Point::ProcessStep(step) => Site::ProcessStep(step),
                stage => Site::Stage(stage),
            };
            match faults.named(id).ask(site) {
                Fault::Errno(errno) => Some(errno),
                _ => None,
            }
        })
    }

    /// Whether anybody would be asked.
    pub(super) const fn is_armed(&self) -> bool {
        self.0.is_some()
    }
}

fn injected(kind: orangery_runtime::ErrorKind, errno: Option<i32>) -> Error {
    orangery_runtime::Error::new(kind, "a fault was injected").with_errno(errno).into()
}

impl Asker {
    fn new(armed: Arc<Armed>, id: &str, labels: BTreeMap<String, String>, generation: u32) -> Self {
        Self { armed, container: id.to_owned(), labels, generation, passed: Mutex::default() }
    }

    fn ask(&self, site: Site) -> Fault {
        let count = {
            let mut passed = lock(&self.passed);
            let count = passed.entry(site).or_default();
            *count += 1;
            *count - 1
        };
        let Self { armed, container, labels, generation, .. } = self;
        let at = FaultPoint { site, container, labels, generation: *generation, count };
        let fault = armed.policy.decide(&at);
        if site.takes(fault) {
            return fault;
        }
        if lock(&armed.senseless).insert(discriminant(&site)) {
            tracing::warn!(?site, ?fault, "this fault means nothing there and is ignored; said once");
        }
        Fault::Continue
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").field("armed", &self.is_armed()).finish()
    }
}
