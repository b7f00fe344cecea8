//! A checked spec becomes an isolated Linux process.
pub mod cgroup;
