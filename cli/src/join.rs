//! `--join net=/proc/4711/ns/net`: a kind, as `/proc/PID/ns` calls it, and where such a namespace is.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use orangery::runtime::spec::namespaces;

use crate::errors::Failure;

/// What was typed.
#[derive(Clone, Debug)]
pub(crate) struct Join {
    kind: String,
    path: PathBuf,
}

/// # Errors
/// Not of that form.
pub(crate) fn parse(text: &str) -> Result<Join, String> {
    match text.split_once('=') {
        Some((kind, path)) if !kind.is_empty() && !path.is_empty() => {
            Ok(Join { kind: kind.to_owned(), path: path.into() })
        }
        _ => Err(format!("{text:?} names no namespace: write KIND=PATH, such as net=/proc/4711/ns/net")),
    }
}

impl Join {
    /// # Errors
    /// No such kind, or `path` leads to no namespace of it.
    pub(crate) fn open(&self) -> Result<Arc<OwnedFd>, Failure> {
        let opened = namespaces::open(&self.kind, &self.path).map_err(|error| error.with_field("join"));
        opened.map(Arc::new).map_err(|error| Failure::from(orangery::Error::from(error)))
    }
}
