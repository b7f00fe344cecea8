//! A supervisor's policy and on whose behalf it is asked.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::mem::{Discriminant, discriminant};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use orangery_io_stream::Source;
use orangery_runtime::native::{self, Point};

use super::held::Held;
use super::{Fault, FaultPoint, FaultPolicy, Plans, Site};
use crate::error::Error;
#[cfg(any(test, feature = "faults"))]
use crate::events::Feed;

/// What a step that fails says, whatever it is asked to.
const EINVAL: i32 = 22;

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
    policy: Option<Arc<dyn FaultPolicy>>,
    plans: Plans,
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
    pub(crate) fn new(policy: Option<Arc<dyn FaultPolicy>>) -> Self {
        let armed = Armed { policy, plans: Plans::default(), known: Mutex::default(), senseless: Mutex::default() };
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
            drop(known);
            asker.armed.plans.accepted(&asker.container, &asker.labels, asker.generation);
        }
    }

    /// The plans of this supervisor, which may have some.
    #[cfg_attr(not(any(test, feature = "faults")), expect(dead_code, reason = "nobody can arm one"))]
    pub(crate) fn plans(&self) -> Option<&Plans> {
        self.0.as_ref().map(|asker| &asker.armed.plans)
    }

    /// Have the plans hear what happens.
    #[cfg(any(test, feature = "faults"))]
    pub(crate) fn observe(&self, feed: &Feed) {
        if let Some(armed) = self.0.as_ref().map(|asker| Arc::clone(&asker.armed)) {
            feed.observe(move |event| armed.plans.observe(event));
        }
    }

    /// The supervisor ends: all plans are over.
    pub(crate) fn end_plans(&self) {
        if let Some(asker) = &self.0 {
            asker.armed.plans.end();
        }
    }

    /// Wait until everything is reverted.
    pub(crate) async fn plans_ended(&self) {
        if let Some(asker) = &self.0 {
            asker.armed.plans.ended().await;
        }
    }

    /// Who holds this output of the container.
    pub(super) fn stalled(&self, source: Source) -> Held {
        let of = |asker: &Arc<Asker>| asker.armed.plans.stalled(&asker.container, asker.generation, source);
        self.0.as_ref().map(of).unwrap_or_default()
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

    /// Pass the delivery of a report, of a main process or of another; the exit code that shall stand in it instead, and
    /// in whose name.
    pub(crate) async fn pass_report(&self, main: bool) -> Option<(i32, String)> {
        let instead = match self.ask(Site::ReportDelivery) {
            Fault::Delay(time) => {
                tokio::time::sleep(time).await;
                None
            }
            Fault::Override(code) => Some((code, "report-delivery".to_owned())),
            _ => None,
        };
        let Some(asker) = self.0.as_ref().filter(|_| main) else { return instead };
        let (held, planned) = asker.armed.plans.report(&asker.container, asker.generation);
        held.over().await;
        instead.or(planned)
    }

    /// Pass an attempt of a probe; what stands in the place of its answer.
    pub(crate) async fn pass_probe(&self) -> Option<Result<(), String>> {
        match self.ask(Site::Probe) {
            Fault::Delay(time) => tokio::time::sleep(time).await,
            Fault::Errno(errno) => {
                return Some(Err(injected(orangery_runtime::ErrorKind::System, Some(errno)).to_string()));
            }
            Fault::Drop => return Some(Err("no answer: a fault was injected".into())),
            Fault::Override(0) => return Some(Ok(())),
            Fault::Override(value) => return Some(Err(format!("{value}: a fault was injected"))),
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
        let fault = match armed.policy.as_ref().map_or(Fault::Continue, |policy| policy.decide(&at)) {
            Fault::Continue if armed.plans.fails(container, *generation, site) => Fault::Errno(EINVAL),
            fault => fault,
        };
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
