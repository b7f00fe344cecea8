//! Many small things that block, done on a few threads side by side.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Threads at a time, at most.
const THREADS: usize = 4;
/// No thread is started for fewer.
const FEW: usize = 32;

/// What `read` makes of each, on as many threads as there are processors and can be had; in their order.
pub(super) fn side_by_side<T: Send, U: Send>(all: Vec<T>, read: impl Fn(&T) -> U + Sync) -> Vec<(T, U)> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
    let share = all.len().div_ceil(threads).max(FEW);
    let (mut rest, mut shares) = (all, Vec::new());
    while !rest.is_empty() {
        let later = rest.split_off(share.min(rest.len()));
        shares.push(std::mem::replace(&mut rest, later));
    }
    let more = shares.len().saturating_sub(1);
    let (todo, done) = (Mutex::new(shares.into_iter().enumerate()), Mutex::new(BTreeMap::new()));
    let work = || {
        let next = || todo.lock().unwrap_or_else(PoisonError::into_inner).next();
        while let Some((index, share)) = next() {
            let made = share.into_iter().map(|one| {
                let made = read(&one);
                (one, made)
            });
            let made: Vec<_> = made.collect();
            done.lock().unwrap_or_else(PoisonError::into_inner).insert(index, made);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..more {
            // Without one more it takes longer.
            let _ = std::thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_read_once_and_their_order_stays() {
        for count in [0, 1, FEW, FEW + 1, 1000] {
            let read = side_by_side((0..count).collect(), |number| number * 2);
            assert_eq!(read, (0..count).map(|number| (number, number * 2)).collect::<Vec<_>>());
        }
    }
}
