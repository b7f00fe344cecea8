//! Records as somebody else may have written them: for fuzzers.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::record::{ContainerRecord, Ended};
use super::{GroupRecord, ServiceRecord, file};

/// Read `bytes` as each kind of record of a durable supervisor's state directory (a container, an end, a service, a group): once as the
/// whole file, and once as what stands in it, with a head that fits. Gives as how many they were understood.
///
/// # Errors
/// What was understood is not understood in the same way when it is written once more.
pub fn known_records(bytes: &[u8]) -> Result<usize, String> {
    let mut known = 0;
    for bytes in [bytes.to_vec(), file::with_head(bytes)] {
        known += once::<ContainerRecord>(&bytes)? + once::<Ended>(&bytes)?;
        known += once::<ServiceRecord>(&bytes)? + once::<GroupRecord>(&bytes)?;
    }
    Ok(known)
}

fn once<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<usize, String> {
    let Ok(record) = file::decode::<T>(bytes) else { return Ok(0) };
    let written = file::encode(&record).map_err(|error| format!("it cannot be written any more: {error}"))?;
    let again: T = file::decode(&written).map_err(|why| format!("it is not understood any more: {why}"))?;
    match file::encode(&again) {
        Ok(same) if same == written => Ok(1),
        _ => Err("it is read as something else".into()),
    }
}
