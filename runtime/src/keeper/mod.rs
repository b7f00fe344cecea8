//! Our side of the keeper: start it, speak to it, exits from it, its death. The program itself is in
//! `runtime/keeper/`.

mod client;
mod frame;
mod launch;
pub mod maps;

pub use client::{Client, Driver, Spawned, Unclaimed};
pub use launch::{Launched, launch};
