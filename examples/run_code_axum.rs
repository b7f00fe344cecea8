//! POST a shell script to `/`, get its output as it comes, and the report as the last line.
//!
//! `cargo run --release --example run_code_axum`, then `curl --data-binary 'echo hello' 'localhost:3000/?seconds=5'`.
//! When the client hangs up, the body is dropped, with it the handle, and so the container is killed and removed.

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::{Router, routing::post};
use futures_util::{StreamExt, stream};
use orangery::{ContainerHandle, Error, ErrorKind, Sandbox, Supervisor};
use std::time::Duration;

#[derive(serde::Deserialize)]
struct Limits {
    seconds: Option<u64>,
}

async fn run(
    State(supervisor): State<Supervisor>,
    Query(limits): Query<Limits>,
    source: Bytes,
) -> Result<Body, (StatusCode, String)> {
    let wall = Duration::from_secs(limits.seconds.unwrap_or(10));
    let sandbox = Sandbox::builder().file("/in/main.sh", source).wall(wall).build().map_err(refused)?;
    let container = supervisor.command("sh").arg("/in/main.sh").sandbox(&sandbox).spawn().await.map_err(refused)?;
    let output = container.output().bytes().lossy().map(|chunk| chunk.map_err(std::io::Error::from));
    Ok(Body::from_stream(output.chain(stream::once(report(container)))))
}

fn refused(error: Error) -> (StatusCode, String) {
    let status = match error.kind() {
        ErrorKind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorKind::Exhausted => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, format!("{error}\n"))
}

async fn report(container: ContainerHandle) -> std::io::Result<Bytes> {
    let report = container.wait().await.map_err(std::io::Error::other)?;
    Ok(format!("{}\n", serde_json::to_string(&*report)?).into())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let supervisor = Supervisor::new()?;
    let app = Router::new().route("/", post(run)).with_state(supervisor.clone());
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".into());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    axum::serve(listener, app).with_graceful_shutdown(stop).await?;
    supervisor.shutdown().await;
    Ok(())
}
