//! A host that is built with `panic = "abort"`, and an actor of which panics: started by `tests/real/abort.rs`, with the
//! state directory and, where there is one, the cgroup parent as arguments. Says `ready` with two containers running.

use std::sync::Arc;

use orangery::faults::{Fault, FaultPoint, FaultPolicy, Site};
use orangery::{Error, Supervisor, SupervisorBuilder};

/// The handler of ordered signals panics.
struct OnSignal;

impl FaultPolicy for OnSignal {
    fn decide(&self, at: &FaultPoint<'_>) -> Fault {
        if at.site == Site::ProcessMessage("signal") { Fault::Panic } else { Fault::Continue }
    }
}

fn builder() -> SupervisorBuilder {
    let mut args = std::env::args().skip(1);
    let builder = Supervisor::builder().state_dir(args.next().unwrap_or_default());
    match args.next() {
        Some(parent) => builder.cgroup_parent(parent),
        None => builder,
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    builder().build()?.shutdown().await;
    let supervisor = builder().fault_policy(Arc::new(OnSignal)).build()?;
    let first = supervisor.command("sleep").arg("1000").spawn().await?;
    let _second = supervisor.command("sleep").arg("1000").spawn().await?;
    println!("ready");
    // Whoever started us has looked around when this line comes.
    let _ = std::io::stdin().read_line(&mut String::new());
    first.process().signal_in_order(15).await
}
