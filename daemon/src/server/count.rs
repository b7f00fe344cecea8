//! How many there are of something, and the moment in which there is none: a daemon that is replaced waits for that.

use tokio::sync::watch;

/// How many there are.
#[derive(Clone, Debug)]
pub(super) struct Count(watch::Sender<usize>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Counted(watch::Sender<usize>);

impl Count {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(0))
    }

    pub(super) fn one(&self) -> Counted {
        self.0.send_modify(|count| *count += 1);
        Counted(self.0.clone())
    }

    /// Until there is none.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub(super) async fn none(&self) {
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn none_is_when_the_last_has_gone() {
        let count = Count::new();
        assert!(count.none().now_or_never().is_some());
        let (one, other) = (count.one(), count.one());
        drop(one);
        assert!(count.none().now_or_never().is_none());
        drop(other);
        assert!(count.none().now_or_never().is_some());
    }
}
