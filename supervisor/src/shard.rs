//! The actix system and its arbiters on threads of our own.
//!
//! One thread carries the system: the manager and the runtime's driver. Each shard is an arbiter, started when the
//! first container falls to it. `System::stop` joins nothing, so arbiters are stopped and joined here.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::{Arc, Mutex, PoisonError};

use actix_rt::{Arbiter, System};
use tokio::sync::watch;

use crate::clock::Clock;

/// The shards of one supervisor.
#[derive(Clone)]
pub(crate) struct Shards {
    clock: Clock,
    /// What all threads are called.
    name: Arc<str>,
    /// The last one is no shard: it writes logs.
    arbiters: Arc<Mutex<Vec<Option<Arbiter>>>>,
}

impl Shards {
    /// `name`: of all its threads; the kernel shows 15 bytes of it.
    pub(crate) fn new(count: usize, clock: Clock, name: &str) -> Self {
        let arbiters = (0..=count.max(1)).map(|_| None).collect();
        Self { clock, name: name.into(), arbiters: Arc::new(Mutex::new(arbiters)) }
    }

    /// Run `start` on the shard of container `id`. Must be called within the system. `false`: the shard is gone.
    pub(crate) fn run(&self, id: &str, start: impl FnOnce() + Send + 'static) -> bool {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(id);
        self.run_on(|shards| usize::try_from(hash % shards as u64).unwrap_or(0), start)
    }

    /// Run `start` on the thread that writes logs, as [`Shards::run`] does: it may wait for a disk.
    pub(crate) fn run_logs(&self, start: impl FnOnce() + Send + 'static) -> bool {
        self.run_on(|shards| shards, start)
    }

    fn run_on(&self, index: impl FnOnce(usize) -> usize, start: impl FnOnce() + Send + 'static) -> bool {
        let mut arbiters = self.arbiters.lock().unwrap_or_else(PoisonError::into_inner);
        // None: they were joined.
        let Some(shards) = arbiters.len().checked_sub(1) else { return false };
        let Some(place) = arbiters.get_mut(index(shards)) else { return false };
        if place.is_none() {
            let (clock, name) = (self.clock.clone(), Arc::clone(&self.name));
            let runtime = move || {
                call_thread(&name);
                clock.runtime(&name)
            };
            match Arbiter::try_with_tokio_rt(runtime) {
                Ok(arbiter) => *place = Some(arbiter),
                Err(error) => {
                    tracing::error!(%error, "a shard cannot be started");
                    return false;
                }
            }
        }
        place.as_ref().is_some_and(|arbiter| arbiter.spawn_fn(start))
    }

    /// Stop and join all, for good; blocks until their threads have ended.
    pub(crate) fn join(&self) {
        let arbiters: Vec<Arbiter> =
            self.arbiters.lock().unwrap_or_else(PoisonError::into_inner).drain(..).flatten().collect();
        for arbiter in &arbiters {
            arbiter.stop();
        }
        for arbiter in arbiters {
            let _ = arbiter.join();
        }
    }
}

/// Call this thread so; for the eyes.
fn call_thread(name: &str) {
    if let Ok(name) = std::ffi::CString::new(name) {
        let _ = rustix::thread::set_name(&name);
    }
}

/// Run `main` as the system of a new thread. When it and all shards have ended `last` is called, and the receiver then says
/// `true`.
///
/// # Errors
/// No thread can be started.
pub(crate) fn run_system<F>(
    shards: Shards,
    main: impl FnOnce() -> F + Send + 'static,
    last: impl FnOnce() + Send + 'static,
) -> std::io::Result<watch::Receiver<bool>>
where
    F: Future<Output = ()>,
{
    let (ended, receiver) = watch::channel(false);
    std::thread::Builder::new().name(shards.name.to_string()).spawn(move || {
        let clock = shards.clock.clone();
        match clock.runtime(&shards.name) {
            Ok(runtime) => System::with_tokio_rt(|| runtime).block_on(async move {
                main().await;
                clock.release();
            }),
            // `main` is dropped: whoever waits for its first word sees it.
            Err(error) => tracing::error!(%error, "the supervisor's thread has no runtime"),
        }
        shards.join();
        last();
        ended.send_replace(true);
    })?;
    Ok(receiver)
}
