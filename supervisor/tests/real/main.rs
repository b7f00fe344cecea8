//! The library on the real runtime, as a service meets it. Trials of the kit (`tests/kit`): each in a process of its own,
//! with a cgroup parent, a state directory and a stock of its own before and after; what the machine lacks is counted as
//! skipped, with the reason.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "test code: a panic is a failed trial")]

mod abort;
mod actors;
mod begun;
mod driven;
mod durable;
mod events;
mod exec;
mod faults;
mod files;
mod flood;
mod follow;
mod groups;
mod guest;
mod handles;
mod hosts;
mod injected;
mod joined;
mod leaf;
mod leaks;
mod life;
mod listener;
mod memory;
mod mounts;
mod older;
mod oneshot;
mod owners;
mod panics;
mod points;
mod pools;
mod presets;
mod provided;
mod readiness;
mod regrouped;
mod services;
mod spans;
mod stage;
mod stopped;
mod stops;
mod storms;
mod tty;
mod unmet;
mod verdicts;

use std::process::ExitCode;

fn main() -> ExitCode {
    let trials = [
        life::trials(),
        hosts::trials(),
        guest::trials(),
        leaks::trials(),
        panics::trials(),
        storms::trials(),
        memory::trials(),
        abort::trials(),
        actors::trials(),
        begun::trials(),
        driven::trials(),
        durable::trials(),
        regrouped::trials(),
        points::trials(),
        older::trials(),
        events::trials(),
        exec::trials(),
        faults::trials(),
        injected::trials(),
        files::trials(),
        owners::trials(),
        handles::trials(),
        unmet::trials(),
        spans::trials(),
        flood::trials(),
        follow::trials(),
        stopped::trials(),
        stops::trials(),
        verdicts::trials(),
        presets::trials(),
        provided::trials(),
        listener::trials(),
        leaf::trials(),
        mounts::trials(),
        services::trials(),
        readiness::trials(),
        groups::trials(),
        pools::trials(),
        oneshot::trials(),
        joined::trials(),
        tty::trials(),
    ];
    orangery_tests::main(&trials.concat())
}
