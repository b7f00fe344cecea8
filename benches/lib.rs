//! What the benchmarks share: figures, the place that containers are made in, the bare stub, and the peers.
//!
//! Not a benchmark framework: absolute figures depend on the machine and on its other load, so every program here
//! interleaves what it compares in one run and prints ratios.
#![forbid(unsafe_code)]

pub mod bare;
pub mod case;
pub mod exit_loop;
pub mod figures;
pub mod flow;
pub mod memory;
pub mod peers;
pub mod plot;
pub mod progress;
