//! Who is there: names and what they stand for. Pure.

use std::collections::BTreeMap;

/// Names of containers, in order.
#[derive(Debug)]
pub(crate) struct Registry<T> {
    entries: BTreeMap<String, T>,
}

impl<T> Default for Registry<T> {
    fn default() -> Self {
        Self { entries: BTreeMap::new() }
    }
}

impl<T> Registry<T> {
    /// Take a name. `false`: it is taken, and stays as it is.
    pub(crate) fn insert(&mut self, id: &str, entry: T) -> bool {
        if self.entries.contains_key(id) {
            return false;
        }
        self.entries.insert(id.to_owned(), entry);
        true
    }

    /// Give a name back, if it still stands for what `same` says.
    pub(crate) fn remove(&mut self, id: &str, same: impl FnOnce(&T) -> bool) {
        if self.entries.get(id).is_some_and(same) {
            self.entries.remove(id);
        }
    }

    /// Give back all names whose owners are `gone`.
    pub(crate) fn forget(&mut self, gone: impl Fn(&T) -> bool) {
        self.entries.retain(|_, entry| !gone(entry));
    }

    pub(crate) fn get(&self, id: &str) -> Option<&T> {
        self.entries.get(id)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.entries.values()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_given_once_and_only_its_owner_gives_it_back() {
        let mut registry = Registry::default();
        assert!(registry.insert("a", 1));
        assert!(!registry.insert("a", 2));
        registry.remove("a", |entry| *entry == 2);
        assert_eq!(registry.get("a"), Some(&1));
        registry.remove("a", |entry| *entry == 1);
        assert!(registry.is_empty() && registry.insert("b", 3) && registry.insert("c", 4));
        registry.forget(|entry| *entry == 3);
        assert_eq!((registry.get("b"), registry.get("c")), (None, Some(&4)));
    }
}
