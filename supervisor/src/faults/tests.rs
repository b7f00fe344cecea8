use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::*;

const FAULTS: [Fault; 6] =
    [Fault::Continue, Fault::Delay(Duration::ZERO), Fault::Errno(5), Fault::Panic, Fault::Drop, Fault::Override(3)];

/// The rows of the table in the module's documentation, a column for each of [`FAULTS`].
#[test]
fn the_table() {
    let sites = [
        (Site::PlanStep(3), "c-e---"),
        (Site::ProcessStep(3), "c-e---"),
        (Site::Stage(Point::Cgroup), "c-e---"),
        (Site::StartGate, "cdep--"),
        (Site::Exec, "cdep--"),
        (Site::ReportDelivery, "cd-p-o"),
        (Site::PumpRead(Source::Stdout), "cdepl-"),
        (Site::PumpWrite(Source::Stderr), "cd-pl-"),
        (Site::Stdin, "cde-l-"),
        (Site::ManagerMessage("list"), "cd-pl-"),
        (Site::ManagerMessage("gone"), "cd-p--"),
        (Site::ServiceMessage("stop"), "cd-pl-"),
        (Site::ServiceMessage("news"), "cd-p--"),
        (Site::GroupMessage("stop"), "cd-pl-"),
        (Site::GroupMessage("news"), "cd-p--"),
        (Site::ContainerMessage("pause"), "cd-pl-"),
        (Site::ContainerMessage("removed"), "cd-p--"),
        (Site::ProcessMessage("signal"), "cd-pl-"),
        (Site::ProcessMessage("exited"), "cd-p--"),
        (Site::Probe, "cde-lo"),
        (Site::Notification, "cd--l-"),
        (Site::Admission, "c-e-l-"),
        (Site::Follow, "c---l-"),
        (Site::Pool("make"), "cdep--"),
        (Site::Pool("watch"), "cd-p--"),
        (Site::Record(Step::Placed), "c-----"),
        (Site::Log, "cdep--"),
    ];
    for (site, row) in sites {
        for (fault, letter) in FAULTS.into_iter().zip(row.chars()) {
            assert_eq!(site.takes(fault), letter != '-', "{fault:?} at {site:?}");
        }
    }
}

/// Gives one answer and writes down what it was asked.
struct Always(Fault, Mutex<Vec<String>>);

impl FaultPolicy for Always {
    fn decide(&self, at: &FaultPoint<'_>) -> Fault {
        let FaultPoint { site, container, labels, generation, count } = at;
        self.1.lock().unwrap().push(format!("{site:?} {container:?} {labels:?} {generation} {count}"));
        self.0
    }
}

#[test]
fn who_is_asked_about_and_how_often_it_was() {
    let policy = Arc::new(Always(Fault::Continue, Mutex::default()));
    let all = Faults::new(Some(Arc::clone(&policy) as Arc<dyn FaultPolicy>));
    let labels = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
    let one = all.of("a", &labels, 1);
    one.ask(Site::Exec);
    assert_eq!(all.named("a").ask(Site::Exec), Fault::Continue, "not enlisted yet: about nobody");
    one.enlist();
    all.named("a").ask(Site::Exec);
    one.ask(Site::StartGate);
    drop(one);
    all.named("a").ask(Site::Exec);
    let asked = policy.1.lock().unwrap().clone();
    let of_one = r#""a" {"k": "v"} 1"#;
    let want = [
        format!("Exec {of_one} 0"),
        r#"Exec "" {} 0 0"#.into(),
        format!("Exec {of_one} 1"),
        format!("StartGate {of_one} 0"),
        r#"Exec "" {} 0 1"#.into(),
    ];
    assert_eq!(asked, want);
}

/// Counts the warnings.
struct Warnings(AtomicU64);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }

    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn an_answer_that_makes_no_sense_is_ignored_and_said_once_for_a_kind_of_site() {
    let warnings = Arc::new(Warnings(AtomicU64::new(0)));
    let faults = Faults::new(Some(Arc::new(Always(Fault::Override(1), Mutex::default()))));
    tracing::subscriber::with_default(Arc::clone(&warnings), || {
        for step in 0..3 {
            assert_eq!(faults.ask(Site::PlanStep(step)), Fault::Continue);
        }
        assert_eq!(warnings.0.load(Ordering::SeqCst), 1);
        assert_eq!(faults.of("a", &BTreeMap::new(), 1).ask(Site::Stdin), Fault::Continue);
        assert_eq!(warnings.0.load(Ordering::SeqCst), 2, "another kind");
        assert_eq!(faults.ask(Site::ReportDelivery), Fault::Override(1));
    });
    assert_eq!(warnings.0.load(Ordering::SeqCst), 2);
}
