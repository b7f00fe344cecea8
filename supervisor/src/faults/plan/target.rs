//! Whom a fault is about.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Containers of one supervisor: no process that is not in one of them can be hit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Target {
    /// The one with this id: a service's incarnations all have its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Those with all these labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Which of those are hit.
    pub pick: Pick,
}

/// Which of the containers that match are hit.
///
/// ```
/// use orangery::faults::Pick;
/// assert_eq!(serde_json::from_str::<Pick>(r#"{"some":2}"#).unwrap(), Pick::Some(2));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Pick {
    /// The one that the event is about.
    #[default]
    It,
    /// One of those that run, by the seed.
    One,
    /// So many of those that run, by the seed; all, if there are fewer.
    Some(u32),
    /// All that run.
    All,
}

impl Target {
    /// Whether a container is one of those.
    pub(in crate::faults) fn matches(&self, id: &str, labels: &BTreeMap<String, String>) -> bool {
        self.id.as_ref().is_none_or(|wanted| wanted == id)
            && self.labels.iter().all(|(name, value)| labels.get(name) == Some(value))
    }
}
