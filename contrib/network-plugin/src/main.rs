//! The program; see `lib.rs`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match orangery_network_plugin::Options::parse(&words).and_then(|options| orangery_network_plugin::serve(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("orangery-network-plugin: {why}");
            ExitCode::FAILURE
        }
    }
}
