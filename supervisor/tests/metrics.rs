//! The figures, read as a monitoring system reads them.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says why by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use orangery::faults::{Fault, FaultPoint, FaultPolicy, Site};
use orangery::testing::FakeRuntime;
use orangery::{ContainerHandle, Overflow, Pool, Sandbox, SubscribeOptions, Supervisor};

/// Samples by name and sorted labels: `name{label="value"}`.
type Samples = BTreeMap<String, f64>;

/// A page of OpenMetrics text, which keeps to the rules or is refused: every sample below the type of its family, with a
/// suffix of that type; no series twice; buckets that only grow, up to the count; the end mark, and nothing behind it.
fn parse(page: &str) -> Samples {
    let body = page.strip_suffix("# EOF\n").expect("the end mark");
    let (mut samples, mut families) = (Samples::new(), BTreeSet::new());
    let (mut family, mut kind) = (String::new(), String::new());
    for line in body.lines() {
        if let Some(head) = line.strip_prefix("# ") {
            let mut words = head.splitn(3, ' ');
            let (what, name, rest) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            match what {
                "HELP" | "UNIT" => {}
                "TYPE" => {
                    assert!(families.insert(name.to_owned()), "{name} twice");
                    (family, kind) = (name.to_owned(), rest.to_owned());
                }
                _ => panic!("{line}"),
            }
            assert!(what == "HELP" || name == family, "{line}");
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let name = series.split('{').next().unwrap();
        let suffix = name.strip_prefix(&family).unwrap_or_else(|| panic!("{name} is not of {family}"));
        let known = match kind.as_str() {
            "counter" => suffix == "_total",
            "gauge" => suffix.is_empty(),
            "histogram" => ["_bucket", "_sum", "_count"].contains(&suffix),
            _ => panic!("{kind}"),
        };
        assert!(known && name.starts_with("orangery_"), "{line} is not of a {kind}");
        assert!(samples.insert(sorted(series), value.parse().unwrap()).is_none(), "{series} twice");
    }
    buckets(&samples);
    samples
}

fn sorted(series: &str) -> String {
    let Some((name, labels)) = series.strip_suffix('}').and_then(|series| series.split_once('{')) else {
        return series.to_owned();
    };
    let mut labels: Vec<_> = labels.split(',').collect();
    for label in &labels {
        let (key, value) = label.split_once('=').unwrap();
        assert!(key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{label}");
        assert!(value.len() > 2 && value.starts_with('"') && value.ends_with('"'), "{label}");
    }
    labels.sort_unstable();
    format!("{name}{{{}}}", labels.join(","))
}

fn buckets(samples: &Samples) {
    let mut histograms: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for (series, count) in samples.iter().filter(|(series, _)| series.contains("_bucket{")) {
        let (start, rest) = series.split_once("le=\"").unwrap();
        let (bound, end) = rest.split_once('"').unwrap();
        let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
        let end = end.trim_start_matches(',');
        histograms.entry(format!("{start}{end}").replace("_bucket", "_count")).or_default().push((bound, *count));
    }
    assert!(!histograms.is_empty());
    for (total, mut buckets) in histograms {
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(buckets.is_sorted_by_key(|(_, count)| *count), "{total}");
        assert_eq!(buckets.last().map(|last| (last.0, last.1)), Some((f64::INFINITY, samples[&total])), "{total}");
    }
}

fn supervisor(fake: &FakeRuntime) -> Supervisor {
    Supervisor::builder().shards(1).max_containers(2).build_on(Arc::new(fake.clone())).unwrap()
}

async fn spawn(supervisor: &Supervisor, id: &str) -> ContainerHandle {
    let sandbox = Sandbox::builder().id(id).output(100).build().unwrap();
    supervisor.command("prog").sandbox(&sandbox).spawn().await.unwrap()
}

#[tokio::test]
async fn what_happened_is_counted_and_the_page_is_valid() {
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    let (one, two) = (spawn(&supervisor, "a").await, spawn(&supervisor, "b").await);
    supervisor.command("prog").spawn().await.unwrap_err();
    let (mut first, mut second) = (fake.actor().await, fake.actor().await);
    two.pause().await.unwrap();
    let now = parse(&supervisor.metrics());
    assert_eq!(
        (now["orangery_containers{state=\"running\"}"], now["orangery_containers{state=\"paused\"}"]),
        (1.0, 1.0)
    );
    assert_eq!(now["orangery_containers{state=\"creating\"}"], 0.0);
    assert_eq!(now["orangery_refusals_total{budget=\"containers\"}"], 1.0);
    assert_eq!(now["orangery_creation_duration_seconds_count{stage=\"create\"}"], 2.0);
    assert_eq!(now["orangery_descriptors_reserved"], 64.0 + 2.0 * 4.0);
    two.resume().await.unwrap();

    first.say(b"hello");
    first.exit(3);
    one.wait().await.unwrap();
    second.say(&[b'x'; 101]);
    fake.saw("kill b").await;
    drop(second);
    two.wait().await.unwrap();
    fake.refuse(orangery::runtime::Error::new(orangery::runtime::ErrorKind::Creation, "no"));
    supervisor.command("prog").spawn().await.unwrap_err();
    let now = parse(&supervisor.metrics());
    assert_eq!(now["orangery_exits_total{cause=\"own\",process=\"main\"}"], 1.0);
    assert_eq!(now["orangery_exits_total{cause=\"output\",process=\"main\"}"], 1.0);
    assert_eq!(now["orangery_limits_hit_total{limit=\"output\"}"], 1.0);
    assert_eq!(now["orangery_creation_failures_total{what=\"container\"}"], 1.0);
    assert_eq!(now["orangery_stream_bytes_total{direction=\"in\"}"], 106.0);
    assert!(
        now.iter().filter(|(series, _)| series.starts_with("orangery_containers{")).all(|(_, count)| *count == 0.0)
    );
    supervisor.shutdown().await;
}

#[tokio::test]
async fn what_streams_have_carried_does_not_shrink_when_they_go() {
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    let handle = spawn(&supervisor, "a").await;
    let slow = SubscribeOptions { overflow: Overflow::DropOldest, queue_bytes: 2, ..SubscribeOptions::default() };
    let slow = handle.subscribe(slow);
    let mut reader = handle.stdout();
    let mut actor = fake.actor().await;
    actor.say(b"hello");
    assert!(reader.recv().await.is_some());
    let there = parse(&supervisor.metrics());
    // Whoever counts for the output limit may be a reader too.
    assert!([5.0, 10.0].contains(&there["orangery_stream_bytes_total{direction=\"out\"}"]));
    assert!(there["orangery_stream_readers"] >= 2.0);
    actor.exit(0);
    handle.wait().await.unwrap();
    drop((slow, reader, handle));
    supervisor.shutdown().await;
    let gone = parse(&supervisor.metrics());
    for (series, before) in there.iter().filter(|(series, _)| series.contains("_total") || series.contains("_count")) {
        assert!(gone[series] >= *before, "{series}: {before}, then {}", gone[series]);
    }
    assert_eq!((gone["orangery_stream_readers"], gone["orangery_stream_lag_bytes"]), (0.0, 0.0));
}

/// Panics over each `signal`.
struct Panics;

impl FaultPolicy for Panics {
    fn decide(&self, at: &FaultPoint<'_>) -> Fault {
        if at.site == Site::ProcessMessage("signal") { Fault::Panic } else { Fault::Continue }
    }
}

/// The table of the documentation, against the names on a page of a supervisor to which everything has happened: families without a sample are not on it.
#[tokio::test]
async fn every_family_is_documented_and_every_documented_one_is_there() {
    let fake = FakeRuntime::default();
    let builder = Supervisor::builder().shards(1).max_containers(1).fault_policy(Arc::new(Panics));
    let supervisor = builder.build_on(Arc::new(fake.clone())).unwrap();
    let handle = spawn(&supervisor, "a").await;
    handle.process().signal_in_order(10).await.unwrap_err();
    supervisor.command("prog").spawn().await.unwrap_err();
    fake.actor().await.say(&[b'x'; 101]);
    handle.wait().await.unwrap();
    fake.refuse(orangery::runtime::Error::new(orangery::runtime::ErrorKind::Creation, "no"));
    supervisor.command("prog").spawn().await.unwrap_err();
    let pool = Pool::builder(&Sandbox::default()).idle(1).most(1).build(&supervisor).unwrap();
    drop(pool.take().await.unwrap().id().to_owned());
    let page = supervisor.metrics();
    let table = include_str!("../src/supervisor/metrics.rs");
    let documented: BTreeSet<String> = table
        .lines()
        .filter(|line| line.trim_start().starts_with("/// | `orangery"))
        .flat_map(|line| line.split('`').skip(1).step_by(2).filter(|code| code.starts_with("orangery_")))
        .map(|name| name.split('{').next().unwrap().trim_end_matches("_total").to_owned())
        .collect();
    let mut there: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect();
    // A fake has no keeper; a machine may set no limit on descriptors.
    there.extend(
        ["orangery_keeper_queue", "orangery_keeper_unanswered", "orangery_descriptors_limit"].map(str::to_owned),
    );
    assert_eq!(there, documented);
    supervisor.shutdown().await;
}
