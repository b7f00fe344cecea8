//! The manager: one actor that routes. It keeps the registry of names and gives each container to a shard; it holds no
//! future of a child and no byte of it.

pub(crate) mod actor;
pub(crate) mod msg;
pub(crate) mod registry;
pub(crate) mod restore;
mod services;
