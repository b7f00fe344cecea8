//! Properties: notes of the embedder on a container that can change while it lives.

use std::collections::BTreeMap;

use super::ContainerHandle;
use crate::error::Error;

impl ContainerHandle {
    /// Set a property, and get what it was. Properties are the embedder's own; they mean nothing to us and are not seen
    /// inside. What never changes is a label of the sandbox.
    ///
    /// ```
    /// # fn f(container: orangery::ContainerHandle) -> Result<(), orangery::Error> {
    /// container.set_property("owner", "alice")?;
    /// assert_eq!(container.property("owner").as_deref(), Some("alice"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a name that is empty or longer than 128 bytes or a value
    /// longer than 4,096, [`ErrorKind::Exhausted`](crate::ErrorKind::Exhausted) for a 65th property. Nothing changes then.
    pub fn set_property(&self, name: &str, value: impl Into<String>) -> Result<Option<String>, Error> {
        self.inner.slot.set_property(name, value.into()).inspect(|_| self.write_down())
    }

    /// Take a property away, and get what it was.
    pub fn remove_property(&self, name: &str) -> Option<String> {
        self.inner.slot.remove_property(name).inspect(|_| self.write_down())
    }

    /// A moment later, where it outlives its supervisor.
    fn write_down(&self) {
        if self.slot().lasting.is_some() {
            let slot = std::sync::Arc::clone(self.slot());
            self.system().spawn(async move { slot.write_down().await });
        }
    }

    /// The value of a property.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<String> {
        self.inner.slot.properties().get(name).cloned()
    }

    /// All properties as they are now.
    #[must_use]
    pub fn properties(&self) -> BTreeMap<String, String> {
        self.inner.slot.properties().all().clone()
    }
}
