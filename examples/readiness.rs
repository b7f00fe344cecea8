//! Readiness and health: a cache is used when it is ready, who needs it is started after it, and what has fallen sick is
//! started again.
//!
//! `cargo run --release --example readiness`

use std::time::Duration;

use orangery::{Cause, Group, Health, Probe, Readiness, ServiceState, Supervisor};

/// Takes a moment to warm up, says so, and works as long as its file is there.
const CACHE: &str = "echo warming up; sleep 0.2; echo 1 > /tmp/data; echo listening; exec sleep 1000";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let supervisor = Supervisor::new()?;
    let health = Health::new(Probe::exec(["test", "-e", "/tmp/data"])).interval(Duration::from_millis(50)).failures(2);
    let cache = supervisor
        .command("sh")
        .args(["-c", CACHE])
        .ready_when(Readiness::new(Probe::line("listening")).timeout(Duration::from_secs(10)))
        .healthy_while(health);
    let web = supervisor.command("sleep").arg("1000").ready_when(Probe::delay(Duration::from_millis(50)));
    // `web` is started when `cache` is ready, and the group has started when both are.
    let group = Group::builder("shop").service("cache", cache).service("web", web).start(&supervisor).await?;
    println!("both are ready");

    let cache = group.service("cache").ok_or_else(|| anyhow::anyhow!("there is a cache"))?;
    let first = cache.current().ok_or_else(|| anyhow::anyhow!("it runs"))?;
    first.command("rm").arg("/tmp/data").run().await?;
    let again = cache.wait_for(|now| now.generation == 2 && now.state == ServiceState::Running).await?;
    println!("it was {:?}, and is ready again after {} restart", again.deaths[0].cause, again.restarts);
    anyhow::ensure!(again.deaths[0].cause == Some(Cause::Unhealthy), "{:?}", again.deaths);

    group.stop(15, Duration::from_secs(10)).await?;

    // Whatever is never ready is a start that fails, and says why.
    let never = Readiness::new(Probe::tcp(8080)).timeout(Duration::from_millis(300));
    let refused = supervisor.command("sleep").arg("1000").ready_when(never).supervise().await;
    println!("{}", refused.err().map_or_else(|| "ready?".to_owned(), |error| error.to_string()));
    supervisor.shutdown().await;
    Ok(())
}
