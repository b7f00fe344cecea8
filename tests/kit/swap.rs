//! Exchanges a directory for a link, again and again, while something is made of the tree that it lies in.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A thread that keeps exchanging `name` in `image` for a link to `outside` until it is dropped.
pub struct Swapper {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<u64>>,
}

impl Swapper {
    /// Begin: `name` is an empty directory, the other one a link.
    #[must_use]
    pub fn start(image: PathBuf, name: &'static str, outside: PathBuf) -> Self {
        let link = image.join("the-link");
        for old in [&link, &image.join(name)] {
            let _ = fs::remove_file(old);
            let _ = fs::remove_dir_all(old);
        }
        symlink(&outside, &link).expect("a link");
        fs::create_dir(image.join(name)).expect("a directory");
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut swaps = 0;
            while !told.load(Ordering::Relaxed) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(rustix::fs::CWD, &link, rustix::fs::CWD, image.join(name), flags)
                    .expect("exchanged");
                swaps += 1;
            }
            swaps
        });
        Self { stop, thread: Some(thread) }
    }

    /// End it; how often they were exchanged.
    pub fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("once").join().expect("no panic")
    }
}
