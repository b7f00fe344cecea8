//! Three services as a group: they start in order, each when the one before is ready, one crashes and is restarted, all
//! stop in reverse order; told by events.
//!
//! `cargo run --release --example supervised_group`. The same from a file: `examples/up.toml`.

use std::time::Duration;

use orangery::events::{Events, Item, Kind, Since};
use orangery::{Command, Group, Probe, Restart, ServiceState, Strategy, Supervisor};

/// It is of use when it says so.
const DB: &str = "sleep 0.2; echo accepts queries; trap 'exit 0' TERM; while :; do sleep 0.05; done";
/// Runs until it is told to end.
const WAITS: &str = "trap 'exit 0' TERM; while :; do sleep 0.05; done";

fn sh(supervisor: &Supervisor, script: &str) -> Command {
    supervisor.command("sh").arg("-c").arg(script)
}

/// Print each change of a service, up to `wanted` of the service that is called so.
async fn until(events: &mut Events, id: &str, wanted: ServiceState, generation: u32) {
    while let Some(item) = events.recv().await {
        let Item::Event(event) = item else { continue };
        let Kind::ServiceChanged { state, .. } = &event.kind else { continue };
        let who = event.container.as_deref().unwrap_or_default();
        println!("{who:9} #{} {state:?}", event.generation);
        if (who, *state, event.generation) == (id, wanted, generation) {
            return;
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let supervisor = Supervisor::new()?;
    let mut events = supervisor.events(Since::Now);
    let restart = || Restart::on_failure().back_off(Duration::from_millis(50), 2, Duration::from_secs(1));

    // Each comes after the one before it: with `db` all would be restarted, with `api` it and `web`.
    let shop = Group::builder("shop")
        .strategy(Strategy::RestForOne)
        .service("db", sh(&supervisor, DB).ready_when(Probe::line("accepts queries")).restart(restart()))
        .service("api", sh(&supervisor, WAITS).restart(restart()))
        .service("web", sh(&supervisor, WAITS).restart(restart()))
        .start(&supervisor)
        .await?;
    until(&mut events, "shop.web", ServiceState::Running, 1).await;

    println!("-- api crashes");
    let api = shop.service("api").and_then(|api| api.current());
    api.ok_or_else(|| anyhow::anyhow!("it runs"))?.signal(11)?;
    until(&mut events, "shop.web", ServiceState::Running, 2).await;

    println!("-- stop");
    shop.stop(15, Duration::from_secs(10)).await?;
    until(&mut events, "shop.db", ServiceState::Stopped, 1).await;

    let restarts: Vec<String> = ["db", "api", "web"]
        .into_iter()
        .filter_map(|name| Some(format!("{name} {}", shop.service(name)?.inspect().restarts)))
        .collect();
    println!("restarts: {}", restarts.join(", "));
    supervisor.shutdown().await;
    Ok(())
}
