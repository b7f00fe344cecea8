//! One container followed through all layers by its id, with another beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use orangery::{Limits, Sandbox, Supervisor};
use orangery_tests::{Scene, Trial, trial};
use tracing::field::{Field, Visit};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

use crate::stage::play;

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial!(what_is_logged_about_a_container_carries_its_id_on_every_thread_of_every_layer)]
}

/// What one thread has said.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Said {
    target: String,
    message: String,
    /// The ids of containers that it carries, by its spans and by a field of its own.
    ids: BTreeSet<String>,
}

#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Said>>>);

/// The fields that matter.
#[derive(Default)]
struct Fields {
    message: String,
    container: Option<String>,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "container" | "id" => self.container = Some(format!("{value:?}")),
            _ => {}
        }
    }
}

/// Of a span of ours.
struct Id(String);

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Collector {
    fn on_new_span(&self, of: &tracing::span::Attributes<'_>, id: &tracing::span::Id, at: Context<'_, S>) {
        let mut fields = Fields::default();
        of.record(&mut fields);
        if let (Some(span), Some(container)) = (at.span(id), fields.container) {
            span.extensions_mut().insert(Id(container));
        }
    }

    fn on_event(&self, event: &tracing::Event<'_>, at: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut ids: BTreeSet<String> = fields.container.into_iter().collect();
        for span in at.event_scope(event).into_iter().flatten() {
            ids.extend(span.extensions().get::<Id>().map(|id| id.0.clone()));
        }
        let target = event.metadata().target().to_owned();
        let said = Said { target, message: fields.message, ids };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(said);
    }
}

async fn a_life(supervisor: &Supervisor, id: &str) {
    let sandbox = Sandbox::builder().id(id).build().unwrap();
    let container = supervisor.command("sh").arg("-c").arg("read line").sandbox(&sandbox);
    let container = container.stdin(orangery::Stdin::Piped).spawn().await.unwrap();
    container.command("echo").arg("hello").run().await.unwrap();
    container.process().signal_in_order(18).await.unwrap();
    // Without a cgroup it is refused, which is logged or not as the layers see fit.
    let _ = container.update(Limits { pids: Some(100), ..Limits::default() }).await;
    container.read_file("/etc/passwd", 1 << 20).await.unwrap();
    drop(container.stdin());
    container.wait().await.unwrap();
}

fn what_is_logged_about_a_container_carries_its_id_on_every_thread_of_every_layer(scene: &Scene) {
    let collector = Collector::default();
    let filter = tracing_subscriber::filter::LevelFilter::TRACE;
    let all = tracing_subscriber::registry().with(collector.clone().with_filter(filter));
    tracing::subscriber::set_global_default(all).expect("a process of its own");
    let mut lives = Vec::new();
    play(scene, async |supervisor| {
        // What the supervisor itself has said at its start.
        collector.0.lock().unwrap().clear();
        tokio::join!(a_life(supervisor, "one"), a_life(supervisor, "two"));
        lives = std::mem::take(&mut *collector.0.lock().unwrap());
    });
    lives.retain(|said| said.target.starts_with("orangery"));
    let mut layers: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for said in &lives {
        let mut ids = said.ids.iter();
        let (Some(id), None) = (ids.next(), ids.next()) else { panic!("not of one container: {said:?}") };
        *layers.entry(id).or_default().entry(&said.target).or_default() += 1;
    }
    assert_eq!(layers.keys().copied().collect::<Vec<_>>(), ["one", "two"]);
    for (id, targets) in &layers {
        for layer in [
            "orangery::manager::actor",
            "orangery::container::slot",
            "orangery::process::actor",
            "orangery_runtime::native::create",
            "orangery_runtime::native::container",
            "orangery_runtime::native::evidence",
            "orangery_runtime::keeper::client",
            "orangery_runtime::keeper::conversation",
            "orangery_io_stream::pump",
        ] {
            assert!(targets.contains_key(layer), "{id}: nothing of {layer}: {targets:?}");
        }
    }
    let targets = |id: &str| layers[id].keys().copied().collect::<Vec<_>>();
    assert_eq!(targets("one"), targets("two"), "the same life, told by the same layers");
}
