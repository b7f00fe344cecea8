//! Which containers of a list, and which events of the feed, are wanted. Pure.

use std::collections::BTreeMap;

use crate::container::state::State;
use crate::events::{Event, Kind};
use crate::handle::Inspect;

/// What a container must have to be listed: everything that was asked for; without any call, each one.
///
/// ```
/// use orangery::{Filter, State};
/// let filter = Filter::new().label("tenant", "7").state(State::Running).state(State::Paused).id_prefix("job-");
/// # async fn f(supervisor: orangery::Supervisor, filter: Filter) -> Result<(), orangery::Error> {
/// for container in supervisor.list_matching(&filter).await? {
///     println!("{} {:?}", container.id, container.properties);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    labels: Vec<(String, String)>,
    properties: Vec<(String, String)>,
    states: Vec<State>,
    id_prefix: String,
}

impl Filter {
    /// Everything matches.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// It has this label with this value; of several, all.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push((name.into(), value.into()));
        self
    }

    /// It has this property with this value at the moment; of several, all.
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.push((name.into(), value.into()));
        self
    }

    /// It is in this state; of several, in one of them.
    #[must_use]
    pub fn state(mut self, state: State) -> Self {
        self.states.push(state);
        self
    }

    /// Its id begins with this; the last call counts.
    #[must_use]
    pub fn id_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.id_prefix = prefix.into();
        self
    }

    /// Whether `container` is wanted.
    #[must_use]
    pub fn matches(&self, container: &Inspect) -> bool {
        let state = self.states.is_empty() || self.states.contains(&container.state);
        let labels = self.labels.iter().all(|(name, value)| container.labels.get(name) == Some(value));
        let properties = self.properties.iter().all(|(name, value)| container.properties.get(name) == Some(value));
        state && labels && properties && container.id.starts_with(&self.id_prefix)
    }
}

/// What an event must have to be read: everything that was asked for; without any call, each one. Events about no
/// container, as the loss of the keeper, have neither id nor label.
///
/// ```
/// use orangery::EventFilter;
/// let ends = EventFilter::new().label("tenant", "7").kind("container_failed").kind("container_removed");
/// # drop(ends);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    labels: Vec<(String, String)>,
    ids: Vec<String>,
    id_prefix: String,
    kinds: Vec<String>,
}

impl EventFilter {
    /// Everything matches.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Its container has this label with this value; of several, all.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push((name.into(), value.into()));
        self
    }

    /// It is about the container with this id; of several, about one of them.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.ids.push(id.into());
        self
    }

    /// Its container's id begins with this; the last call counts.
    #[must_use]
    pub fn id_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.id_prefix = prefix.into();
        self
    }

    /// It has this [name](crate::events::Kind::name), such as `process_exited`; of several, one of them.
    #[must_use]
    pub fn kind(mut self, name: impl Into<String>) -> Self {
        self.kinds.push(name.into());
        self
    }

    /// Whether `event` is wanted.
    #[must_use]
    pub fn matches(&self, event: &Event) -> bool {
        self.is_of(&event.kind) && self.is_about(event.container.as_deref().unwrap_or_default(), &event.labels)
    }

    /// Whether events of this kind are wanted.
    pub(crate) fn is_of(&self, kind: &Kind) -> bool {
        self.kinds.is_empty() || self.kinds.iter().any(|name| name == kind.name())
    }

    /// Whether events about the container with this id and these labels are wanted.
    pub(crate) fn is_about(&self, id: &str, labels: &BTreeMap<String, String>) -> bool {
        let ids = self.ids.is_empty() || self.ids.iter().any(|wanted| wanted == id);
        ids && id.starts_with(&self.id_prefix)
            && self.labels.iter().all(|(name, value)| labels.get(name) == Some(value))
    }
}
