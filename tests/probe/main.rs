//! The probe: runs inside a container and says what it sees, as one line of JSON, or misbehaves as it is told.
//!
//! Static and without dependencies, so that it runs in an empty image; never part of the product. Each sub-command is
//! one thing that a test wants to know; `attack` tries what a container must not be able to do and reports each errno.
//! It decides nothing: what is right or wrong stands in the tests.

mod act;
mod attack;
mod json;
#[path = "../kit/noise.rs"]
#[allow(dead_code, reason = "the check is the tests'")]
mod noise;
mod raw;
mod see;

fn main() {
    let args: Vec<std::ffi::OsString> = std::env::args_os().collect();
    let name = args.get(1).and_then(|name| name.to_str()).unwrap_or("see").to_owned();
    let rest: Vec<String> = args.iter().skip(2).map(|arg| arg.to_string_lossy().into_owned()).collect();
    match name.as_str() {
        "see" => see::see(&rest),
        "look" => see::look(&rest),
        "attack" => attack::attack(),
        "spy" => attack::spy(),
        "peek" => attack::peek(&rest),
        "write-cgroup" => attack::write_below("/sys/fs/cgroup"),
        _ => act::act(&name, &rest),
    }
}
